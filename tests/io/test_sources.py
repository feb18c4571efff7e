from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blurgate.errors import InputError
from blurgate.io import sources
from blurgate.io.sources import Source, expand, read_sources
from blurgate.types import Frame, SourceEnd

posix_names = pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such names")


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(arguments, **options):
    return [source.name for source in expand(arguments, **options)]


def kinds(*arguments):
    return [source.kind for source in expand(arguments)]


def picture(name, shade=0, size=(4, 6)):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(name)
    return str(name)


# Finding


def test_files_keep_their_order_and_spelling(tmp_path):
    touch("b.mp4", "sub/a.JPG", "c.png")
    absolute = str(tmp_path / "c.png")
    arguments = ["./b.mp4", "sub//a.JPG", absolute, "b.mp4"]
    assert names(arguments) == arguments
    assert kinds(*arguments) == ["video", "image", "image", "video"]


@pytest.mark.parametrize("argument", ["d", "d/", "./d"])
def test_folder_is_walked_in_the_order_of_the_paths(argument):
    files = [
        "d/a.jpg", "d/a/1.jpg", "d/a/10.jpg", "d/a/2.jpg", "d/a-1.jpg", "d/a.b/x.mp4", "d/B.png",
        "d/ä.webp", "d/z/y/x/w.mkv", "d/z.avi", "d/aa.jpg", "d/a b/c.jpg",
    ]  # fmt: skip
    touch(*files, "d/notes.txt", "d/Thumbs.db", "d/z/list.json", "d/plain")
    touch("d/.hidden.jpg", "d/.cache/a.jpg", "d/._a.jpg")
    (Path("d") / "empty").mkdir()
    root = argument if argument.endswith("/") else f"{argument}/"
    wanted = sorted(root + name.removeprefix("d/") for name in files)
    assert names([argument]) == [os.path.normcase(name) for name in wanted]


def test_folder_with_links_that_loop():
    touch("d/a.jpg", "d/sub/b.jpg", "other/c.jpg")
    try:
        Path("d/sub/up").symlink_to("..", target_is_directory=True)
        Path("d/self").symlink_to("self")
        Path("d/link").symlink_to("../other", target_is_directory=True)
        Path("d/again").symlink_to("../other", target_is_directory=True)
        Path("d/lost.jpg").symlink_to("nowhere.jpg")
    except OSError as error:
        pytest.skip(f"this system makes no links: {error}")
    walked = ["d/a.jpg", "d/again/c.jpg", "d/lost.jpg", "d/sub/b.jpg"]
    assert names(["d"]) == names(["d/**/*.jpg"]) == names(["d/**/**/*.jpg"]) == walked
    assert names(["d/**"]) == [*walked[:3], "d/self", walked[3]]
    assert names(["d/*.jpg"]) == ["d/a.jpg", "d/lost.jpg"]
    assert names(["**/up/*.jpg"]) == ["d/sub/up/a.jpg", "d/sub/up/lost.jpg"]
    Path("d/sub/here").symlink_to(".", target_is_directory=True)  # two circles: a tree without end
    assert names(["d/**/*.jpg"]) == walked


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_folder_that_may_not_be_read_fails_and_the_others_are_read():
    picture("d/a.png")
    touch("d/shut/b.jpg")
    Path("d/shut").chmod(0)
    try:
        ends = [i for i in read_sources(expand(["d"]), every=1, workers=1) if type(i) is SourceEnd]
    finally:
        Path("d/shut").chmod(0o700)
    assert [(end.source, end.status) for end in ends] == [("d/a.png", "ok"), ("d/shut", "failed")]
    assert ends[1].error == "d/shut cannot be read as a picture: Permission denied"


def test_folder_that_cannot_be_listed_is_a_source_that_fails(monkeypatch):
    touch("d/a.jpg", "d/shut/b.jpg", "d/z.jpg")
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert names(["d"]) == ["d/a.jpg", os.path.normcase("d/shut"), "d/z.jpg"]
    assert names(["d/shut"]) == ["d/shut"]
    *_, end = read_sources(expand(["d/shut"]), every=1, workers=1)
    assert (end.source, end.status, end.frames_failed) == ("d/shut", "failed", 1)
    assert end.error == "d/shut cannot be read as a picture: Permission denied"


