"""Joined shards equal one run, byte for byte."""

from __future__ import annotations

import json

import pytest

from blurgate.errors import ConfigError, DecodeError
from blurgate.merging import merge_tables
from blurgate.sharding import PartNote, Shard
from blurgate.tables import SCORE_COLUMNS, empty_score_row, open_table, score_columns

FILES = sorted(
    [f"b/{i:03d}.jpg" for i in range(40)]
    + ['a "quoted", name.jpg', "ä.jpg", "z\n.jpg", "c\\u005c.jpg"]
    # Bytes that are no UTF-8: Parquet writes them as text, which is in another order.
    + ["b/\udce9.jpg", "b/\udce8.jpg", "b/\\udce8.jpg", "\udce9.jpg", "\uff21.jpg"]
)


def rows(file):
    i = FILES.index(file)
    if i % 5 == 0:
        return [empty_score_row(file, "no_face")]
    return [
        {
            **empty_score_row(file, "ok"),
            "face": face,
            "x1": 1.5 * i,
            "x2": 1 / 3 + i,
            "face_px": 12.0,
            "blur_degree": 0.123456789 / (i + face + 1),
        }
        for face in range(i % 3 + 1)
    ]


def write(path, files):
    with open_table(path.suffix[1:], path, SCORE_COLUMNS, None) as table:
        for file in files:
            for row in rows(file):
                table.write(row)
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_shards_join_to_the_whole(tmp_path, suffix, count):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    whole = write(tmp_path / f"whole.{suffix}", FILES)
    parts = [
        write(tmp_path / f"{i}.{suffix}", [f for f in FILES if f in Shard(i, count)])
        for i in range(1, count + 1)
    ]
    out = tmp_path / f"out.{suffix}"
    n = merge_tables(parts[::-1], out)
    assert n == sum(len(rows(f)) for f in FILES)
    assert out.read_bytes() == whole.read_bytes()


def test_every_file_is_in_exactly_one_shard():
    for file in FILES:
        assert sum(file in Shard(i, 5) for i in range(1, 6)) == 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "1", "a/b", "1/", "-1/3"])
def test_shards_that_mean_nothing(text):
    with pytest.raises(ConfigError, match="--shard"):
        Shard.parse(text)


