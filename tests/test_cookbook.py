"""Every page of the cookbook holds a complete plugin that keeps its contract."""

from __future__ import annotations

import re
import sys
import unittest
from pathlib import Path

import pytest

from blurgate import testing
from blurgate.host import get_host

ROOT = Path(__file__).parent.parent
PAGES = {page.stem: page for page in sorted((ROOT / "docs" / "cookbook").glob("*.md"))}
NAMES = {
    "backbone": "plain-cnn",
    "detector": "whole-picture",
    "embedder": "thumbnail",
    "loss": "log-cosh",
    "scorer": "gradient",
    "sink": "tsv",
    "synthesizer": "box",
}


def code_of(kind):
    """The name of the file on a page, and what stands in it."""
    text = PAGES[kind].read_text(encoding="utf-8")
    ((name, code),) = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", text, re.DOTALL)
    return name, code


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """The plugins of all pages, importable and registered; gives kind -> module name."""
    folder = tmp_path_factory.mktemp("cookbook")
    sys.path.insert(0, str(folder))
    host, found = get_host(), {}
    try:
        for kind in PAGES:
            found[kind], code = code_of(kind)
            (folder / f"{found[kind]}.py").write_text(code, encoding="utf-8")
            host.add(__import__(found[kind]), found[kind])
        yield found
    finally:
        sys.path.remove(str(folder))
        for name in found.values():
            host.remove(name)
            sys.modules.pop(name, None)


def test_there_is_a_page_for_every_kind():
    assert sorted(PAGES) == sorted(set(testing.KINDS) - {"plugin"})
    for kind, name in NAMES.items():
        assert f'checks("{kind}", "{name}"' in PAGES[kind].read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", PAGES)
def test_the_plugin_keeps_its_contract(kind, registered):
    if kind in ("backbone", "loss"):
        pytest.importorskip("torch", reason='it needs: pip install "blurgate[train]"')
    facts = {"read": _read_tsv} if kind == "sink" else {}
    done = 0
    for check in testing.checks(kind, NAMES.get(kind, registered[kind]), **facts):
        if check.name == "exports-to-onnx":
            continue  # slow; the example distribution's test trains and exports this backbone
        try:
            check()
        except unittest.SkipTest:
            continue
        done += 1
    assert done >= 3


def _read_tsv(path):
    kinds = {"name": str, "n": int, "x": float}
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    for line in lines:
        pairs = zip(head.split("\t"), line.split("\t"), strict=True)
        row = {key: kinds[key](value) if value else None for key, value in pairs}
        # The format cannot hold a line end within a value.
        row["name"] = 'a,"b"\nc' if row["name"] == 'a,"b" c' else row["name"]
        yield row


@pytest.mark.parametrize("kind", PAGES)
def test_the_module_keeps_the_contract_of_plugins(kind, registered):
    *most, installed = testing.checks("plugin", registered[kind])
    for check in most:
        check()
    with pytest.raises(testing.ContractError, match="no installed distribution"):
        installed()


@pytest.mark.parametrize(
    ("table", "code", "said"),
    [
        (b"source,decision\na,keep\ncaf\xe9,keep\nb,reject\n", 0, "keep 2\nreview 0\nreject 1\n"),
        (b"", 3, "is not a table of blurgate filter: it has no column `decision`"),
        (b"a,b\n1,2\n", 3, "is not a table of blurgate filter: it has no column `decision`"),
        (b"PAR1" + bytes(range(256)) * 20, 3, "is not a table of blurgate filter: "),
        (b"decision\n" + b"a" * 200_000, 3, "is not a table of blurgate filter: field larger"),
    ],
)
def test_the_command_counts_a_table_and_nothing_else(registered, run, tmp_path, table, code, said):
    path = tmp_path / "faces.data"
    path.write_bytes(table)
    ran = run(registered["command"].removesuffix("_command"), path)
    assert (ran.code, said in (ran.err if code else ran.out)) == (code, True), ran
    assert len(ran.err.splitlines()) == (1 if code else 0)


def test_the_backbone_is_that_of_the_example_distribution():
    name, code = code_of("backbone")
    example = ROOT / "examples" / "plugin" / f"{name}.py"
    assert code == example.read_text(encoding="utf-8")
