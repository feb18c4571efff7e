"""Folders of `filter --shard` join to what one run writes; what is no whole is refused by name."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial

import cv2
import numpy as np
import pytest

from blurgate.counting import is_whole
from blurgate.errors import ConfigError, DecodeError
from blurgate.journal import entries_of, read_journal
from blurgate.locking import locked
from blurgate.merging_folders import merge_folders
from blurgate.tables import FACES_COLUMNS

N = 9


@pytest.fixture
def pictures(marker, tmp_path, monkeypatch):
    """Nine pictures with none to two faces, one of them broken; the folder is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for i in range(N):
        image = np.full((160, 320, 3), 60, np.uint8)
        for face in range(i % 3):
            marker.draw(image, 10 + 150 * face, 20, 120, sharp=i % 2 == 0, seed=i)
        assert cv2.imwrite(f"in/{i}.png", image)
    (tmp_path / "in/4.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return tmp_path


@pytest.fixture
def filter_(run, pictures):
    def run_filter(*arguments, out, shard=None):
        options = ["--out", out, "--detector", "marker", "--model", "laplacian", "--quiet"]
        part = [] if shard is None else ["--shard", shard]
        # Not in the order of the paths: the order of the whole list is what counts.
        ran = run("filter", "in/7.png", "in", "in/2.png", *options, *part, *arguments)
        assert ran.code in {0, 4}, ran.err
        return pictures / out

    return run_filter


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in {"summary.json", "journal.jsonl"}
    }


def summary(folder):
    found = json.loads((folder / "summary.json").read_text())
    del found["elapsed_s"], found["frames_per_s"]
    return found


@pytest.mark.parametrize(
    ("files", "table", "count"),
    [("copy", "csv", 1), ("link", "jsonl", 3), ("move", "csv", 3), ("copy", "parquet", 12)],
)
def test_parts_join_to_the_whole(filter_, run, pictures, files, table, count):
    if table == "parquet":
        pytest.importorskip("pyarrow")
    options = ["--table", table, "--keep-rejected"]
    whole = filter_(*options, out="whole")
    parts = [filter_(*options, out=f"p{i}", shard=f"{i}/{count}") for i in range(1, count + 1)]
    picture = next(path for part in parts for path in (part / "kept").glob("*.png"))
    ran = run("merge", *parts[::-1], "--out", "all", "--files", files)
    assert ran.code == 0, ran.err
    out = pictures / "all"
    assert tree(out) == tree(whole)
    assert summary(out) == summary(whole)
    assert picture.exists() == (files != "move")
    if files == "link":
        assert picture.stat().st_nlink == 2
    whole_entry = partial(is_whole, placed=False)
    entries = [entry["source"] for entry in entries_of(out / "journal.jsonl", whole_entry)]
    assert entries == ["in/7.png", *(f"in/{i}.png" for i in range(N)), "in/2.png"]
    settings, end = read_journal(out / "journal.jsonl")
    assert "shard" not in settings
    assert end is not None
    assert not list(pictures.glob(".all*"))
    # The joined folder is complete in the eyes of --resume too.
    assert filter_(*options, "--resume", out="all") == out
    assert tree(out) == tree(whole)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows have names of Unicode only")
@pytest.mark.parametrize("table", ["csv", "jsonl", "parquet"])
def test_names_that_are_no_utf8_are_resumed_and_joined(filter_, pictures, table):
    if table == "parquet":
        pytest.importorskip("pyarrow")
    for i, name in ((1, "Ren\udce9.png"), (5, "Ren\udce8.png"), (8, "\uff21.png")):
        (pictures / f"in/{i}.png").rename(pictures / "in" / name)
    shutil.copy("in/3.png", "in/4.png")  # a part of nothing but a broken picture fails
    whole = filter_("--table", table, out="whole")
    before = tree(whole)
    filter_("--table", table, "--resume", out="whole")
    assert tree(whole) == before
    parts = [filter_("--table", table, out=f"p{i}", shard=f"{i}/3") for i in (1, 2, 3)]
    merge_folders(parts, pictures / "all")
    assert tree(pictures / "all") == before


