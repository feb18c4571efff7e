"""Files are there whole or not at all."""

from __future__ import annotations

import json

import pytest

from blurgate.files import folder_of, write_atomically, write_json


def test_write_atomically_leaves_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "s.json"
    path.write_text("old")

    def chunks():
        yield "new"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomically(path, chunks())
    assert path.read_text() == "old"
    write_atomically(path, ["n", "ew"])
    assert path.read_text() == "new"


def test_write_json_ends_with_a_line_and_keeps_the_order(tmp_path):
    write_json(tmp_path / "f.json", {"b": [1, "\u00e4"], "a": None})
    text = (tmp_path / "f.json").read_text(encoding="utf-8")
    assert list(json.loads(text)) == ["b", "a"]
    assert text.endswith("\n}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_folders_made_for_a_file_go_again_when_its_work_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), folder_of(tmp_path / "a" / "b" / "c.json"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
