"""One contract for every sink, and the exact bytes of the text formats."""

from __future__ import annotations

import csv
import io
import itertools
import json

import pytest

from blurgate.errors import ConfigError
from blurgate.host import get_host
from blurgate.interfaces import Column
from blurgate.rowfiles import read_table

COLUMNS = (Column("name", str), Column("n", int), Column("x", float))
ROWS = [
    {"name": 'a,"b"\nc', "n": 1, "x": 0.12345678},
    {"name": "ä 😀", "n": None, "x": None},
    {"name": "=1+1", "n": -3, "x": 1e-9},
    {"name": "", "n": 10**12, "x": 123456789.0},
]
EXPECTED = [
    ('a,"b"\nc', 1, 0.123457),
    ("ä 😀", None, None),
    ("=1+1", -3, 1e-9),
    ("", 10**12, 123457000.0),
]


def read(path, name):
    if name == "csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        return [
            (r["name"], int(r["n"]) if r["n"] else None, float(r["x"]) if r["x"] else None)
            for r in rows
        ]
    if name == "jsonl":
        return [tuple(json.loads(line).values()) for line in path.read_bytes().splitlines()]
    pq = pytest.importorskip("pyarrow.parquet")
    return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(params=[entry.name for entry in get_host().registry("sink")])
def sink(request):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


def factory(name):
    return get_host().registry("sink")[name].factory


def test_resuming_forgets_what_came_after_the_mark(sink, tmp_path):
    path, whole = tmp_path / "t", tmp_path / "whole"
    with factory(sink)(whole, COLUMNS, None) as table:
        for row in ROWS:
            table.write(row)
    with pytest.raises(KeyboardInterrupt), factory(sink)(path, COLUMNS, None) as table:
        table.write(ROWS[0])
        table.sync()
        mark = table.mark()
        table.write(ROWS[3])
        raise KeyboardInterrupt
    with factory(sink)(path, COLUMNS, mark) as table:
        for row in ROWS[1:]:
            table.write(row)
    assert read(path, sink) == EXPECTED
    if sink != "parquet":
        assert path.read_bytes() == whole.read_bytes()


def test_a_table_that_is_too_short_is_not_resumed(sink, tmp_path):
    with (
        pytest.raises(ConfigError, match=r"not the table that was interrupted.*--overwrite"),
        factory(sink)(tmp_path / "t", COLUMNS, 10_000),
    ):
        pass


def test_killed_while_a_complete_parquet_table_is_opened(tmp_path, monkeypatch):
    """What had been turned back into rows by then must not pass for all of them."""
    pytest.importorskip("pyarrow")
    from blurgate.plugins.sinks.jsonl import JsonlSink

    path = tmp_path / "t.parquet"
    with factory("parquet")(path, COLUMNS, None) as table:
        for row in ROWS:
            table.write(row)
        mark = table.mark()
    write, left = JsonlSink.write, {}

    def noting(self, row):
        write(self, row)
        self.sync()
        left.update({p.name: p.read_bytes() for p in tmp_path.iterdir()})  # as a kill leaves it
        if len(left) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(JsonlSink, "write", noting)
        with pytest.raises(KeyboardInterrupt), factory("parquet")(path, COLUMNS, mark):
            pass
    for name, data in left.items():
        (tmp_path / name).write_bytes(data)
    with factory("parquet")(path, COLUMNS, mark):
        pass
    assert read(path, "parquet") == EXPECTED
    assert not path.with_name("t.parquet.jsonl.part").exists()


def test_csv_bytes(tmp_path):
    path = tmp_path / "t"
    with factory("csv")(path, COLUMNS, None) as table:
        table.write(ROWS[0])
        table.write(ROWS[1])
        table.write({"name": "\udcff.jpg", "n": 0, "x": 0.4})
    assert path.read_bytes() == (
        b'name,n,x\n"a,""b""\nc",1,0.123457\n\xc3\xa4 \xf0\x9f\x98\x80,,\n\xff.jpg,0,0.4\n'
    )


def test_jsonl_is_json_also_with_bytes_that_are_not_utf8(tmp_path):
    path = tmp_path / "t"
    with factory("jsonl")(path, COLUMNS, None) as table:
        table.write({"name": "\udcff.jpg", "n": 0, "x": 0.4})
    assert json.loads(path.read_text(encoding="utf-8"))["name"] == "\udcff.jpg"


def test_parquet_keeps_names_apart_that_are_no_utf8(tmp_path):
    """A complete table that is opened again has the rows, and the length, that it had."""
    pytest.importorskip("pyarrow")
    pieces = ("\\", "u", "dce9", "\udce9", "005c")
    names = ["".join(word) for n in range(5) for word in itertools.product(pieces, repeat=n)]
    path = tmp_path / "t.parquet"
    with factory("parquet")(path, COLUMNS, None) as table:
        for name in names:
            table.write({"name": name, "n": 0, "x": None})
        mark = table.mark()
    whole = path.read_bytes()
    kept = [name for name, *_ in read(path, "parquet")]
    assert len(set(kept)) == len(set(names))
    assert kept[names.index("u\udce9")] == r"u\udce9"
    assert [row["name"] for row in read_table(path, COLUMNS, "a test")] == names
    with factory("parquet")(path, COLUMNS, mark):
        pass
    assert path.read_bytes() == whole


def test_parquet_keeps_types_and_refuses_stdout(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "t"
    with factory("parquet")(path, COLUMNS, None) as table:
        table.write(ROWS[1])
    assert pq.read_schema(path).types == [pa.string(), pa.int64(), pa.float64()]
    with pytest.raises(ConfigError, match="cannot go to stdout"):
        factory("parquet")(None, COLUMNS, None)