def test_elapsed_times_are_added(filter_, pictures):
    parts = [filter_(out=f"p{i}", shard=f"{i}/2") for i in (1, 2)]
    merge_folders(parts, pictures / "all")
    times = [json.loads((p / "summary.json").read_text())["elapsed_s"] for p in parts]
    found = json.loads((pictures / "all/summary.json").read_text())
    assert found["elapsed_s"] == pytest.approx(sum(times), abs=0.002)


def test_what_is_no_whole_is_refused_by_name(filter_, pictures):
    one, two = (filter_(out=f"p{i}", shard=f"{i}/3") for i in (1, 2))
    three = filter_("--threshold", 0.3, out="p3", shard="3/3")
    out = pictures / "all"
    with pytest.raises(ConfigError, match="parts are missing: 3/3"):
        merge_folders([one, two], out)
    with pytest.raises(ConfigError, match=r"p3 was made with threshold = 0\.3 and .*p1 with 0\.4"):
        merge_folders([one, two, three], out)
    other = filter_(out="p2b", shard="2/3")
    with pytest.raises(ConfigError, match=r"p2 and .*p2b are both part 2/3"):
        merge_folders([one, two, other], out)
    half = filter_(out="half", shard="2/2")
    with pytest.raises(ConfigError, match=r"half is part 2/2 and .*p1 part 1/3"):
        merge_folders([one, half], out)
    whole = filter_(out="w")
    with pytest.raises(ConfigError, match="w was made without --shard"):
        merge_folders([one, whole], out)
    (pictures / "in/new.png").write_bytes(b"")
    later = filter_(out="later", shard="3/3")
    with pytest.raises(ConfigError, match=r"later was made of another list .*12 and 11 files"):
        merge_folders([one, two, later], out)
    with pytest.raises(ConfigError, match=r"nothing is not a folder of blurgate filter"):
        merge_folders([one, pictures / "nothing"], out)
    assert not out.exists()


def test_parts_that_are_not_complete(filter_, pictures):
    parts = [filter_(out=f"p{i}", shard=f"{i}/2") for i in (1, 2)]
    out = pictures / "all"

    def broken(name):
        folder = pictures / name
        shutil.copytree(parts[1], folder)
        return folder

    cut = broken("cut")
    lines = (cut / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "journal.jsonl").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(ConfigError, match="cut is not complete; finish it"):
        merge_folders([parts[0], cut], out)
    gone = broken("gone")
    next((gone / "kept").glob("*.png")).unlink()
    with pytest.raises(ConfigError, match=r"gone is not complete: kept/.*\.png is missing"):
        merge_folders([parts[0], gone], out)
    short = broken("short")
    table = (short / "faces.csv").read_bytes().splitlines(keepends=True)
    (short / "faces.csv").write_bytes(b"".join(table[:-1]))
    with pytest.raises(DecodeError, match=r"faces\.csv ends early: \d of \d rows"):
        merge_folders([parts[0], short], out)
    (short / "faces.csv").write_bytes(b"".join([*table, table[-1]]))
    with pytest.raises(DecodeError, match="holds rows of sources that its journal lacks"):
        merge_folders([parts[0], short], out)
    bare = broken("bare")
    (bare / "faces.csv").unlink()
    with pytest.raises(ConfigError, match=r"faces\.csv is missing or unfinished"):
        merge_folders([parts[0], bare], out)
    out.mkdir()
    (out / "x").touch()
    with pytest.raises(ConfigError, match="all is in use"):
        merge_folders(parts, out)
    with pytest.raises(ConfigError, match="x is a file; choose another --out"):
        merge_folders(parts, out / "x" / "below")


