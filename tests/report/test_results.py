"""Reading back what `filter`, `score` and `synth` wrote."""

from __future__ import annotations

import csv
import json

import pytest

from blurgate.errors import ConfigError, DecodeError, InputError
from blurgate.report import results as module
from blurgate.report.results import read_results
from blurgate.report.thumbs import make_thumbs
from blurgate.report.view import write_page
from blurgate.stages import Rule
from blurgate.tables import FACES_COLUMNS, SCORE_COLUMNS, open_table

FACES = [
    {"source": "a.mp4", "degree": "0.1", "time_s": "0.04", "frame": "1", "track": "0"},
    {
        "source": "a.mp4",
        "degree": "0.4",
        "time_s": "0.08",
        "frame": "2",
        "track": "0",
        "best": False,
    },
    {"source": "b\udcff.jpg", "degree": "0.9", "face_px": "12.5"},
]


def test_a_folder_of_filter(make, tmp_path):
    folder = make.write_run(tmp_path / "run", FACES, review="0.1", min_face="20")
    results = read_results(folder)
    assert (results.kind, results.rule) == ("filter", Rule(0.4, 0.1, 20.0))
    assert [note.name for note in results.sources] == ["a.mp4", "b\udcff.jpg"]
    first, second, third = results.faces
    assert (first.source, first.frame, first.time_s, first.track) == (0, 1, 0.04, 0)
    assert (first.box, first.det_score) == ((10.0, 20.0, 90.0, 100.0), 0.9)
    assert (second.decision, second.reason) == ("reject", "not_best_shot")
    assert (third.source, third.time_s, third.track, third.face_px) == (1, None, None, 12.5)
    assert (third.decision, third.reason) == ("reject", "too_small")
    assert results.warnings == []
    assert results.default_page == folder / "report.html"


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("kind", ["filter", "score"])
def test_all_formats_hold_the_same(kind, name, tmp_path):
    if name == "parquet":
        pytest.importorskip("pyarrow")
    columns = FACES_COLUMNS if kind == "filter" else SCORE_COLUMNS
    path = tmp_path / "table.data"  # told by its content, not by its name
    row = {column.name: None for column in columns}
    row |= {"face": 3, "face_px": 80.0, "det_score": 0.5, "blur_degree": 0.25}
    row |= {"x1": 1.5, "y1": 2.0, "x2": 3.0, "y2": 4.0}
    row |= (
        {"source": "a", "frame": 7, "time_s": 0.5, "decision": "keep", "reason": "", "crop": ""}
        if kind == "filter"
        else {"file": "a", "status": "ok"}
    )
    with open_table(name, path, columns, None) as table:
        table.write(row)
        if kind == "score":
            table.write(dict.fromkeys(row) | {"file": "b", "status": "no_face"})
    results = read_results(path)
    assert results.kind == kind
    (face,) = results.faces
    assert (face.face, face.box, face.blur_degree) == (3, (1.5, 2.0, 3.0, 4.0), 0.25)
    assert (face.frame, face.time_s) == ((7, 0.5) if kind == "filter" else (None, None))
    statuses = [note.status for note in results.sources]
    assert statuses == (["ok"] if kind == "filter" else ["ok", "no_face"])
    assert results.rule is None
    assert results.default_page == tmp_path / "table.report.html"


def test_a_run_that_was_killed_is_read_as_far_as_it_went(make, tmp_path):
    folder = make.write_run(tmp_path / "run", FACES)
    (folder / "summary.json").unlink()
    journal = folder / "journal.jsonl"
    head, done = journal.read_text().splitlines()
    entry = json.dumps({"mark": 1, "done": json.loads(done)["done"][:1]})
    journal.write_text(f'{head}\n{entry}\n{{"mark": 9, "do')
    table = folder / "faces.csv"
    table.write_bytes(table.read_bytes() + b"c.mp4,0,0.0")
    results = read_results(folder)
    assert [(note.name, note.status) for note in results.sources] == [
        ("a.mp4", "ok"), ("b\udcff.jpg", "incomplete"),
    ]  # fmt: skip
    assert len(results.faces) == 3
    assert results.warnings == [
        "The table's last line was torn and is left out.",
        "The run was interrupted; continue it with --resume.",
    ]


