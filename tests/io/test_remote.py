"""Sources behind fsspec addresses give what the same files on the disk give."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blurgate.errors import DecodeError, EnvironmentLackError, InputError
from blurgate.io import remote
from blurgate.io.address import holds_secret, is_live, masked
from blurgate.io.images import read_image
from blurgate.io.reduced import read_photo
from blurgate.io.remote import is_remote
from blurgate.io.sources import expand, read_sources
from blurgate.io.video import read_video
from blurgate.types import Frame, SourceEnd

fsspec = pytest.importorskip("fsspec")

FILES = [
    "d/a.jpg", "d/a/1.jpg", "d/a/2.png", "d/a-1.jpg", "d/a.b/x.mp4", "d/B.png", "d/.hidden/x.jpg",
    "d/note.txt", "d/picture",
]  # fmt: skip


@pytest.fixture
def tree(tmp_path):
    """The same files in a folder and in memory."""
    memory = fsspec.filesystem("memory")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8))
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".jpg", ".png", "picture")):
            image.save(path, "JPEG" if name.endswith("jpg") else "PNG")
        else:
            path.write_bytes(b"")
        memory.pipe_file(f"/{name}", path.read_bytes())
    yield tmp_path
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def found(*arguments):
    return [(source.name, source.kind) for source in expand(arguments)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("s3://bucket/a.jpg", True), ("gs://b/x", True), ("hdfs://h:9/x", True),
        ("memory://a", True), ("file:///a", True), ("rtsp://door/1", False),
        ("HTTPS://x/y.jpg", False), ("a/b.jpg", False), (r"C:\a.jpg", False), ("c://a", False),
        ("udp://1.2.3.4", False),
    ],
)  # fmt: skip
def test_what_is_an_address_and_what_a_stream(name, expected):
    assert is_remote(name) == expected
    assert not (is_remote(name) and is_live(name))


@pytest.mark.parametrize("argument", ["d", "d/", "d/*", "d/**/*.jpg", "d/a/?.png", "d/picture"])
def test_addresses_are_found_like_files(tree, monkeypatch, argument):
    monkeypatch.chdir(tree)
    local = [(name.replace("//", "/"), kind) for name, kind in found(argument)]
    there = [
        (n.removeprefix("memory://").replace("//", "/"), k)
        for n, k in found(f"memory://{argument}")
    ]
    assert there == [item for item in local if ".hidden" not in item[0]]
    assert there
    folder = tree.as_uri()
    again = [
        (name.removeprefix(f"{folder}/").replace("//", "/"), k)
        for name, k in found(f"{folder}/{argument}")
    ]
    assert again == there


def test_what_is_not_there(tree):
    with pytest.raises(InputError, match="nothing matches the pattern memory://d/z"):
        list(expand(["memory://d/z*.png"]))
    with pytest.raises(InputError, match="memory://nowhere: No such file or directory"):
        list(expand(["memory://nowhere"]))
    (frame,) = read_sources(expand(["memory://d/none.jpg"]), every=1, workers=1)
    assert isinstance(frame, SourceEnd)
    assert frame.status == "failed"
    assert frame.error == "memory://d/none.jpg cannot be read: No such file or directory"


def test_pixels_are_those_of_the_file(tree):
    for name in ("d/a.jpg", "d/a/2.png"):
        np.testing.assert_array_equal(read_image(f"memory://{name}"), read_image(tree / name))
        there, here = read_photo(f"memory://{name}"), read_photo(str(tree / name))
        assert type(there) is type(here)
        image = Frame(there, "x", 0, None).image
        np.testing.assert_array_equal(image, Frame(here, "x", 0, None).image)


def test_a_photo_is_fetched_once(tree, monkeypatch):
    fetched = []
    cat_file = type(fsspec.filesystem("memory")).cat_file

    def counted(self, path, **options):
        fetched.append(path)
        return cat_file(self, path, **options)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", counted)
    photo = read_photo("memory://d/a.jpg")
    assert Frame(photo, "x", 0, None).image.shape == (1200, 1600, 3)
    assert fetched == ["/d/a.jpg"]


def test_a_picture_that_is_too_large_is_not_fetched(tree):
    with pytest.raises(DecodeError, match="larger than 0 MiB"):
        remote.fetch("memory://d/a.jpg", most=1000)


def test_a_list_costs_no_request_per_name(tree, monkeypatch):
    def never(self, path, **options):
        raise AssertionError(path)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", never)
    listed = [f"memory://x/{i}.jpg" for i in range(5)]
    assert [source.name for source in expand(["-"], stdin=listed)] == listed


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_a_video_is_read_through_the_file_system(tmp_path, protocol):
    sample = Path(__file__).parents[2] / "examples/sample.mp4"
    address = sample.as_uri()
    if protocol == "memory":
        fsspec.filesystem("memory").pipe_file("/clip.mp4", sample.read_bytes())
        address = "memory://clip.mp4"
    here, there = list(read_video(str(sample), every=20)), list(read_video(address, every=20))
    assert len(here) == len(there) > 3
    for one, other in zip(here, there, strict=True):
        if isinstance(one, SourceEnd):
            assert (one.status, one.frames) == (other.status, other.frames)
            assert other.source == address
        else:
            assert (one.index, one.pts_s) == (other.index, other.pts_s)
            np.testing.assert_array_equal(one.image, other.image)
    (end,) = read_video("memory://no.mp4")
    assert end.error == "memory://no.mp4 cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("sftp://me:s3cr3t@host/a.jpg", "sftp://me:***@host/a.jpg"),
        ("sftp://me:s3@cr3t@host/a@b.mp4", "sftp://me:***@host/a@b.mp4"),
        ("zip://a.mp4::sftp://me:s3cr3t@host/b.zip", "zip://a.mp4::sftp://me:***@host/b.zip"),
        ("webhdfs://host:9870/a.mp4?token=s3cr3t&x=1", "webhdfs://host:9870/a.mp4?token=***&x=1"),
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_shown(address, shown):
    with pytest.raises(InputError, match="holds a password or token") as refusal:
        list(expand([address]))
    assert "s3cr3t" not in str(refusal.value)
    (source,) = expand(["-"], stdin=[address])
    assert source.name == shown
    assert "s3cr3t" not in repr(source)
    (end,) = read_sources([source], every=1, workers=1)
    assert (end.source, end.status) == (shown, "failed")
    assert "holds a password or token" in end.error


@pytest.mark.parametrize(
    "address",
    [
        "file:///h/user=alice/clip.mp4", "memory://d/a@b.mp4", "hdfs://h:9000/x@y.mp4",
        "zip://a.mp4::file:///x@y.zip", "s3://b/a.mp4?versionId=3", "file:///***@b.mp4",
        "s3://arn:aws:s3:eu-west-1:1:accesspoint/n/me@b.mp4",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_secret_is_part_of_a_name(address):
    assert masked(address) == address
    assert not holds_secret(address)


def test_what_lacks_is_named_with_the_way_out(monkeypatch):
    with pytest.raises(InputError, match="not an address that fsspec knows"):
        list(expand(["nosuch://a/b"]))
    with pytest.raises(InputError, match="holds a password"):
        list(expand(["sftp://me:secret@host/a.jpg"]))
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(EnvironmentLackError, match="pip install s3fs"):
        list(expand(["s3://bucket/a.jpg"]))
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(EnvironmentLackError, match=r'pip install "blurgate\[remote\]"'):
        list(expand(["s3://bucket/a.jpg"]))