@pytest.mark.parametrize("files", ["move", "copy", "link"])
def test_a_merge_that_moved_half_goes_on(filter_, pictures, monkeypatch, files):
    """However it is repeated: what was moved is nowhere else."""
    from blurgate import merging_folders

    whole = filter_(out="whole")
    parts = [filter_(out=f"p{i}", shard=f"{i}/2") for i in (1, 2)]
    moved = []

    def move(source, target):
        if len(moved) == 2:
            raise OSError(28, "No space left on device")
        moved.append(target)
        source.replace(target)

    monkeypatch.setitem(merging_folders._PLACERS, "move", move)
    with pytest.raises(OSError, match="No space left"):
        merge_folders(parts, pictures / "all", files="move")
    monkeypatch.undo()
    monkeypatch.chdir(pictures)
    others = [filter_("--every", 2, out=f"q{i}", shard=f"{i}/2") for i in (1, 2)]
    merge_folders(others, pictures / "all")
    assert tree(pictures / "all") == tree(whole)
    shutil.rmtree(pictures / "all")
    merge_folders(parts, pictures / "all", files=files)
    assert tree(pictures / "all") == tree(whole)
    assert not list(pictures.glob(".all*"))


def test_a_second_merge_into_the_same_folder_ends_before_it_writes(filter_, pictures):
    parts = [filter_(out=f"p{i}", shard=f"{i}/2") for i in (1, 2)]
    (half := pictures / ".all.merging").mkdir()
    with (
        locked(pictures / ".all.lock"),
        pytest.raises(ConfigError, match=r"another run is writing to .*all; wait until it ends"),
    ):
        merge_folders(parts, pictures / "all")
    assert half.is_dir()  # the other one's
    merge_folders(parts, pictures / "all")
    assert not list(pictures.glob(".all*"))


@pytest.mark.parametrize("first", ["copy", "link"])
@pytest.mark.parametrize("files", ["move", "copy", "link"])
def test_half_a_picture_of_an_interrupted_merge_is_made_whole(
    filter_, pictures, monkeypatch, first, files
):
    from blurgate import merging_folders

    whole = filter_(out="whole")
    parts = [filter_(out=f"p{i}", shard=f"{i}/2") for i in (1, 2)]
    place = merging_folders._PLACERS[first]
    placed = []

    def stopped(source, target):
        if len(placed) == 2:
            target.write_bytes(source.read_bytes()[:9])
            raise KeyboardInterrupt
        placed.append(target)
        place(source, target)

    with monkeypatch.context() as patched:
        patched.setitem(merging_folders._PLACERS, first, stopped)
        with pytest.raises(KeyboardInterrupt):
            merge_folders(parts, pictures / "all", files=first)
    merge_folders(parts, pictures / "all", files=files)
    assert tree(pictures / "all") == tree(whole)
    left = [path for part in parts for path in (part / "kept").glob("*.png")]
    assert bool(left) == (files != "move")
    assert not list(pictures.glob(".all*"))
    assert {path.stat().st_nlink for path in left} <= {2 if files == "link" else 1}


def test_a_table_cannot_lead_out_of_its_folder(filter_, pictures):
    parts = [filter_(out="p", shard="1/1")]
    text = (pictures / "p/faces.csv").read_text()
    (pictures / "p/faces.csv").write_text(text.replace("kept/", "../in/../p/kept/", 1))
    with pytest.raises(DecodeError, match="is not a path inside a folder"):
        merge_folders(parts, pictures / "all")


def test_streams_have_no_parts(run):
    ran = run("filter", "rtsp://nowhere/1", "--shard", "1/2", "--model", "laplacian")
    assert ran.code == 2
    assert "--shard divides files" in ran.err


def deep(n=200_000):
    return b"[" * n


ENTRY = {
    "source": "x", "status": "ok", "frames": 1, "frames_failed": 0, "faces": 0, "kept": 0,
    "review": 0, "rejected": 0, "error": "", "reasons": {}, "degrees": [0] * 24, "position": 0,
}  # fmt: skip


def done(**changes):
    """A line of one entry; None takes a key away."""
    entry = {key: value for key, value in (ENTRY | changes).items() if value is not None}
    return json.dumps({"mark": 1, "done": [entry]}).encode()


def settings(**changes):
    return json.dumps({"settings": {"shard": "1/1", "table": "csv", **changes}}).encode()


