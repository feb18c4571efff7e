"""Results at an address are those of a run on the disk, and are there whole or not at all."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from blurgate import remote_output
from blurgate.locking import locked

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory(marker, tmp_path, monkeypatch):
    """Pictures on the disk and in memory; the work folder is one of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLURGATE_WORK_DIR", str(tmp_path / "work"))
    files = fsspec.filesystem("memory")
    (tmp_path / "in").mkdir()
    for i in range(8):
        image = np.full((160, 320, 3), 60, np.uint8)
        for face in range(i % 3):
            marker.draw(image, 10 + 150 * face, 20, 120, sharp=i % 2 == 0, seed=i)
        assert cv2.imwrite(f"in/{i}.png", image)
        files.pipe_file(f"/in/{i}.png", (tmp_path / f"in/{i}.png").read_bytes())
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def blurgate(run, memory):
    def run_command(command, *arguments, code=0):
        models = [] if command == "merge" else ["--detector", "marker", "--model", "laplacian"]
        ran = run(command, *arguments, *models)
        assert ran.code == code, ran.err
        return ran

    return run_command


def there(files, folder):
    found = files.find(folder)
    return {name.removeprefix(f"{folder}/"): files.cat_file(name) for name in found}


def test_a_table_goes_up_whole(blurgate, memory, tmp_path):
    blurgate("score", "memory://in", "--csv", "here.csv")
    blurgate("score", "memory://in", "--csv", "memory://out/there.csv")
    assert there(memory, "/out") == {"there.csv": (tmp_path / "here.csv").read_bytes()}
    assert list((tmp_path / "work").iterdir()) == []
    ran = blurgate("score", "memory://in", "--csv", "memory://out/there.csv", "--resume")
    assert "is complete; nothing was left" in ran.err


@pytest.mark.parametrize("name", ["2026-11-30T21:37.csv", "aux.csv"])
def test_names_at_addresses_need_not_be_names_here(blurgate, memory, tmp_path, monkeypatch, name):
    """Windows has no file of such a name."""
    made = []
    monkeypatch.setattr(remote_output, "put", lambda files, path, target: made.append(path.name))
    blurgate("score", "in", "--csv", f"memory://out/{name}", "--shard", "1/1")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    memory.pipe_file(f"/out/{name}", b"")
    made.append(remote_output.taken_down(f"memory://out/{name}", tmp_path / "parts").name)
    assert len(made) == 3
    for here in made:
        assert ":" not in here
        assert not here.startswith("aux.")


def test_parts_are_joined_from_and_to_addresses(blurgate, memory, tmp_path):
    blurgate("score", "memory://in", "--csv", "whole.csv")
    for i in (1, 2):
        blurgate("score", "memory://in", "--csv", f"memory://out/p{i}.csv", "--shard", f"{i}/2")
    assert set(there(memory, "/out")) == {
        f"p{i}.csv{s}" for i in (1, 2) for s in ("", ".part.json")
    }
    blurgate("merge", "memory://out/p*", "--out", "memory://all/t.csv")
    assert memory.cat_file("/all/t.csv") == (tmp_path / "whole.csv").read_bytes()
    ran = blurgate("merge", "memory://out/p1.csv", "--out", "memory://all/u.csv", code=2)
    assert "parts are missing: 2/2" in ran.err
    assert not memory.exists("/all/u.csv")
    # A complete part is trusted, one that was cut is not.
    ran = blurgate(
        "score", "memory://in", "--csv", "memory://out/p2.csv", "--shard", "2/2", "--resume"
    )
    assert "is complete; nothing was left" in ran.err
    memory.pipe_file("/out/p2.csv", memory.cat_file("/out/p2.csv")[:-5])
    ran = blurgate(
        "score", "memory://in", "--csv", "memory://out/p2.csv", "--shard", "2/2", "--resume", code=2
    )
    assert "when it was complete" in ran.err


def test_an_interrupted_table_goes_on_here_and_up_at_the_end(
    blurgate, memory, tmp_path, monkeypatch
):
    from blurgate.remote_output import RemoteTable

    blurgate("score", "memory://in", "--csv", "whole.csv")

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RemoteTable, "publish", full)
    ran = blurgate("score", "memory://in", "--csv", "memory://out/t.csv", code=5)
    assert "No space left" in ran.err
    assert not memory.exists("/out/t.csv")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLURGATE_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setattr("signal.signal", lambda *args: None)
    blurgate("score", "memory://in", "--csv", "memory://out/t.csv", "--resume")
    assert memory.cat_file("/out/t.csv") == (tmp_path / "whole.csv").read_bytes()