@pytest.mark.parametrize("done", [0, 2])
def test_a_run_without_a_summary_was_killed(make, tmp_path, done):
    """Before its first source was noted as complete, or after the last one was."""
    folder = make.write_run(tmp_path / "run", FACES)
    (folder / "summary.json").unlink()
    journal = folder / "journal.jsonl"
    if not done:
        journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    results = read_results(folder)
    status = "ok" if done else "incomplete"
    assert [note.status for note in results.sources] == [status, status]
    assert len(results.faces) == 3
    assert results.warnings == ["The run was interrupted; continue it with --resume."]


def test_decisions_that_are_not_those_of_the_rule_are_told(make, tmp_path):
    folder = make.write_run(tmp_path / "run", FACES)
    table = folder / "faces.csv"
    text = table.read_bytes()
    table.write_bytes(text.replace(b",keep,", b",review,", 1))
    (warning,) = read_results(folder).warnings
    assert warning.startswith("1 decisions of the table are not those")
    (folder / "journal.jsonl").unlink()
    results = read_results(folder)
    assert results.rule == Rule(0.4)
    assert results.warnings[0] == "journal.jsonl is missing: the run's settings are not known."


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b",0.1,keep", b",1.5,keep", r"faces\.csv: row 1 is damaged \(blur_degree '1\.5'\)"),
        (b",0.1,keep", b",nan,keep", r"row 1 is damaged \(the number 'nan'\)"),
        (b",0.1,keep", b",0.1,kept", "row 1 is damaged .decision 'kept', reason ''"),
        (b",0.1,keep,", b",0.1,keep,,", r"faces\.csv, line 2: 16 fields, the head has 15"),
        (b"blur_degree", b"sharpness", "row 1 is damaged"),
    ],
)
def test_damaged_tables_are_one_line(old, new, match, make, tmp_path):
    folder = make.write_run(tmp_path / "run", FACES)
    table = folder / "faces.csv"
    table.write_bytes(table.read_bytes().replace(old, new, 1))
    with pytest.raises(DecodeError, match=match):
        read_results(folder)


DEEP = b"[" * 200_000
DEEPER = b'{"a": ' * 400 + b"1" + b"}" * 400  # within what JSON may nest, and no value of ours
HUGE = b"1" + b"0" * 400


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("summary.json", b'"threshold": 0.4', b'"threshold": "abc"'),
        ("summary.json", b'"threshold": 0.4', b'"threshold": 1.4'),
        ("summary.json", b'"threshold": 0.4', b'"threshold": ' + HUGE),
        ("summary.json", b'"frames_failed": 0', b'"frames_failed": "x"'),
        ("summary.json", b'"frames_failed": 0', b'"frames_failed": Infinity'),
        ("summary.json", b'"frames": 2', b'"frames": [1]'),
        ("summary.json", b'"source": "a.mp4"', b'"source": 3'),
        ("summary.json", b'"source": "a.mp4", ', b""),
        ("summary.json", b'"sources": [', b'"sources": [1, '),
        ("summary.json", b'"sources": [', b'"sources": 1, "x": ['),
        ("summary.json", b'"sources": [', b'"sources": ' + DEEP),
        ("journal.jsonl", b'"done": [', b'"done": [3, '),
        ("journal.jsonl", b'"done": [', b'"done": ' + DEEP),
        ("journal.jsonl", b'"frames": 2', b'"frames": [1]'),
        ("journal.jsonl", b'{"settings": ', b'{"settings": ' + DEEP),
        ("journal.jsonl", b'{"settings": ', b'{"settings": [1], "x": '),
        ("journal.jsonl", b'"model": "laplacian"', b'"model": ' + DEEPER),
        ("journal.jsonl", b'"threshold": 0.4', b'"threshold": "abc"'),
        ("journal.jsonl", b'"threshold": 0.4', b'"threshold": NaN'),
        ("journal.jsonl", b'"min-face": 0.0', b'"min-face": ' + HUGE),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:40].decode(),
)
def test_damaged_notes_are_warnings(name, old, new, make, tmp_path):
    """What the table holds is shown all the same."""
    folder = make.write_run(tmp_path / "run", FACES)
    path = folder / name
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new, 1))
    results = read_results(folder)
    assert len(results.faces) == len(FACES)
    assert results.rule == Rule(0.4), "the other file has it"
    assert [note.name for note in results.sources] == ["a.mp4", "b\udcff.jpg"]
    assert [note.status for note in results.sources] == ["ok", "ok"]
    (folder / ({"journal.jsonl", "summary.json"} - {name}).pop()).unlink()
    alone = read_results(folder)
    assert len(alone.faces) == len(FACES)
    (warning,) = (line for line in alone.warnings if line.startswith(f"{name} is damaged: "))
    assert "\n" not in warning
    for found in (results, alone):
        assert set(found.warnings) <= {
            warning,
            "journal.jsonl is missing: the run's settings are not known.",
            "The run was interrupted; continue it with --resume.",
        }
        write_page(found, make_thumbs(found, 0), folder / "report.html")