def test_patterns():
    touch("d/b.jpg", "d/a.jpg", "d/c.mp4", "d/x/e.jpg", "d/x/y/f.jpg", "d/n.txt", "d/.h.jpg")
    assert names(["d/*.jpg"]) == ["d/a.jpg", "d/b.jpg"]
    assert names(["./d/?.mp4"]) == ["./d/c.mp4"]
    assert names(["d/[ac].*"]) == ["d/a.jpg", "d/c.mp4"]
    assert names(["d/**/*.jpg"]) == ["d/a.jpg", "d/b.jpg", "d/x/e.jpg", "d/x/y/f.jpg"]
    assert names(["**/x/*.jpg"]) == names(["d//**/e.jpg"]) == ["d/x/e.jpg"]
    assert names(["d/**/.h.jpg"]) == ["d/.h.jpg"]
    assert names(["d/**.mp4"]) == ["d/c.mp4"]  # one that is no part of its own is a *
    # Each file once, although ** matches the folders too.
    assert names(["d/x/**"]) == ["d/x/e.jpg", "d/x/y/f.jpg"]
    # As if the shell had done it: a folder is walked.
    assert names(["d/x*"]) == ["d/x/e.jpg", "d/x/y/f.jpg"]


def test_a_pattern_of_any_depth_leaves_results_out_unless_they_are_named(caplog):
    touch(
        "d/a.png", "d/x/out/journal.jsonl", "d/x/out/kept/1.png", "d/x/out/kept/2/3.png", "d/z.png"
    )
    assert names(["d/**/*.png"]) == names(["d/**/?.png"]) == names(["d"]) == ["d/a.png", "d/z.png"]
    told = os.path.normcase("d/x/out") + " is left out: results of blurgate filter"
    assert [r.getMessage() for r in caplog.records] == [told] * 3
    crops = ["d/x/out/kept/1.png", "d/x/out/kept/2/3.png"]
    for pattern in ("d/x/out/**/*.png", "./d/x/out/kept/**/*.png", "d/x/o*/**/*.png", "d/x/out"):
        assert [os.path.normpath(name) for name in names([pattern])] == list(
            map(os.path.normpath, crops)
        )


def test_a_folder_that_a_pattern_matches_is_not_named_by_it(caplog):
    touch("d/a.png", "d/out/journal.jsonl", "d/out/kept/1.png", "d/x/2.png")
    assert names(["d/*"]) == ["d/a.png", "d/x/2.png"]
    assert [r.getMessage() for r in caplog.records] == [
        os.path.normcase("d/out") + " is left out: results of blurgate filter"
    ]
    # Here results are gone into by name.
    assert names(["d/*/kept"]) == names(["d/*/kept/*.png"]) == ["d/out/kept/1.png"]
    with pytest.raises(InputError, match="nothing matches the pattern d/o"):
        names(["d/o*"])


def test_file_with_the_name_of_a_pattern_is_the_file():
    touch("a[1].jpg", "a1.jpg")
    assert names(["a[1].jpg"]) == ["a[1].jpg"]


def test_addresses_and_cameras():
    arguments = ["rtsp://user:pw@host/s?x=1", "https://host/*.mp4", "0"]
    assert names(arguments) == ["rtsp://***@host/s?x=1", *arguments[1:]]
    assert kinds(*arguments) == ["live"] * 3
    touch("0/a.jpg")  # a folder of that name is what is meant
    assert names(["0"]) == ["0/a.jpg"]


