"""Properties that hold for any input: geometry, tables, names, configurations, curves."""

from __future__ import annotations

import csv
import io
import json
import re
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from blurgate.annotating import output_name
from blurgate.cards import Card, read_card
from blurgate.cli.filter import default_folder
from blurgate.counting import Progress, count, is_whole
from blurgate.crops import crop_name
from blurgate.errors import ConfigError, UnknownNameError, WeightsError
from blurgate.evaluation.edc import edc
from blurgate.geometry import similarity
from blurgate.interfaces import Column
from blurgate.io.address import masked
from blurgate.io.orient import EXIF_TURNS, Turn, turned
from blurgate.io.sources import expand
from blurgate.journal import Journal
from blurgate.plugins.sinks.csv import CsvSink
from blurgate.plugins.sinks.jsonl import JsonlSink
from blurgate.profile import read_profile
from blurgate.sharding import Shard
from blurgate.stages import Rule, six_digits
from blurgate.types import Verdict

FEW = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Any text that a file's name can be, bytes that are no UTF-8 included, as Python spells them.
NAMES = st.text(
    st.one_of(
        st.characters(exclude_characters="\0/", exclude_categories=["Cs"]),
        st.integers(0xDC80, 0xDCFF).map(chr),
    ),
    min_size=1,
    max_size=30,
).map(lambda name: name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
HUGE = 10**400  # more than a float holds; JSON has no such limit
DEGREES = st.floats(0, 1)


def as_json(value):
    """What a file that holds a value is read as."""
    return json.loads(json.dumps(value))


# Geometry


@given(
    st.lists(st.tuples(st.integers(-500, 500), st.integers(-500, 500)), min_size=5, max_size=5,
             unique=True),
    st.floats(0.05, 20), st.floats(-np.pi, np.pi),
    st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
)  # fmt: skip
@FEW
def test_a_similarity_is_found_again(points, scale, angle, shift):
    src = np.array(points, float)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = similarity(src, src @ turn.T + shift)
    np.testing.assert_allclose(found[:, :2], turn, atol=1e-6 * scale)
    np.testing.assert_allclose(src @ found[:, :2].T + found[:, 2], src @ turn.T + shift, atol=1e-3)


@given(st.integers(1, 8), st.integers(1, 9), st.integers(1, 9))
@FEW
def test_turning_equals_pillow(orientation, height, width):
    rng = np.random.default_rng(height * 10 + width)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    wanted = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(turned(pixels, EXIF_TURNS.get(orientation, Turn())), wanted)


# Decisions and numbers


@given(st.floats(allow_nan=False, allow_infinity=False))
@FEW
def test_rounding_twice_is_rounding_once(value):
    once = six_digits(value)
    assert six_digits(once) == once
    assert float(f"{once:.6g}") == once


@given(DEGREES, DEGREES, DEGREES, st.floats(0, 1), st.floats(0, 500), st.floats(0, 500))
@FEW
def test_a_higher_threshold_never_rejects_more(degree, low, high, review, size, least):
    low, high = sorted((low, high))
    rank = {"keep": 0, "review": 1, "reject": 2}
    plain = [rank[Rule(t, min_face_px=least)(degree, size)[0]] for t in (low, high)]
    assert plain[1] <= plain[0]
    assert Rule(1.0)(degree, size) == ("keep", "")
    decision, reason = Rule(low, review, least)(degree, size)
    assert (decision == "keep") == (reason == "")
    assert (reason == "too_small") == (size < least)


# Tables


@given(st.lists(st.tuples(NAMES, st.integers(), st.none() | st.floats(-1e9, 1e9)), max_size=8))
@FEW
def test_a_table_reads_back_as_it_was_written(tmp_path, rows):
    columns = (Column("a", str), Column("b", int), Column("c", float))
    path = tmp_path / "t"
    for sink in (CsvSink, JsonlSink):
        with sink(path, columns) as table:
            for row in rows:
                table.write(dict(zip("abc", row, strict=True)))
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        if sink is CsvSink:
            read = list(csv.DictReader(io.StringIO(text, newline="")))
            got = [(r["a"], int(r["b"]), float(r["c"]) if r["c"] else None) for r in read]
        else:
            got = [tuple(json.loads(line).values()) for line in text.split("\n")[:-1]]
        assert got == [(a, b, None if c is None else float(f"{c:.6g}")) for a, b, c in rows]


@given(st.lists(NAMES, min_size=2, max_size=8), st.data())
@FEW
def test_a_table_that_is_continued_equals_one_that_was_not(tmp_path, names, data):
    columns, path, whole = (Column("a", str),), tmp_path / "t", tmp_path / "w"
    at = data.draw(st.integers(0, len(names) - 1))
    with CsvSink(whole, columns) as table:
        for name in names:
            table.write({"a": name})
    with CsvSink(path, columns) as table:
        for name in names[:at]:
            table.write({"a": name})
        mark = table.mark()
        table.write({"a": "a row that is lost"})
    with CsvSink(path, columns, mark) as table:
        for name in names[at:]:
            table.write({"a": name})
    assert path.read_bytes() == whole.read_bytes()


@given(NAMES, st.integers(1, 9))
@FEW
def test_every_file_is_in_one_shard(name, count):
    assert sum(name in Shard(index, count) for index in range(1, count + 1)) == 1


@given(st.binary(max_size=60), st.binary(max_size=40))
@FEW
@example(b'{"settings": 5}\n', b"")
@example(b'{"settings": {}}\n', b'{"mark": 1}\n')
@example(b'{"settings": {}}\n', b'{"mark": 1, "done": [5]}\n')
@example(b'{"settings": {}}\n', b'{"mark": 1, "done": [{"source": "a"}]}\n')
def test_any_journal_is_continued_or_refused(tmp_path, head, line):
    path = tmp_path / "j"
    path.write_bytes(head + line)
    try:
        journal = Journal(path, {}, resume=True, whole=partial(is_whole, placed=False))
    except ConfigError as error:
        assert str(tmp_path) in str(error)  # noqa: PT017 - it may be raised or not
    else:
        progress = Progress()
        for entry in journal.entries():
            count(progress, entry)
        assert progress.n_sources == journal.n_done


# Names and addresses


def verdict(source):
    return Verdict(source, 3, None, 0, None, (0, 0, 9, 9), 1.0, 9, 0.1, 0.4, "keep", "", "m")


PORTABLE = re.compile(r"(?!\.)[\w./-]+")
DEVICES = {"con", "prn", "aux", "nul", *(f"{name}{i}" for name in ("com", "lpt") for i in "123")}


@given(st.lists(NAMES, min_size=1, max_size=4).map("/".join))
@FEW
@example("../../etc/passwd")
@example("C:\\Windows\\..\\x.png")
@example("...")
@example("\u4e00" * 83 + ".mp4")
@example("rtsp://door/Con")
@example("lpt1.a.mp4")
def test_no_source_names_a_path_outside_the_folder(source):
    for name in (crop_name(verdict(source)), output_name("cut", source, ".mp4")):
        parts = PurePosixPath(name).parts
        assert len(parts) == 2
        assert PORTABLE.fullmatch(name)
        assert not {"..", "."} & {*parts}
        assert len(parts[1].encode("utf-8", "surrogateescape")) < 255
    folder = default_folder(source)
    assert PORTABLE.fullmatch(folder)
    for name in (folder, *parts):
        assert name.partition(".")[0].lower() not in DEVICES
    assert "/" not in folder
    assert len(folder.encode()) < 255


@given(NAMES.filter(lambda name: name.strip("\r\n") and "\n" not in name and "\r" not in name))
@FEW
@example("=1+1.png")
@example("-x.png")
@example("@SUM(A1).jpg")
@example("\tx.mp4")
def test_no_name_becomes_a_formula(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for source in expand(["-"], stdin=["no such file", name]):
        assert not source.name.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert source.name in {"no such file", name, f"./{name}"} or "://" in name


PASSWORD = st.text("abcXYZ019!$%^*()_+:@~.,;", min_size=0, max_size=9).map("s3cr3t{}".format)


@given(
    st.sampled_from(["rtsp", "http", "https", "rtmp", "srt"]), PASSWORD,
    st.sampled_from(["", "/live", "/a/b.mp4?fps=5"]),
)  # fmt: skip
@FEW
def test_a_password_is_never_shown(scheme, password, path):
    shown = masked(f"{scheme}://admin:{password}@camera:554{path}")
    assert "s3cr3t" not in shown
    assert shown == f"{scheme}://***@camera:554{path}"


# What users write


@given(
    st.dictionaries(st.sampled_from(["kind", "threshold", "input", "output", "about", "x"]), JSON)
)
@FEW
@example({"threshold": HUGE})
@example({"output": {"type": "degree", "range": [0, HUGE]}})
@example({"input": {"size": [HUGE, 1]}})
@example({"input": {"mean": -HUGE}})
def test_any_card_is_read_or_refused(facts):
    try:
        card = read_card(as_json(facts), "card.json")
    except WeightsError as error:
        assert str(error).startswith("card.json")  # noqa: PT017 - it may be raised or not
    else:
        assert isinstance(card, Card)


PROFILE = {
    "schema": 1, "model": {"name": "m"}, "threshold": 0.4, "ci": [0.3, 0.5], "target": {},
}  # fmt: skip


@given(st.dictionaries(st.sampled_from([*PROFILE, "min_face", "seed", "n", "review"]), JSON))
@FEW
@example({"min_face": HUGE})
@example({"schema": [1]})
@example({"model": {"name": ["m"]}})
def test_any_profile_is_read_or_refused(tmp_path, changes):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**PROFILE, **changes}))
    try:
        profile = read_profile(path)
    except ConfigError as error:
        assert "p.json" in str(error)  # noqa: PT017 - it may be raised or not
    else:
        assert 0 <= profile.threshold <= 1