def test_the_same_file_in_two_parts_is_an_error(tmp_path):
    a = write(tmp_path / "a.csv", FILES[:3])
    b = write(tmp_path / "b.csv", FILES[2:5])
    with pytest.raises(ConfigError, match=r"is in both .*a\.csv and .*b\.csv"):
        merge_tables([a, b], tmp_path / "out.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.csv"], "something was left"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_of_somebody_else_is_not_replaced(tmp_path, suffix):
    part, mine = tmp_path / f"part.{suffix}", tmp_path / f"mine.{suffix}"
    n_rows = merge_tables([write(part, FILES[:3])], tmp_path / f"all.{suffix}")
    mine.write_text("name,age\nAnna,41\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"mine.{suffix} is not a table of `blurgate score`"):
        merge_tables([part], mine)
    assert mine.read_text(encoding="utf-8") == "name,age\nAnna,41\n"
    assert merge_tables([part], tmp_path / f"all.{suffix}") == n_rows


def test_a_merge_that_fails_leaves_nothing_and_the_old_table(tmp_path):
    pytest.importorskip("pyarrow")
    a = write(tmp_path / "a.parquet", FILES[:3])
    b = write(tmp_path / "b.parquet", FILES[2:5])
    old = write(tmp_path / "out.parquet", FILES[5:6]).read_bytes()
    (tmp_path / ".out.parquet.tmp.mine").write_bytes(b"")
    with pytest.raises(ConfigError, match="is in both"):
        merge_tables([a, b], tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == old
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"a.parquet", "b.parquet", "out.parquet", ".out.parquet.tmp.mine"}


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("x1", "NaN"),  # json.loads takes it, and no JSON may hold it
        ("blur_degree", "1e999"),
        ("blur_degree", "-Infinity"),
        ("x1", "1" * 400),
        ("face", "1.5"),
        ("face", "[1]"),
        ("det_score", "true"),
        ("status", '{"a": 1}'),
        ("file", "null"),
    ],
)
def test_values_that_no_table_of_ours_holds_are_refused(tmp_path, column, text):
    fields = dict.fromkeys((c.name for c in SCORE_COLUMNS), "null") | {"file": '"a.png"'}
    line = ", ".join(f'"{name}": {value}' for name, value in (fields | {column: text}).items())
    (tmp_path / "a.jsonl").write_text(f"{{{line}}}\n")
    with pytest.raises(DecodeError, match=r"a\.jsonl is not a table of blurgate score"):
        merge_tables([tmp_path / "a.jsonl"], tmp_path / "out.jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("text", ["nan", "inf", "-1e999"])
def test_numbers_that_are_none_are_refused_in_csv(tmp_path, text):
    path = write(tmp_path / "a.csv", FILES[1:2])
    path.write_text(path.read_text().replace("1.5", text))
    with pytest.raises(DecodeError, match=r"a\.csv is not a table of blurgate score"):
        merge_tables([path], tmp_path / "out.csv")


def test_parts_that_cannot_be_joined(tmp_path):
    a = write(tmp_path / "a.csv", FILES[:3])
    b = write(tmp_path / "b.jsonl", FILES[3:])
    with pytest.raises(ConfigError, match="of different formats"):
        merge_tables([a, b], tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="both a part and the joined table"):
        merge_tables([a], a)
    (tmp_path / "a.csv.journal").write_text("")
    with pytest.raises(ConfigError, match="is not complete; finish it"):
        merge_tables([a], tmp_path / "out.csv")
    unsorted = write(tmp_path / "u.csv", FILES[:3][::-1])
    with pytest.raises(DecodeError, match="not in the order of its paths"):
        merge_tables([unsorted], tmp_path / "out.csv")
    other = tmp_path / "o.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(DecodeError, match="not a table of blurgate score"):
        merge_tables([other], tmp_path / "out.csv")


NOTE = {"settings": {"model": "a"}, "listing": {"files": 5, "sha256": "x"}}


def noted(path, files, shard, **changes):
    write(path, files)
    facts = {**NOTE, "shard": shard, "files": len(files), "bytes": path.stat().st_size, **changes}
    PartNote(**facts).write(path)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shard": "1/2"}, r"a\.csv and .*b\.csv are both part 1/2"),
        ({"shard": "2/3"}, r"b\.csv is part 2/3 and .*a\.csv part 1/2"),
        ({"settings": {"model": "b"}}, r"b\.csv was made with model = 'b' and .*a\.csv with 'a'"),
        ({"listing": {"files": 6, "sha256": "y"}}, r"b\.csv was made of another list .*6 and 5"),
        ({"bytes": 7}, r"b\.csv is not complete: \d+ bytes, and 7 were written"),
    ],
)
def test_parts_that_are_no_whole_are_refused_by_name(tmp_path, changes, message):
    a = noted(tmp_path / "a.csv", FILES[:3], "1/2")
    b = noted(tmp_path / "b.csv", FILES[3:5], "2/2")
    assert merge_tables([b, a], tmp_path / "out.csv") == sum(len(rows(f)) for f in FILES[:5])
    (tmp_path / "out.csv").unlink()
    noted(tmp_path / "b.csv", FILES[3:5], **{"shard": "2/2", **changes})
    with pytest.raises(ConfigError, match=message):
        merge_tables([a, b], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_missing_part_is_named(tmp_path):
    a = noted(tmp_path / "a.csv", FILES[:3], "2/11")
    with pytest.raises(ConfigError, match=r"missing: 1/11, 3/11, .*9/11 and 2 more"):
        merge_tables([a], tmp_path / "out.csv")
    b = write(tmp_path / "b.csv", FILES[3:5])
    with pytest.raises(
        ConfigError, match=r"b\.csv is not a complete part: b\.csv\.part\.json is not"
    ):
        merge_tables([a, b], tmp_path / "out.csv")
    with pytest.raises(ConfigError, match=r"c\.csv: there is no such part"):
        merge_tables([a, tmp_path / "c.csv"], tmp_path / "out.csv")


@pytest.mark.parametrize(
    "note",
    [
        "{}",
        "[" * 200_000,
        b"\xff",
        {"settings": [1]},
        {"settings": {"model": [1]}},
        {"listing": "x"},
        {"shard": 1},
        {"bytes": "7"},
        {"format": "blurgate part 2"},
    ],
)
def test_damaged_notes_are_one_line(tmp_path, note):
    a = noted(tmp_path / "a.csv", FILES[:3], "1/1")
    path = tmp_path / "a.csv.part.json"
    if isinstance(note, dict):
        note = json.dumps({**json.loads(path.read_text()), **note})
    path.write_bytes(note.encode() if isinstance(note, str) else note)
    with pytest.raises(
        ConfigError, match=r"a\.csv\.part\.json is not the note of .*; score .* again"
    ):
        merge_tables([a], tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("shard", "why"),
    [("3/2", "3/2: I/N needs"), ("x", "x: write it as I/N"), ("1\n", r"'1\\n': write it as I/N")],
)
def test_a_shard_that_means_nothing_names_the_part(tmp_path, shard, why):
    a = noted(tmp_path / "a.csv", FILES[:3], shard)
    with pytest.raises(ConfigError, match=rf"a\.csv is damaged: --shard {why}.*; make it again"):
        merge_tables([a], tmp_path / "out.csv")


def test_most_of_a_great_many_parts_are_missing(tmp_path):
    a = noted(tmp_path / "a.csv", FILES[:3], "2/1000000000000")
    with pytest.raises(ConfigError, match=r"missing: 1/1000000000000, .* and 999999999991 more"):
        merge_tables([a], tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.jsonl", "[" * 200_000 + "\n", r"a\.jsonl, line 1 is not JSON"),
        ("a.jsonl", '{"file": "a"\n', r"a\.jsonl, line 1 is not JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl, line 1 is not a JSON object"),
        ("a.csv", "a" * 200_000 + "\n1\n", r"a\.csv cannot be read: field larger than"),
        ("a.csv", "HEAD\na.png,,,,,,,,,no_face\nb.png,1,2.5", r"a\.csv, line 3: 3 fields, .* 10"),
        ("a.parquet", "PAR1 and nothing more", r"a\.parquet is not a readable Parquet file"),
    ],
)
def test_damaged_tables_are_one_line(tmp_path, name, text, why):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_text(text.replace("HEAD", ",".join(column.name for column in SCORE_COLUMNS)))
    with pytest.raises(DecodeError, match=why):
        merge_tables([path], tmp_path / f"out{path.suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_columns_of_the_kind_of_blur_are_carried_over(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"a.{suffix}"
    with open_table(suffix, path, score_columns(True), None) as table:
        for file in FILES[:4]:
            for row in rows(file):
                table.write({**row, "blur_kind": "motion", "blur_angle": 12.5})
    with open_table(suffix, tmp_path / f"none.{suffix}", score_columns(True), None):
        pass  # the part of a shard that no file fell into
    for parts in (["a"], ["a", "none"], ["none", "a"]):
        merge_tables([tmp_path / f"{p}.{suffix}" for p in parts], tmp_path / f"out.{suffix}")
        assert (tmp_path / f"out.{suffix}").read_bytes() == path.read_bytes()
    merge_tables([tmp_path / f"none.{suffix}"], tmp_path / f"out.{suffix}")
    assert (tmp_path / f"out.{suffix}").read_bytes() == (tmp_path / f"none.{suffix}").read_bytes()
    write(tmp_path / f"b.{suffix}", FILES[4:])
    with pytest.raises(ConfigError, match="some of the parts tell the kind of blur"):
        merge_tables([path, tmp_path / f"b.{suffix}"], tmp_path / f"out.{suffix}")