def interrupting(monkeypatch, memory, n):
    """Stop the program when the n-th file is taken down, as a kill does: nothing is tidied up."""
    get, calls = type(memory).get_file, []

    def stopped(self, *arguments, **options):
        calls.append(arguments)
        if len(calls) == n:
            raise KeyboardInterrupt
        return get(self, *arguments, **options)

    monkeypatch.setattr(type(memory), "get_file", stopped)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    "command",
    [("score", "in", "--csv", "memory://out/t.csv", "--shard", "1/1"),
     ("filter", "in", "--out", "memory://out/f", "--quiet")],
)  # fmt: skip
def test_killed_while_a_result_is_taken_down(blurgate, memory, monkeypatch, command, n):
    blurgate(*command)
    before = there(memory, "/out")
    interrupting(monkeypatch, memory, n)
    blurgate(*command, "--resume", code=130)
    blurgate(*command, "--resume")
    assert there(memory, "/out").keys() == before.keys()
    table = "t.csv" if command[0] == "score" else "f/faces.csv"
    assert there(memory, "/out")[table] == before[table]


def test_a_complete_table_at_an_address_is_checked_like_one_on_the_disk(
    blurgate, memory, tmp_path, monkeypatch
):
    command = ("score", "--csv", "memory://out/t.csv")
    blurgate(*command, "in/1.png")
    before = there(memory, "/out")
    ran = blurgate(*command, "in/2.png", "--resume", code=2)
    assert "it should be the complete table of these files, but 'in/1.png' is not" in ran.err
    failing(monkeypatch, 1)  # nothing goes up
    ran = blurgate(*command, "in/1.png", "--resume")
    assert "memory://out/t.csv is complete; nothing was left to resume" in ran.err
    assert there(memory, "/out") == before
    assert list((tmp_path / "work").iterdir()) == []


def test_a_table_that_replaces_a_part_has_no_note_of_it(blurgate, memory, tmp_path):
    blurgate("score", "in", "--csv", "memory://out/t.csv", "--shard", "1/2")
    assert "t.csv.part.json" in there(memory, "/out")
    blurgate("score", "in", "--csv", "memory://out/t.csv")
    assert set(there(memory, "/out")) == {"t.csv"}
    ran = blurgate("merge", "memory://out/t.csv", "--out", "all.csv")
    assert "10 rows of 1 parts" in ran.err
    assert (tmp_path / "all.csv").read_bytes() == memory.cat_file("/out/t.csv")


def test_only_a_table_is_replaced_at_an_address(blurgate, memory, tmp_path, monkeypatch):
    memory.pipe_file("/theirs/letter.csv", b"Dear all,\nwe")
    memory.pipe_file("/theirs/empty.csv", b"")
    blurgate("score", "in", "--csv", "part.csv", "--shard", "1/1")
    for option, *command in (("--csv", "score", "in"), ("--out", "merge", "part.csv")):
        ran = blurgate(*command, option, "memory://theirs/letter.csv", code=2)
        assert ran.err == (
            "blurgate: error: memory://theirs/letter.csv is not a table of `blurgate score`; "
            f"choose another {option}\n"
        )
        assert memory.cat_file("/theirs/letter.csv") == b"Dear all,\nwe"
    ran = blurgate("score", "in", "--csv", "memory://theirs", code=2)
    assert "memory://theirs is a folder; choose another --csv" in ran.err
    assert not (tmp_path / "work").exists()
    blurgate("score", "in/1.png", "--csv", "memory://theirs/empty.csv")
    blurgate("score", "in", "--csv", "memory://theirs/empty.csv")
    assert memory.cat_file("/theirs/empty.csv") == (tmp_path / "part.csv").read_bytes()
    # What came there while a table was made here stays too.
    failing(monkeypatch, 1)
    blurgate("score", "in", "--csv", "memory://theirs/new.csv", code=5)
    memory.pipe_file("/theirs/new.csv", b"mine")
    ran = blurgate("score", "in", "--csv", "memory://theirs/new.csv", "--resume", code=2)
    assert "memory://theirs/new.csv is not a table of `blurgate score`" in ran.err
    assert memory.cat_file("/theirs/new.csv") == b"mine"
    memory.rm_file("/theirs/new.csv")
    blurgate("score", "in", "--csv", "memory://theirs/new.csv", "--resume")
    assert memory.cat_file("/theirs/new.csv") == (tmp_path / "part.csv").read_bytes()