@given(st.dictionaries(st.sampled_from(["epochs", "lr", "methods", "ema", "hidden", "x"]), JSON))
@FEW
@example({"epochs": HUGE})
@example({"lr": HUGE})
@example({"methods": [["linear"]]})
def test_any_configuration_survives_being_written_or_is_refused(facts):
    pytest.importorskip("yaml", reason='it needs: pip install "blurgate[train]"')
    from blurgate.training.config import make_config
    from blurgate.training.settings import parse_yaml

    try:
        config = make_config(as_json(facts))
    except (ConfigError, UnknownNameError):
        return
    assert make_config(parse_yaml(config.to_yaml(), "x")) == config


@given(st.text(max_size=60))
@FEW
@example("&a [*a]")
@example("!!python/object/apply:os.system [echo]")
@example("a: 1\na: 2")
def test_any_yaml_is_keys_and_values_or_refused(text):
    pytest.importorskip("yaml", reason='it needs: pip install "blurgate[train]"')
    from blurgate.training.settings import parse_yaml

    try:
        assert isinstance(parse_yaml(text, "x"), dict)
    except ConfigError as error:
        assert str(error).startswith("x ")  # noqa: PT017 - it may be raised or not


# Curves


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=30), st.randoms(),
)  # fmt: skip
@FEW
def test_a_curve_depends_on_the_order_of_degrees_only(pairs, random):
    errors, degrees = zip(*pairs, strict=True)
    curve = edc(errors, degrees)
    shuffled = random.sample(pairs, len(pairs))
    again = edc([e for e, _ in shuffled], [np.exp(d) / 7 for _, d in shuffled])
    np.testing.assert_array_equal(curve.discard, again.discard)
    np.testing.assert_array_equal(curve.error, again.error)
    assert curve.start == sum(errors) / len(errors)
    assert (np.diff(curve.discard) > 0).all()
    assert ((curve.error >= 0) & (curve.error <= 1)).all()
    for limit in (0.0, 0.2, 1.0):
        assert 0 <= curve.pauc(limit) <= limit + 1e-12
