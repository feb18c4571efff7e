from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from blurgate import catalogue
from blurgate.catalogue import Manifest, Model, Pack
from blurgate.cli import models as command
from blurgate.errors import BlurgateError, ConfigError

DATA = b"detector" * 1000


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def archive(data: bytes = DATA) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file:
        file.writestr(zipfile.ZipInfo("det.onnx"), data)
    return memory.getvalue()


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register_commands(app)
    return app


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLURGATE_HOME", str(tmp_path))
    return tmp_path / "models"


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest with one pack; gives the path of its archive."""
    licence = "research only"
    det = Model("det", "detector", "scrfd", "vendor", licence, "det.onnx", len(DATA), digest(DATA))
    loose = Model("loose", "detector", "scrfd", "vendor", licence, "loose.onnx")
    packs = (
        Pack("p", "p.zip", ["det"], "https://example.org/p.zip?key=s3cr3t", len(archive()),
             digest(archive()), "a note"),
        Pack("q", "q.onnx", ["loose"], "https://example.org/q.onnx"),
        Pack("r", "r.onnx", ["loose"], note="on paper only"),
    )  # fmt: skip
    manifest = Manifest({"detector": ["det"]}, (det, loose), packs)
    monkeypatch.setattr(catalogue, "get_manifest", lambda: manifest)
    (path := tmp_path / "p.zip").write_bytes(archive())
    return path


def run(app: typer.Typer, *arguments: str, **options):
    return CliRunner().invoke(app, ["models", *arguments], **options)


def error_of(result) -> BlurgateError:
    assert isinstance(result.exception, BlurgateError), result.output
    return result.exception


def test_json_is_the_contract(app):
    result = run(app, "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    keys = [
        "name",
        "kind",
        "origin",
        "present",
        "default",
        "bytes",
        "sha256",
        "licence",
        "threshold",
    ]
    assert all(list(row) == keys for row in rows)
    by_name = {row["name"]: row for row in rows}
    defaults = {row["kind"]: row["name"] for row in rows if row["default"]}
    assert defaults == {"detector": "scrfd_blurgate", "scorer": "yolov5n_xx_relu.int8"}
    assert by_name["laplacian"]["default"] is False
    assert by_name["laplacian"]["threshold"] == 0.4
    assert by_name["det_500m"] == {
        "name": "det_500m",
        "kind": "detector",
        "origin": "insightface",
        "present": False,
        "default": False,
        "bytes": 2524817,
        "sha256": "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a",
        "licence": "InsightFace models: non-commercial research only",
        "threshold": None,
    }
    assert result.stderr == ""


def test_the_table_is_for_people(app, folder: Path):
    result = run(app)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "NAME",
        "KIND",
        "ORIGIN",
        "HERE",
        "DEFAULT",
        "SIZE",
        "THRESHOLD",
        "LICENCE",
    ]
    (line,) = [line for line in lines if line.startswith("w600k_mbf")]
    assert line.split()[:5] == ["w600k_mbf", "embedder", "insightface", "no", "13.6"]
    assert str(folder) in result.stderr


def test_a_card_cannot_forge_the_table_or_reach_the_terminal(app, folder: Path):
    folder.mkdir()
    (folder / "own.onnx").write_bytes(b"")
    for licence in ("L\x1b[2J\nforged", "\u202eL", "\ud800"):
        card = {"kind": "scorer", "licence": licence}
        (folder / "own.json").write_text(json.dumps(card))
        (line,) = (line for line in run(app).stdout.splitlines() if line.startswith("own "))
        assert line.endswith(repr(licence))


def test_a_pull_shows_size_and_licence_and_installs(app, pack: Path, folder: Path):
    result = run(app, "pull", "p", "--from", str(pack), "--yes")
    assert result.exit_code == 0, result.output
    assert (folder / "det.onnx").read_bytes() == DATA
    assert "p: 8.1 kB from" in result.stderr
    assert "licence: research only" in result.stderr
    assert "note: a note" in result.stderr
    path = folder / "det.onnx"
    assert result.stdout == f"det  {path}  sha256 {digest(DATA)} (as promised)\n"
    again = run(app, "pull", "p")
    assert again.exit_code == 0
    assert (again.stdout, again.stderr) == ("", "p is already here\n")


def test_a_first_pull_without_a_public_checksum_says_so(app, pack: Path, folder: Path):
    result = run(app, "pull", "q", "--from", str(pack), "--yes")
    assert result.exit_code == 0, result.output
    assert "checksum: none is public; this pull's is recorded and enforced" in result.stderr
    assert result.stdout.endswith("(recorded at this first pull)\n")
    assert digest(archive()) in result.stdout
    pack.write_bytes(b"other")
    (folder / "loose.onnx").unlink()
    assert "it was changed" in str(error_of(run(app, "pull", "q", "--from", str(pack), "-y")))


def test_without_a_terminal_the_licence_is_not_accepted(app, pack: Path, folder: Path):
    result = run(app, "pull", "p", "--from", str(pack), input="y\n")
    error = error_of(result)
    assert isinstance(error, ConfigError)
    assert error.exit_code == 2
    assert f"run: blurgate models pull p --from {pack} --yes" in str(error)
    assert "licence: research only" in result.stderr
    assert not folder.exists()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "accepted"), [("y", True), ("n", False), ("", False)])
def test_at_a_terminal_the_licence_is_asked_for(
    app, pack: Path, folder: Path, monkeypatch, answer, accepted
):
    monkeypatch.setattr(command.sys, "stdin", _Terminal())
    asked: list[str] = []

    def confirm(text: str, *, err: bool) -> bool:
        asked.append(text)
        assert err  # stdout is for data
        return answer == "y"

    monkeypatch.setattr(command.typer, "confirm", confirm)
    context = CliRunner()
    monkeypatch.setattr(context, "invoke", None)
    if accepted:
        command.pull_models(["p"], source=str(pack))
        assert (folder / "det.onnx").exists()
    else:
        with pytest.raises(ConfigError, match="the licence was not accepted; nothing was fetched"):
            command.pull_models(["p"], source=str(pack))
        assert not folder.exists()
    assert asked == ["Accept the licence and fetch?"]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["pp"], r"no model pack is called 'pp'", 2),
        (["r"], r"r has no lasting public address \(on paper only\)", 2),
        (["p", "q", "--from", "x", "--yes"], r"--from goes with one NAME", 2),
        (["p", "--from", "ftp://h/x", "--yes"], r"cannot fetch ftp://h/x", 2),
        (["p", "--from", "file:///etc/passwd", "--yes"], r"cannot fetch file:///etc/passwd", 2),
        (["p", "--from", "absent.zip", "--yes"], r"cannot copy absent\.zip", 5),
    ],
)
def test_a_pull_that_cannot_be(app, pack, folder, arguments, message, code):
    error = error_of(run(app, "pull", *arguments))
    assert error.exit_code == code
    with pytest.raises(BlurgateError, match=message):
        raise error


def test_a_tampered_archive_is_refused(app, pack: Path, folder: Path):
    data = bytearray(pack.read_bytes())
    data[100] ^= 1
    pack.write_bytes(data)
    error = error_of(run(app, "pull", "p", "--from", str(pack), "--yes"))
    assert error.exit_code == 5
    assert "it was changed; nothing was kept" in str(error)
    assert list(folder.iterdir()) == []


def test_secrets_of_an_address_are_not_shown(app, pack: Path):
    assert "s3cr3t" not in run(app, "pull", "p").output
    for address in ("https://me:s3cr3t@example.org/p.zip", "https://example.org/p.zip?key=s3cr3t"):
        refused = run(app, "pull", "p", "--from", address)
        assert "s3cr3t" not in refused.output
        assert str(error_of(refused)).endswith("pull p --from ADDRESS --yes")


def test_verify_names_the_mending_command(app, pack: Path, folder: Path):
    run(app, "pull", "p", "--from", str(pack), "--yes")
    good = run(app, "verify")
    assert good.exit_code == 0
    assert good.stdout == f"ok          det  {folder / 'det.onnx'}\n"
    (folder / "det.onnx").write_bytes(b"damaged")
    bad = run(app, "verify", "det")
    assert bad.stdout.startswith("changed     det  ")
    error = error_of(bad)
    assert error.exit_code == 5
    assert str(error).endswith("run: blurgate models pull p")
    (folder / "det.onnx").unlink()
    assert run(app, "verify").stdout == ""
    missing = error_of(run(app, "verify", "p"))
    assert missing.exit_code == 5
    assert str(missing) == "det: missing; run: blurgate models pull p"


def test_verify_warns_of_a_file_that_nobody_vouches_for(app, pack: Path, folder: Path):
    folder.mkdir()
    (folder / "loose.onnx").write_bytes(b"x")
    result = run(app, "verify")
    assert result.exit_code == 0
    assert result.stdout.startswith("unrecorded  loose  ")
    assert f"nobody has promised the checksum of {folder / 'loose.onnx'}" in result.stderr