def test_only_a_table_of_parquet_is_replaced_at_an_address(blurgate, memory, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    memory.pipe_file("/theirs/a", (tmp_path / "a.parquet").read_bytes())
    ran = blurgate("score", "in", "--parquet", "memory://theirs/a", code=2)
    assert (
        "memory://theirs/a is not a table of `blurgate score`; choose another --parquet" in ran.err
    )
    for _ in range(2):
        blurgate("score", "in", "--parquet", "memory://theirs/b")
    assert pq.read_table(pa.BufferReader(memory.cat_file("/theirs/b"))).num_rows == 10


def test_folders_go_up_with_the_journal_last(blurgate, memory, tmp_path, monkeypatch):
    order = []
    pipe = type(memory).mv

    def noted(self, source, target, **options):
        order.append(target)
        return pipe(self, source, target, **options)

    monkeypatch.setattr(type(memory), "mv", noted)
    blurgate("filter", "memory://in", "--out", "here", "--quiet")
    ran = blurgate("filter", "memory://in", "--out", "memory://out/f", "--json")
    found = there(memory, "/out/f")
    assert ran.out.encode() == found["summary.json"]
    assert ran.err.endswith("results in memory://out/f\n")
    here = {
        str(path.relative_to(tmp_path / "here").as_posix()): path.read_bytes()
        for path in (tmp_path / "here").rglob("*")
        if path.is_file()
    }
    assert found.keys() == here.keys()
    assert {k: v for k, v in found.items() if "." in k and not k.endswith(("json", "jsonl"))} == {
        k: v for k, v in here.items() if not k.endswith(("json", "jsonl"))
    }
    assert order[-1] == "/out/f/journal.jsonl"
    ran = blurgate("filter", "memory://in", "--out", "memory://out/f", code=2)
    assert "use --resume to continue it, --overwrite" in ran.err
    blurgate("filter", "memory://in", "--out", "memory://out/f", "--resume", "--quiet")
    assert there(memory, "/out/f").keys() == found.keys()
    options = ["--out", "memory://out/f", "--overwrite", "--crops", "none", "--quiet"]
    memory.pipe_file("/out/f/faces.mp4", b"a film of faces, not ours")
    blurgate("filter", "memory://in", *options, "--table", "jsonl")
    left = {"faces.jsonl", "faces.mp4", "journal.jsonl", "summary.json"}
    assert set(there(memory, "/out/f")) == left
    memory.pipe_file("/mine/x.txt", b"")
    ran = blurgate("filter", "memory://in", "--out", "memory://mine", "--overwrite", code=2)
    assert "holds no results of blurgate" in ran.err


@pytest.mark.parametrize("again", [(), ("--resume",)])
def test_killed_while_the_work_folder_is_cleared_nothing_at_the_address_is_lost(
    blurgate, memory, monkeypatch, again
):
    """Half a work folder, gone on with, would replace what is whole at the address."""
    command = ("filter", "in", "--out", "memory://out/f", "--threshold", "0.9", "--quiet")
    if again:
        blurgate(*command)
    delete = remote_output.shutil.rmtree

    def killed(folder, **options):
        if not folder.exists():
            return
        for part in (folder / "taken", folder / "folder/kept"):
            delete(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(remote_output.shutil, "rmtree", killed)
    blurgate(*command, *again, code=130)
    monkeypatch.setattr(remote_output.shutil, "rmtree", delete)
    before = there(memory, "/out/f")
    assert any(name.startswith("kept/") for name in before)
    blurgate(*command, "--resume")
    assert there(memory, "/out/f").keys() == before.keys()


@pytest.mark.parametrize(
    "command",
    [("score", "in", "--csv", "memory://out/t.csv"),
     ("filter", "in", "--out", "memory://out/f", "--quiet"),
     ("merge", "p1.csv", "--out", "memory://out/t.csv"),
     ("merge", "p1", "--out", "memory://out/f")],
)  # fmt: skip
def test_a_second_run_to_an_address_leaves_the_work_of_the_first(blurgate, memory, command):
    """They have one work folder, which beginning anew deletes."""
    blurgate("score", "in", "--csv", "p1.csv", "--shard", "1/1")
    blurgate("filter", "in", "--out", "p1", "--shard", "1/1", "--quiet")
    work = remote_output.work_folder(command[-1 if command[-1] != "--quiet" else -2])
    first = work / "folder/faces.csv"
    first.parent.mkdir(parents=True)
    first.touch()
    with locked(work.with_name(work.name + ".lock")):
        ran = blurgate(*command, code=2)
    assert "another run is writing to memory://out/" in ran.err
    assert first.exists()
    assert not memory.exists("/out")


def test_a_dry_run_refuses_an_address_that_a_run_refuses(blurgate, memory, tmp_path):
    command = ("filter", "in", "--threshold", "0.4", "--out")
    blurgate(*command, "memory://out/f")
    memory.pipe_file("/theirs/letter.txt", b"")
    before = there(memory, "/out"), there(memory, "/theirs")
    for out in (("memory://out/f",), ("memory://theirs",), ("memory://theirs", "--overwrite")):
        dry = blurgate(*command, *out, "--dry-run", code=2)
        assert (dry.out, dry.err) == ("", blurgate(*command, *out, code=2).err)
    for word in ("--resume", "--overwrite"):
        assert blurgate(*command, "memory://out/f", word, "--dry-run").err == ""
    assert (there(memory, "/out"), there(memory, "/theirs")) == before
    assert list((tmp_path / "work").iterdir()) == []


def test_a_replaced_folder_that_was_resumed_keeps_nothing_of_the_old_one(
    blurgate, memory, monkeypatch
):
    options = ["--out", "memory://out/f", "--quiet"]
    blurgate("filter", "memory://in", *options)
    rm_file = type(memory).rm_file

    def fails(self, *arguments, **options):
        raise OSError("the line is down")

    monkeypatch.setattr(type(memory), "rm_file", fails)
    other = ["--crops", "none", "--table", "jsonl"]
    ran = blurgate("filter", "memory://in", *options, *other, "--overwrite", code=3)
    assert "run the same command with --resume" in ran.err
    monkeypatch.setattr(type(memory), "rm_file", rm_file)
    blurgate("filter", "memory://in", *options, *other, "--resume")
    assert set(there(memory, "/out/f")) == {"faces.jsonl", "journal.jsonl", "summary.json"}


@pytest.mark.parametrize("method", ["rm_file", "rm"])
def test_what_is_replaced_goes_also_when_that_was_interrupted(
    blurgate, memory, monkeypatch, method
):
    """The journal is gone by then: nothing at the address tells of an old run any more."""
    options = ["--out", "memory://out/f", "--threshold", "0.9", "--quiet"]
    blurgate("filter", "memory://in", *options)
    remove, calls = getattr(type(memory), method), []

    def fails(self, path, *arguments, **options):
        calls.append(path)
        if not path.endswith("journal.jsonl"):
            raise OSError("the line is down")
        return remove(self, path, *arguments, **options)

    monkeypatch.setattr(type(memory), method, fails)
    other = ["--crops", "none", "--table", "jsonl"]
    ran = blurgate("filter", "memory://in", *options, *other, "--overwrite", code=3)
    assert "run the same command with --resume" in ran.err
    assert len(calls) == (2 if method == "rm_file" else 1)
    assert not memory.exists("/out/f/journal.jsonl")
    monkeypatch.setattr(type(memory), method, remove)
    blurgate("filter", "memory://in", *options, *other, "--resume")
    assert set(there(memory, "/out/f")) == {"faces.jsonl", "journal.jsonl", "summary.json"}


def test_folders_are_joined_from_and_to_addresses(blurgate, memory):
    blurgate("filter", "memory://in", "--out", "memory://out/whole", "--quiet")
    for i in (1, 2):
        out = f"memory://out/p{i}"
        blurgate("filter", "memory://in", "--out", out, "--shard", f"{i}/2", "--quiet")
    blurgate("merge", "memory://out/p1", "memory://out/p2", "--out", "memory://out/all")
    whole, joined = there(memory, "/out/whole"), there(memory, "/out/all")
    assert whole.keys() == joined.keys()
    assert whole["faces.csv"] == joined["faces.csv"]
    totals = [json.loads(found["summary.json"])["totals"] for found in (whole, joined)]
    assert totals[0] == totals[1]


def failing(monkeypatch, n):
    """Let the n-th file that goes up meet a full bucket; then all goes well again."""
    from blurgate import remote_output

    put, calls = remote_output.put, []

    def full(files, source, target):
        calls.append(target)
        if len(calls) == n:
            raise OSError(28, "No space left on device")
        put(files, source, target)

    monkeypatch.setattr(remote_output, "put", full)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("again", ["move", "copy"])
def test_pictures_that_cannot_be_brought_up_stay_in_their_parts(
    blurgate, memory, tmp_path, monkeypatch, n, again
):
    blurgate("filter", "in", "--out", "whole", "--quiet")
    for i in (1, 2):
        blurgate("filter", "in", "--out", f"p{i}", "--shard", f"{i}/2", "--quiet")
    merge = ("merge", "p1", "p2", "--out", "memory://out/all", "--files")
    pictures = sorted(path.name for path in tmp_path.glob("p?/kept/*.png"))
    assert len(pictures) == len(list(tmp_path.glob("whole/kept/*.png"))) > 2
    failing(monkeypatch, n)
    ran = blurgate(*merge, "move", code=5)
    assert "what was done is kept, so mend it and run the same command again" in ran.err
    assert sorted(path.name for path in tmp_path.glob("p?/kept/*.png")) == pictures
    assert not memory.exists("/out/all/journal.jsonl")
    ran = blurgate(*merge, again)
    whole = {path.name for path in (tmp_path / "whole").rglob("*.*")} - {"run.lock"}
    assert {name.rpartition("/")[2] for name in there(memory, "/out/all")} == whole
    assert memory.cat_file("/out/all/faces.csv") == (tmp_path / "whole/faces.csv").read_bytes()
    left = [] if again == "move" else pictures
    assert sorted(path.name for path in tmp_path.glob("p?/kept/*.png")) == left
    assert list((tmp_path / "work").iterdir()) == []
    assert f"8 sources, 7 faces, {len(pictures)} kept, of 2 parts" in ran.err
    ran = blurgate(*merge, "copy", code=2)
    assert "memory://out/all is in use; choose another --out" in ran.err


def test_other_parts_do_not_go_on_with_half_a_folder(blurgate, memory, monkeypatch):
    for i in (1, 2):
        blurgate("filter", "in", "--out", f"p{i}", "--shard", f"{i}/2", "--quiet")
    blurgate("filter", "in", "--out", "q", "--shard", "1/1", "--crops", "none", "--quiet")
    failing(monkeypatch, 4)
    blurgate("merge", "p1", "p2", "--out", "memory://out/all", code=5)
    ran = blurgate("merge", "q", "--out", "memory://out/all", code=2)
    assert "memory://out/all is in use; choose another --out" in ran.err
    blurgate("merge", "p1", "p2", "--out", "memory://out/all")
    blurgate("merge", "q", "--out", "memory://out/q")
    assert set(there(memory, "/out/q")) == {"faces.csv", "journal.jsonl", "summary.json"}


def test_a_merged_table_that_cannot_be_brought_up_is_merged_again(blurgate, memory, monkeypatch):
    blurgate("score", "in", "--csv", "a.csv", "--shard", "1/1")
    failing(monkeypatch, 1)
    ran = blurgate("merge", "a.csv", "--out", "memory://out/t.csv", code=5)
    assert ran.err.rstrip().endswith("run the same command again")
    blurgate("merge", "a.csv", "--out", "memory://out/t.csv")
    assert memory.cat_file("/out/t.csv").count(b"in/") > 8


def test_drawn_videos_need_files(blurgate, memory):
    memory.pipe_file("/v.mp4", b"x")
    ran = blurgate("filter", "memory://v.mp4", "--annotate", "--out", "o", code=2)
    assert "need videos that are files of this machine" in ran.err