def test_a_digest_that_is_none(make, tmp_path):
    folder = make.write_run(tmp_path / "run", FACES)
    summary = (folder / "summary.json").read_bytes()
    (folder / "summary.json").write_bytes(summary.replace(b'"sha256": ""', b'"sha256": ' + DEEPER))
    assert read_results(folder).settings["model sha256"] == "none"


def test_a_damaged_line_of_the_journal_costs_what_follows_it(make, tmp_path):
    folder = make.write_run(tmp_path / "run", FACES, review="0.1", min_face="20")
    (folder / "summary.json").unlink()
    journal = folder / "journal.jsonl"
    head, line = journal.read_text().splitlines()
    entries = json.loads(line)["done"]
    lines = [json.dumps({"mark": 1, "done": [entry]}) for entry in entries]
    journal.write_text("\n".join([head, lines[0], "torn", lines[1]]) + "\n")
    results = read_results(folder)
    assert results.rule == Rule(0.4, 0.1, 20.0)
    assert [note.status for note in results.sources] == ["ok", "incomplete"]
    assert results.warnings[0] == "journal.jsonl is damaged: line 3."


@pytest.mark.parametrize("value", ["1" + "0" * 400, "Infinity", "[" * 200_000])
def test_rows_that_no_sink_writes_are_one_line(value, tmp_path):
    row = dict.fromkeys((column.name for column in SCORE_COLUMNS), 0.5) | {"file": "a", "face": 1}
    text = json.dumps(row | {"status": "ok"}).replace('"face": 1', f'"face": {value}')
    path = tmp_path / "scores.jsonl"
    path.write_text(text.replace('"x1": 0.5', f'"x1": {value}') + "\n")
    with pytest.raises(
        DecodeError, match=r"scores\.jsonl(: row 1 is damaged|, line 1 is not JSON)"
    ):
        read_results(path)


def test_what_is_no_result(tmp_path, make, monkeypatch):
    with pytest.raises(InputError, match="nowhere: there is no such folder or table"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no results: neither a faces table"):
        read_results(tmp_path)
    other = tmp_path / "other.csv"
    for text in ("a,b\n1,2\n", "a,b\n", "one line of a text"):
        other.write_text(text)
        with pytest.raises(InputError, match=r"other\.csv is not a table of faces"):
            read_results(other)
    other.write_text("")  # JSON lines of no faces
    assert read_results(other).faces == []
    other.write_text('{"a": 1\n')
    with pytest.raises(DecodeError, match=r"other\.csv, line 1 is not JSON"):
        read_results(other)
    other.write_bytes(b"PAR1 and nothing more")
    pytest.importorskip("pyarrow")
    with pytest.raises(DecodeError, match="not a readable Parquet file"):
        read_results(other)
    monkeypatch.setattr(module, "MOST_FACES", 2)
    with pytest.raises(ConfigError, match="more than 2 faces"):
        read_results(make.write_run(tmp_path / "run", FACES))


def test_a_table_in_the_format_of_a_plugin_is_called_that(make, tmp_path):
    folder = make.write_run(tmp_path / "run", FACES)
    journal = folder / "journal.jsonl"
    head, *rest = journal.read_text().splitlines()
    settings = json.loads(head)["settings"] | {"table": "tsv"}
    journal.write_text("\n".join([json.dumps({"settings": settings}), *rest, ""]))
    (folder / "faces.csv").rename(folder / "faces.tsv")
    for path in (folder, folder / "faces.tsv"):
        with pytest.raises(InputError) as caught:
            read_results(path)
        expected = f"{folder}: report reads csv, jsonl, parquet, not the format 'tsv'"
        assert str(caught.value) == expected
    (folder / "faces.tsv").rename(folder / "faces.csv")
    assert len(read_results(folder).faces) == len(FACES)


def test_an_empty_score_table_and_one_that_is_being_written(tmp_path):
    path = tmp_path / "scores.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow([c.name for c in SCORE_COLUMNS])
    (tmp_path / "scores.csv.journal").write_text("")
    results = read_results(path)
    assert (results.kind, results.faces) == ("score", [])
    assert results.warnings == ["The table is not complete: its run was interrupted."]