def end(**facts):
    return json.dumps({"mark": 1, "done": [], "end": facts}).encode()


DAMAGED = r"p1.journal\.jsonl is damaged in line 2; go on before it with: .* filter --resume"
NONE = r"p1.journal\.jsonl is not a journal of blurgate; make its folder again with: .*--overwrite"


@pytest.mark.parametrize(
    ("line", "text", "why"),
    [
        (0, b'{"settings": [1]}', NONE),
        (0, b'{"settings": [["shard", "1/1"]]}', NONE),
        (0, b'{"settings": {"shard": [1]}}', NONE),
        (0, b'{"settings": ' + deep(), NONE),
        (0, settings(shard="3/1"), r"p1 is damaged: --shard 3/1: .*make it again"),
        (0, settings(shard=f"1/{'9' * 5000}"), "p1 is damaged: --shard 1/9.*make it again"),
        (0, settings(shard=7), "p1 is damaged: --shard 7: write it as I/N"),
        (0, settings(table="../p2/faces.csv"), "tables of the format '../p2/faces.csv' cannot be"),
        (1, b'{"mark": 1, "done": [{', DAMAGED),
        (1, deep(), DAMAGED),
        (1, b'{"mark": 1, "done": [7]}', DAMAGED),
        (1, b'{"mark": 1, "done": {}}', DAMAGED),
        (1, b'{"mark": -1, "done": []}', DAMAGED),
        (1, done(source=1), DAMAGED),
        (1, b'{"mark": 1, "done": [{}]}', DAMAGED),
        (1, done(position=None), DAMAGED),
        (1, done(position=True), DAMAGED),
        (1, done(faces=-1), DAMAGED),
        (1, done(faces=10**30), DAMAGED),
        (1, done(frames="1"), DAMAGED),
        (1, done(status=None), DAMAGED),
        (1, done(degrees=[0]), DAMAGED),
        (1, done(degrees=["0"] * 24), DAMAGED),
        (1, done(reasons={"blur": "0"}), DAMAGED),
        (1, done(annotated=1), DAMAGED),
        (-2, end(listing=[1]), "p1 is not complete; finish it with"),
        (-2, end(elapsed_s="x"), "p1 is not complete; finish it with"),
        (-2, end(elapsed_s=float("nan")), "p1 is not complete; finish it with"),
        (-2, b'{"mark"' + deep(), "p1 is not complete; finish it with"),
    ],
)  # fmt: skip
def test_damaged_journals_are_one_line(tmp_path, line, text, why):
    part = tmp_path / "p1"
    part.mkdir()
    (part / "faces.csv").write_text(",".join(column.name for column in FACES_COLUMNS) + "\n")
    journal = part / "journal.jsonl"
    lines = [settings(), done(), end(elapsed_s=1.0), b""]
    journal.write_bytes(b"\n".join(lines))
    merge_folders([part], tmp_path / "whole")
    lines[line] = text
    journal.write_bytes(b"\n".join(lines))
    with pytest.raises(ConfigError, match=why) as caught:
        merge_folders([part], tmp_path / "all")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize("torn", [b"torn", done(position=None), done(frames="1")])
def test_the_ways_out_of_a_damaged_journal_lead_out(filter_, pictures, run, torn):
    whole = filter_(out="whole")
    part = filter_(out="p1", shard="1/1")
    journal = part / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    entries = json.loads(lines[1])
    head, tail = ({**entries, "done": some} for some in (entries["done"][:1], entries["done"][1:]))
    table = (part / "faces.csv").read_bytes().splitlines(keepends=True)
    head["mark"] = sum(map(len, table[: 1 + entries["done"][0]["faces"]]))
    lines[1:2] = [json.dumps(head).encode(), torn, json.dumps(tail).encode()]
    journal.write_bytes(b"\n".join(lines))
    ran = run("merge", part, "--out", "all")
    assert (ran.code, "is damaged in line 3" in ran.err) == (2, True)
    filter_("--resume", out="p1", shard="1/1")
    merge_folders([part], pictures / "all")
    assert tree(pictures / "all") == tree(whole)
