from __future__ import annotations

import functools
import hashlib
import io
import json
import random
import subprocess
import sys
import threading
import time
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from blurgate import catalogue, packs, zoo
from blurgate.catalogue import Manifest, Model, Pack
from blurgate.errors import (
    ChecksumError,
    ConfigError,
    MissingModelError,
    UnknownNameError,
    WeightsError,
)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


DETECTOR, EMBEDDER = b"detector" * 1000, b"embedder" * 2000


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return memory.getvalue()


def from_the_future(archive: bytes) -> bytes:
    """Say in the first entry of its directory that version 9.9 of zip is needed."""
    at = archive.index(b"PK\1\2") + 6
    return archive[:at] + b"\x63" + archive[at + 1 :]


GOOD = zipped({"det.onnx": DETECTOR, "readme.txt": b"x", "emb.onnx": EMBEDDER})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLURGATE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


def install_manifest(monkeypatch, archive: bytes, *, pinned: bool, url: str = "") -> Pack:
    """A manifest with one pack of two models, with or without checksums."""

    def sums(data: bytes) -> dict[str, object]:
        return {"bytes": len(data), "sha256": digest(data)} if pinned else {}

    models = (
        Model("det", "detector", "scrfd", "vendor", "research", "det.onnx", **sums(DETECTOR)),
        Model("emb", "embedder", "arcface", "vendor", "research", "emb.onnx", **sums(EMBEDDER)),
        Model("own", "scorer", "onnx", "blurgate", "Apache-2.0", "own.onnx", 1, "00"),
    )
    pack = Pack("pack", "pack.zip", ["det", "emb"], url, **sums(archive))
    manifest = Manifest({"detector": ["det"]}, models, (pack,))
    monkeypatch.setattr(catalogue, "get_manifest", lambda: manifest)
    return pack


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The address of tmp_path/site on a local server; it knows no ranges."""
    monkeypatch.setenv("no_proxy", "*")
    (site := tmp_path / "site").mkdir()
    handler = functools.partial(QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_pack_is_installed_from_a_server(address, tmp_path: Path, folder: Path, monkeypatch):
    pack = install_manifest(monkeypatch, GOOD, pinned=True)
    with pytest.raises(MissingModelError, match=r"/pack\.zip: the server answers 404"):
        packs.pull(pack, f"{address}/pack.zip")
    (tmp_path / "site" / "pack.zip").write_bytes(GOOD)
    installed = packs.pull(pack, f"{address}/pack.zip?token=1")
    assert left(folder) == ["det.onnx", "emb.onnx"]
    assert (folder / "det.onnx").read_bytes() == DETECTOR
    assert (folder / "emb.onnx").read_bytes() == EMBEDDER
    assert [(m.name, m.kind, m.path, m.sha256, m.recorded) for m in installed] == [
        ("det", "detector", folder / "det.onnx", digest(DETECTOR), False),
        ("emb", "embedder", folder / "emb.onnx", digest(EMBEDDER), False),
    ]
    assert packs.is_installed(pack)
    assert [f.state for f in zoo.verify()] == ["ok", "ok"]


def test_the_manifests_address_is_not_plain_http(address, folder: Path, monkeypatch):
    pack = install_manifest(monkeypatch, GOOD, pinned=True, url=f"{address}/pack.zip")
    with pytest.raises(ConfigError, match=r"the address must be https://"):
        packs.pull(pack)


def test_what_a_killed_pull_left_is_written_over(tmp_path: Path, folder: Path, monkeypatch):
    pack = install_manifest(monkeypatch, GOOD, pinned=True)
    (tmp_path / "pack.zip").write_bytes(GOOD)
    folder.mkdir(parents=True)
    (folder / "det.onnx.tmp").write_bytes(DETECTOR[:100])
    packs.pull(pack, str(tmp_path / "pack.zip"))
    assert left(folder) == ["det.onnx", "emb.onnx"]


def test_a_damaged_model_is_mended_by_another_pull(tmp_path: Path, folder: Path, monkeypatch):
    pack = install_manifest(monkeypatch, GOOD, pinned=True)
    (source := tmp_path / "p.zip").write_bytes(GOOD)
    packs.pull(pack, str(source))
    (folder / "det.onnx").write_bytes(b"damaged")
    assert not packs.is_installed(pack)
    packs.pull(pack, str(source))
    assert packs.is_installed(pack)


def test_the_first_pull_is_recorded_and_enforced_ever_after(tmp_path, folder, monkeypatch):
    pack = install_manifest(monkeypatch, GOOD, pinned=False)
    (source := tmp_path / "p.zip").write_bytes(GOOD)
    assert [m.recorded for m in packs.pull(pack, str(source))] == [True, True]
    lock = json.loads((folder / catalogue.LOCK_NAME).read_text())
    assert {name: entry["sha256"] for name, entry in lock.items()} == {
        "pack.zip": digest(GOOD),
        "det.onnx": digest(DETECTOR),
        "emb.onnx": digest(EMBEDDER),
    }
    assert lock["det.onnx"]["bytes"] == len(DETECTOR)
    assert lock["det.onnx"]["source"] == str(source)
    assert packs.is_installed(pack)
    assert packs.pull(pack, str(source))
    source.write_bytes(zipped({"det.onnx": b"other", "emb.onnx": EMBEDDER}))
    with pytest.raises(ChecksumError, match="it was changed; nothing was kept"):
        packs.pull(pack, str(source))
    assert (folder / "det.onnx").read_bytes() == DETECTOR
    assert json.loads((folder / catalogue.LOCK_NAME).read_text()) == lock


def test_a_recorded_member_is_enforced_in_another_archive(tmp_path, folder, monkeypatch):
    pack = install_manifest(monkeypatch, GOOD, pinned=False)
    (source := tmp_path / "p.zip").write_bytes(GOOD)
    packs.pull(pack, str(source))
    other = Pack("pack2", "pack2.zip", ["det"])
    source.write_bytes(zipped({"det.onnx": b"other"}))
    with pytest.raises(ChecksumError, match=rf"det\.onnx in pack2\.zip .* {digest(b'other')}"):
        packs.pull(other, str(source))
    assert (folder / "det.onnx").read_bytes() == DETECTOR


BAD = zipped({"det.onnx": DETECTOR, "emb.onnx": EMBEDDER[:-1] + b"!"})


def test_nothing_is_installed_when_one_member_is_wrong(tmp_path: Path, folder: Path, monkeypatch):
    pack = install_manifest(monkeypatch, BAD, pinned=True)
    (source := tmp_path / "p.zip").write_bytes(BAD)
    with pytest.raises(ChecksumError, match=r"emb\.onnx in pack\.zip .*nothing was installed"):
        packs.pull(pack, str(source))
    assert left(folder) == []


def test_a_member_that_unpacks_to_more_than_promised_is_stopped(tmp_path, folder, monkeypatch):
    bomb = zipped({"det.onnx": bytes(50_000_000), "emb.onnx": EMBEDDER})
    assert len(bomb) < 100_000
    pack = install_manifest(monkeypatch, bomb, pinned=True)
    (source := tmp_path / "p.zip").write_bytes(bomb)
    with pytest.raises(ChecksumError, match=r"det\.onnx in pack\.zip has over 8000 bytes"):
        packs.pull(pack, str(source))
    assert left(folder) == []


def test_no_name_in_an_archive_becomes_a_path(tmp_path: Path, folder: Path, monkeypatch):
    evil = zipped(
        {
            "../../../escaped.onnx": b"x",
            "/tmp/absolute.onnx": b"x",
            "..\\..\\back.onnx": b"x",
            "a/b/../../../det.onnx": DETECTOR,
            "sub/emb.onnx": EMBEDDER,
        }
    )
    pack = install_manifest(monkeypatch, evil, pinned=True)
    (source := tmp_path / "p.zip").write_bytes(evil)
    packs.pull(pack, str(source))
    assert left(folder) == ["det.onnx", "emb.onnx"]
    everything = {path.name for path in tmp_path.rglob("*") if path.suffix != ".lock"}
    assert everything == {"p.zip", "home", "models", "det.onnx", "emb.onnx"}


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"this is not a zip", r"pack\.zip is not a usable zip archive"),
        (GOOD[:-40], r"pack\.zip is not a usable zip archive"),
        (zipped({"det.onnx": DETECTOR}), r"pack\.zip holds 0 files called emb\.onnx and not one"),
        (zipped({"det.onnx": b"", "a/det.onnx": b""}), r"holds 2 files called det\.onnx"),
        (zipped({"det.onnx": b"x"}, zipfile.ZIP_LZMA), r"encrypted or packed in an unusual way"),
        (from_the_future(GOOD), r"pack\.zip is not a usable zip archive: zip file version 9\.9"),
    ],
    # Archives hold the time; pytest 8 makes names of them, and two processes then see other tests.
    ids=["no zip", "cut off", "one missing", "two of one name", "LZMA", "from the future"],
)
def test_an_unusable_archive_installs_nothing(tmp_path, folder, monkeypatch, archive, message):
    pack = install_manifest(monkeypatch, archive, pinned=False)
    (source := tmp_path / "p.zip").write_bytes(archive)
    with pytest.raises(WeightsError, match=message):
        packs.pull(pack, str(source))
    assert left(folder) == []


def test_an_encrypted_member_is_refused(tmp_path: Path, folder: Path, monkeypatch):
    data = bytearray(zipped({"det.onnx": DETECTOR, "emb.onnx": EMBEDDER}))
    data[data.index(b"PK\x01\x02") + 8] |= 1  # general purpose flag, bit 0, of the first entry
    pack = install_manifest(monkeypatch, bytes(data), pinned=False)
    (source := tmp_path / "p.zip").write_bytes(data)
    with pytest.raises(WeightsError, match="encrypted or packed in an unusual way"):
        packs.pull(pack, str(source))
    assert left(folder) == []


def test_a_member_with_flipped_bits_is_refused(tmp_path: Path, folder: Path, monkeypatch):
    data = bytearray(zipped({"det.onnx": DETECTOR, "emb.onnx": EMBEDDER}, zipfile.ZIP_STORED))
    data[data.index(b"detectordetector") + 5] ^= 1
    pack = install_manifest(monkeypatch, bytes(data), pinned=False)
    (source := tmp_path / "p.zip").write_bytes(data)
    with pytest.raises(WeightsError, match=r"is not a usable zip archive: Bad CRC-32"):
        packs.pull(pack, str(source))
    assert left(folder) == []


def test_a_single_file_is_a_pack_too(tmp_path: Path, folder: Path, monkeypatch):
    install_manifest(monkeypatch, GOOD, pinned=True)
    pack = Pack("det", "det.onnx", ["det"], bytes=len(DETECTOR), sha256=digest(DETECTOR))
    (source := tmp_path / "whatever.bin").write_bytes(DETECTOR)
    packs.pull(pack, str(source))
    assert left(folder) == ["det.onnx"]
    assert (folder / "det.onnx").read_bytes() == DETECTOR


def test_a_pack_without_an_address_asks_for_one(folder: Path, monkeypatch):
    pack = install_manifest(monkeypatch, GOOD, pinned=True)
    with pytest.raises(ConfigError, match=r"run: blurgate models pull pack --from FILE_OR_ADDR"):
        packs.pull(pack)


def test_a_model_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch):
    (tmp_path / "home").write_text("a file where a folder is needed")
    monkeypatch.setenv("BLURGATE_HOME", str(tmp_path / "home"))
    pack = install_manifest(monkeypatch, GOOD, pinned=True)
    with pytest.raises(MissingModelError, match=r"cannot write to the model folder .*home"):
        packs.pull(pack, str(tmp_path / "p.zip"))


def test_packs_are_found_by_their_name_or_a_models(monkeypatch):
    pack = install_manifest(monkeypatch, GOOD, pinned=True)
    assert packs.pack_called("pack") == pack
    assert packs.pack_called("emb") == pack
    with pytest.raises(UnknownNameError, match=r"no model pack is called 'packk'; did you mean"):
        packs.pack_called("packk")
    with pytest.raises(ConfigError, match="own comes with blurgate"):
        packs.pack_called("own")


PULL = """
import sys
from blurgate import catalogue, packs
from blurgate.catalogue import Manifest, Model, Pack
models = tuple(Model(n, "detector", "scrfd", "vendor", "x", n + ".onnx") for n in ("det", "emb"))
pack = Pack("pack", "pack.zip", ["det", "emb"])
catalogue.get_manifest = lambda manifest=Manifest({}, models, (pack,)): manifest
print("ready", flush=True)
sys.stdin.readline()
packs.pull(pack, sys.argv[1])
"""


def test_two_pulls_at_once_give_one_good_file(address, tmp_path: Path, folder: Path, monkeypatch):
    """Nobody promises a checksum here, so that a torn file would be taken, and recorded."""
    noise = random.Random(1)
    members = {name: noise.randbytes(300_000) for name in ("det.onnx", "emb.onnx")}
    (tmp_path / "site" / "pack.zip").write_bytes(zipped(members))
    sending, most = [], []

    def slowly(handler, source, target):
        sending.append(handler)
        most.append(len(sending))
        *pieces, last = iter(lambda: source.read(1 << 13), b"")
        for piece in pieces:
            target.write(piece)
            time.sleep(0.002)
        sending.remove(handler)  # before the next one can begin
        target.write(last)

    monkeypatch.setattr(QuietHandler, "copyfile", slowly)
    pulls = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", PULL, f"{address}/pack.zip"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    for pull in pulls:
        assert pull.stdout.readline() == "ready\n"
    for pull in pulls:
        pull.stdin.write("go\n")
        pull.stdin.flush()
    for pull in pulls:
        _, err = pull.communicate(timeout=100)
        assert pull.returncode == 0, err
    assert most == [1, 1, 1], "two wrote into one part"
    assert left(folder) == sorted([*members, catalogue.LOCK_NAME])
    lock = json.loads((folder / catalogue.LOCK_NAME).read_text())
    for name, data in members.items():
        assert (folder / name).read_bytes() == data
        assert lock[name]["sha256"] == digest(data)
