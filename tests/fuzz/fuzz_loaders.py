"""Fuzz targets: what reads files that a user may have edited. Run by scripts/fuzz.py.

See fuzz_readers.py for what a target is.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from blurgate import catalogue
from blurgate.cards import Card, facts_of, read_card
from blurgate.errors import ChecksumError, ConfigError, InputError, UnknownNameError, WeightsError
from blurgate.interfaces import ModelInfo
from blurgate.journal import Journal
from blurgate.merging import merge_tables
from blurgate.profile import Profile, read_profile
from blurgate.tables import SCORE_COLUMNS

_FOLDER = tempfile.TemporaryDirectory(prefix="blurgate-fuzz-")
_PLACE = Path(_FOLDER.name)
_NAMES = [column.name for column in SCORE_COLUMNS]


def card_seeds() -> list[bytes]:
    """Cards of every key."""
    whole = {
        "kind": "scorer", "runner": "onnx", "name": "a", "threshold": 0.5, "licence": "x",
        "source": "y", "about": {"a": [1]},
        "input": {"size": [112, 112], "color": "rgb", "mean": 127.5, "std": [1, 2, 3]},
        "output": {"type": "bins", "reduce": "mean", "tensor": "", "range": [0, 1],
                   "centres": [0, 0.5, 1]},
    }  # fmt: skip
    return [json.dumps(whole).encode(), b'{"threshold": 1e999}', b"[]", b"{}"]


def card(data: bytes) -> None:
    """The card beside a model: facts that make a card, or WeightsError."""
    beside = _PLACE / "model.json"
    beside.write_bytes(data)
    try:
        facts = facts_of(_PLACE / "model.onnx", b"")
    except WeightsError as error:
        assert "model.json" in str(error)  # noqa: PT017 - no test of pytest's
    else:
        assert isinstance(read_card(facts, "x"), Card)


def profile_seeds() -> list[bytes]:
    """A profile of every key."""
    one = Profile(
        ModelInfo("laplacian", ""), 0.4, (0.3, 0.5), {"kind": "rate"}, embedder=ModelInfo("e", "ab")
    )
    return [json.dumps(one.facts()).encode(), b'{"schema": 1}', b"[1]"]


def profile(data: bytes) -> None:
    """A profile: one whose numbers lie in their ranges, or InputError or ConfigError."""
    path = _PLACE / "profile.json"
    path.write_bytes(data)
    try:
        one = read_profile(path)
    except (InputError, ConfigError) as error:
        assert "profile.json" in str(error)  # noqa: PT017
    else:
        assert 0 <= one.threshold <= 1
        json.dumps(one.facts())


def manifest_seeds() -> list[bytes]:
    """A record of checksums."""
    return [b'{"a.onnx": {"sha256": "00", "bytes": 1, "source": ""}}', b"{}", b'{"a": 1}']


def manifest(data: bytes) -> None:
    """The recorded checksums: texts, or ChecksumError."""
    os.environ[catalogue.HOME_VARIABLE] = str(_PLACE)
    path = catalogue.models_folder() / catalogue.LOCK_NAME
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    try:
        lock = catalogue.read_lock()
    except ChecksumError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert all(isinstance(entry["sha256"], str) for entry in lock.values())


def config_seeds() -> list[bytes]:
    """Configurations."""
    return [
        b"epochs: 3\nlr: 1e-4\nmethods: [linear, gaussian]\n",
        b"base: small\nema: 0.99\n",
        b"&a [*a]",
        b"a: !!python/object/apply:os.system [x]",
    ]


def config(data: bytes) -> None:
    """A training configuration: one that survives being written and read, or ConfigError."""
    from blurgate.training.config import TrainConfig, make_config
    from blurgate.training.settings import parse_yaml, read_config

    path = _PLACE / "config.yaml"
    path.write_bytes(data)
    try:
        facts = make_config(read_config(str(path), TrainConfig))
    except (ConfigError, UnknownNameError):
        return
    assert make_config(parse_yaml(facts.to_yaml(), "x")) == facts


def journal_seeds() -> list[bytes]:
    """Journals."""
    head = json.dumps({"settings": {"a": 1}})
    line = json.dumps({"mark": 7, "done": [{"source": "x"}]})
    return [f"{head}\n{line}\n{line}\n".encode(), head.encode(), b'{"settings": 5}\n']


def journal(data: bytes) -> None:
    """A journal: entries, or ConfigError."""
    path = _PLACE / "journal.jsonl"
    path.write_bytes(data)
    try:
        found = Journal(path, {"a": 1}, resume=True, whole=lambda entry: "source" in entry)
    except ConfigError as error:
        assert str(path) in str(error) or str(_PLACE) in str(error)  # noqa: PT017
        return
    assert sum(isinstance(entry, dict) for entry in found.entries()) == found.n_done


def table_seeds() -> list[bytes]:
    """Score tables."""
    head = ",".join(_NAMES)
    row = dict.fromkeys(_NAMES) | {"file": "a.png", "status": "ok"}
    return [
        f"c{head}\na.png,0,1,2,3,4,0.5,9,0.25,ok\n".encode(),
        f"j{json.dumps(row)}\n".encode(),
        b"j[1]\n",
    ]


def table(data: bytes) -> None:
    """`merge` of one table, CSV or JSON lines by the first byte: done, or an error of ours."""
    suffix = ".csv" if data[:1] == b"c" else ".jsonl"
    part, out = _PLACE / f"part{suffix}", _PLACE / f"out{suffix}"
    part.write_bytes(data[1:])
    try:
        merge_tables([part], out)
    except (InputError, ConfigError) as error:
        assert part.name in str(error)  # noqa: PT017


TARGETS = {
    "card": (card, card_seeds),
    "profile": (profile, profile_seeds),
    "manifest": (manifest, manifest_seeds),
    "config": (config, config_seeds),
    "journal": (journal, journal_seeds),
    "table": (table, table_seeds),
}