def test_kind_by_content_where_the_name_does_not_tell(media):
    picture("a.png")
    media.counting(Path("b.mp4"), 3)
    Path("a.png").rename("a.dat")
    Path("b.mp4").rename("b")
    Path("c.txt").write_text("no picture")
    assert kinds("a.dat", "b", "c.txt") == ["image", "video", "video"]
    items = list(read_sources(expand(["a.dat", "b", "c.txt"]), every=1, workers=1))
    ends = [item for item in items if isinstance(item, SourceEnd)]
    assert [end.status for end in ends] == ["ok", "ok", "failed"]
    assert ends[2].error.startswith("c.txt ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipe_is_not_looked_into():
    os.mkfifo("pipe")
    assert kinds("pipe") == ["video"]


def test_what_is_missing_is_told_at_once():
    touch("a.jpg", "empty/notes.txt")
    with pytest.raises(InputError, match=r"^none\.mp4: No such file or directory$") as error:
        expand(["a.jpg", "none.mp4"])
    assert error.value.source == "none.mp4"
    with pytest.raises(InputError, match=r"^nothing matches the pattern \*\.png$"):
        expand(["a.jpg", "*.png"])
    with pytest.raises(InputError, match=r"^empty holds no pictures or videos; "):
        expand(["a.jpg", "empty"])
    with pytest.raises(InputError, match="an empty name: No such file"):
        expand([""])
    with pytest.raises(InputError, match="null"):
        expand(["a\0"])


def test_list_on_standard_input():
    touch("a.jpg", "d/b.mp4", "d/c.jpg", "with space .jpg", "*.jpg")
    text = "a.jpg\n\nd\r\nwith space .jpg\nrtsp://host/1\n*.jpg\nlast.jpg"
    found = list(expand(["d/c.jpg", "-", "a.jpg"], stdin=io.StringIO(text)))
    assert found == [
        Source("d/c.jpg", "image"),
        Source("a.jpg", "image"),
        Source("d/b.mp4", "video"),
        Source("d/c.jpg", "image"),
        Source("with space .jpg", "image"),
        Source("rtsp://host/1", "live"),
        Source("*.jpg", "image"),
        Source("last.jpg", "image"),  # missing: its reading will fail
        Source("a.jpg", "image"),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_name():
    touch("a.jpg", "\ufeffb.jpg")
    found = list(expand(["-"], stdin=["\ufeffa.jpg\n", "\ufeffb.jpg\n"]))
    assert found == [Source("a.jpg", "image"), Source("\ufeffb.jpg", "image")]


@pytest.mark.parametrize("lines", [None, [], ["\n", "\n"], ["\ufeff"]])
def test_empty_list(lines):
    with pytest.raises(InputError, match="standard input holds no paths"):
        list(expand(["-"], stdin=lines))


def test_list_is_read_as_it_is_needed():
    touch("a.jpg")
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield "a.jpg\n"

    found = expand(["-"], stdin=endless())
    for _ in range(3):
        next(found)
    assert len(taken) <= 4


@posix_names
@pytest.mark.parametrize("name", [b"-x.jpg", b"a\nb.jpg", b"q'\"`$.jpg", b"\xff\xfe.jpg", b" .jpg"])
def test_odd_names_go_through(name):
    name = os.fsdecode(name)
    try:
        picture(f"d/{name}")
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error}")
    for argument in (f"d/{name}", "d", "d/*"):
        found = list(expand([argument]))
        assert found == [Source(f"d/{name}", "image")]
    frame, end = read_sources(found, every=1, workers=2)
    assert (frame.source, end.source, end.status) == (f"d/{name}",) * 2 + ("ok",)
    with pytest.raises(InputError) as error:
        expand([f"d/no{name}"])
    assert str(error.value).isprintable()


# Reading


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_pictures_and_videos_in_order(media, workers):
    media.counting(Path("v.mp4"), 6)
    arguments = [picture(f"p{i}.png", i * 9) for i in range(12)]
    arguments[4:4] = ["v.mp4", "v.mp4"]
    Path("p7.png").write_bytes(b"broken")
    items = list(read_sources(expand(arguments), every=2, workers=workers))
    told = [
        (item.source, item.index) if isinstance(item, Frame) else (item.source, item.status)
        for item in items
    ]
    wanted = []
    for argument in arguments:
        if argument == "v.mp4":
            wanted += [("v.mp4", 0), ("v.mp4", 2), ("v.mp4", 4), ("v.mp4", "ok")]
        elif argument == "p7.png":
            wanted += [("p7.png", "failed")]
        else:
            wanted += [(argument, 0), (argument, "ok")]
    assert told == wanted
    for item in items:
        if isinstance(item, Frame) and item.source != "v.mp4":
            assert item.image.min() == item.image.max() == int(item.source[1:-4]) * 9
            assert item.pts_s is None
    broken = next(item for item in items if item.source == "p7.png")
    assert (broken.frames, broken.frames_failed) == (0, 1)
    assert broken.error.startswith("p7.png is not a picture")
    ends = [item for item in items if isinstance(item, SourceEnd)]
    assert {end.source: end.frames for end in ends}["v.mp4"] == 6
    assert all(end.frames == 1 for end in ends if end.status == "ok" and end.source != "v.mp4")


def test_missing_file_fails_and_the_others_are_read():
    picture("a.png")
    listed = io.StringIO("gone.png\na.png\ngone.mp4\n")
    items = list(read_sources(expand(["-"], stdin=listed), every=1, workers=2))
    assert [(i.source, getattr(i, "status", "frame")) for i in items] == [
        ("gone.png", "failed"), ("a.png", "frame"), ("a.png", "ok"), ("gone.mp4", "failed"),
    ]  # fmt: skip
    assert "No such file" in items[0].error
    assert "No such file" in items[3].error


@pytest.mark.parametrize("workers", [1, 3])
def test_little_is_read_ahead(workers):
    picture("a.png")
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield Source("a.png", "image")

    stream = read_sources(endless(), every=1, workers=workers)
    for _ in range(10):
        next(stream)
    stream.close()
    assert len(asked) <= 5 + 2 * workers + 1


def test_stopping_early_stops_the_threads(media):
    media.counting(Path("v.mp4"), 40)
    picture("a.png")
    before = threading.active_count()
    for arguments in (["v.mp4"], ["a.png"] * 20):
        stream = read_sources(expand(arguments), every=1, workers=4)
        next(stream)
        stream.close()
        assert threading.active_count() == before


def test_an_error_of_our_own_is_not_taken_for_a_bad_picture(monkeypatch):
    picture("a.png")

    def broken(path):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(sources, "read_photo", broken)
    with pytest.raises(RuntimeError, match="a mistake"):
        list(read_sources(expand(["a.png"]), every=1, workers=2))
