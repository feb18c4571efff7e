"""The journal survives being cut at any byte."""

from __future__ import annotations

import json
import os

import pytest

from blurgate.errors import ConfigError
from blurgate.journal import Journal, end_of, entries_of, parsed_line, read_journal

SETTINGS = {"threshold": 0.4, "model": "laplacian"}


def named(entry):
    return isinstance(entry.get("source"), str)


def opened(path, settings=SETTINGS, *, resume=True):
    return Journal(path, settings, resume=resume, whole=named)


class Table:
    """The two things that a journal wants of a table."""

    length = 0
    n_syncs = 0

    def mark(self):
        return self.length

    def sync(self):
        self.n_syncs += 1


def filled(path, groups):
    journal = opened(path, resume=False)
    table = Table()
    journal.bind(table)
    for group in groups:
        table.length += 100
        for name in group:
            journal.done({"source": name})
        table.length += 7  # rows of a source that is under way
        journal.flush()
        table.length -= 7
    assert table.n_syncs == len(groups)
    return journal


def test_entries_come_back_in_order(tmp_path):
    path = tmp_path / "j"
    filled(path, [["a", "b"], ["c"]])
    journal = opened(path)
    assert [entry["source"] for entry in journal.entries()] == ["a", "b", "c"]
    assert (journal.mark, journal.n_done) == (200, 3)


def test_a_torn_end_costs_its_own_group_only(tmp_path):
    path = tmp_path / "j"
    filled(path, [["a", "b"], ["c", "d"]])
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    complete = [len(lines[0]), len(lines[0]) + len(lines[1]), len(whole)]
    for cut in range(complete[0], len(whole) + 1):
        path.write_bytes(whole[:cut])
        journal = opened(path)
        n_groups = sum(cut >= size for size in complete[1:])
        assert journal.n_done == 2 * n_groups
        assert journal.mark == ([None, 100, 200][n_groups])
        journal.bind(Table())
        journal.done({"source": "z"})
        journal.flush()
        again = opened(path)
        assert [e["source"] for e in again.entries()][-1] == "z"
        assert again.n_done == 2 * n_groups + 1


def test_a_signal_while_a_line_is_written_costs_nothing(tmp_path, monkeypatch):
    """It may come when the line is on its way to the disk; `finally` then writes once more."""
    path = tmp_path / "j"
    journal = filled(path, [["a"]])
    journal.done({"source": "b"})

    def interrupted(handle):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.flush()
    journal.done({"source": "c"})
    journal.flush()
    again = opened(path)
    assert [entry["source"] for entry in again.entries()] == ["a", "b", "c"]


def test_a_source_is_noted_with_the_mark_behind_its_own_rows(tmp_path):
    """A signal between the two would cut the rows of a source that is called complete."""
    path = tmp_path / "j"
    journal = filled(path, [["a"]])

    class Stopped(Table):
        def mark(self):
            raise KeyboardInterrupt

    journal.bind(Stopped())
    with pytest.raises(KeyboardInterrupt):
        journal.done({"source": "b"})
    journal.flush()
    again = opened(path)
    assert (again.n_done, again.mark) == (1, 100)


def test_files_of_half_a_source_are_named_until_another_is_complete(tmp_path):
    path = tmp_path / "j"
    filled(path, [["a"]]).leave(["kept/b-1.png"])
    journal = opened(path)
    assert (journal.n_done, journal.mark, journal.left) == (1, 100, ["kept/b-1.png"])
    journal.bind(Table())
    journal.done({"source": "b"})
    journal.flush()
    assert opened(path).left == []


def test_the_table_is_on_the_disk_before_the_end_is_noted_also_without_a_source(tmp_path):
    journal = opened(tmp_path / "j", resume=False)
    table = Table()
    table.length = 94  # its head
    journal.bind(table)
    journal.finish({})
    assert table.n_syncs == 1


def test_other_settings_are_refused_by_name(tmp_path):
    path = tmp_path / "j"
    filled(path, [["a"]])
    with pytest.raises(ConfigError, match=r"begun with threshold = 0\.4, now it is 0\.5"):
        opened(path, {**SETTINGS, "threshold": 0.5})


@pytest.mark.parametrize(
    "content",
    ["", "{}\n", "[1]\n", "garbage\n", '{"settings": ' + "[" * 200_000 + "\n",
     '{"settings": [["threshold", 0.4]]}\n'],
)  # fmt: skip
def test_what_is_not_a_journal_is_refused(tmp_path, content):
    path = tmp_path / "j"
    path.write_text(content)
    with pytest.raises(ConfigError, match="not a journal of blurgate"):
        opened(path)
    with pytest.raises(ConfigError, match="not a journal of blurgate; make its folder again"):
        read_journal(path)


@pytest.mark.parametrize(
    "line",
    ["[" * 200_000, "[]", "{}", '{"mark": 1, "done": 1}', '{"mark": true, "done": []}',
     '{"mark": -1, "done": []}', '{"mark": 1, "done": [3]}',
     '{"mark": 1, "done": [{"source": 3}]}', '{"mark": 1, "done": [{}]}'],
)  # fmt: skip
def test_a_damaged_line_ends_what_can_be_resumed(tmp_path, line):
    path = tmp_path / "j"
    filled(path, [["a"], ["b"], ["c"]])
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = line + "\n"
    path.write_text("".join(lines))
    found = entries_of(path, named)
    assert next(found)["source"] == "a"
    with pytest.raises(ConfigError, match=r"j is damaged in line 3; go on before it with: "):
        next(found)
    journal = opened(path)
    assert [entry["source"] for entry in journal.entries()] == ["a"]
    assert path.read_text() == "".join(lines[:2])


def test_settings_of_synth_are_nested_and_those_of_filter_are_not(tmp_path):
    path = tmp_path / "j"
    nested = {"embedder": {"name": "a", "sha256": "b"}}
    opened(path, nested, resume=False)
    assert opened(path, nested).n_done == 0
    with pytest.raises(ConfigError, match="not a journal of blurgate"):
        read_journal(path)


def test_a_line_counts_when_its_end_and_its_entries_are_whole():
    line = {"mark": 1, "done": [{"source": "b"}, {"source": "c", "rows": 8}]}
    assert parsed_line(json.dumps(line).encode() + b"\n", named) == line
    assert parsed_line(json.dumps(line).encode(), named) is None, "its end may be missing"
    assert parsed_line(json.dumps(line).encode() + b"\n", lambda entry: "rows" in entry) is None


def test_a_damaged_end_is_none():
    assert end_of(b'\n{"mark": 1, "done": [], "end": {"a": 1}}\n') == {"a": 1}
    assert end_of(b'\n{"mark": ' + b"[" * 200_000 + b"\n") is None


def test_without_resume_a_journal_begins_anew(tmp_path):
    path = tmp_path / "j"
    filled(path, [["a"]])
    assert opened(path, resume=False).n_done == 0
    assert json.loads(path.read_text())["settings"] == SETTINGS
