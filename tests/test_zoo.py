from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from blurgate import catalogue, zoo
from blurgate.cards import MODEL_KINDS, read_card
from blurgate.catalogue import Manifest, Model, Pack
from blurgate.errors import ChecksumError, MissingModelError, UnknownNameError, WeightsError
from blurgate.hookspecs import hookimpl
from blurgate.host import BUILTIN, Host
from blurgate.interfaces import DetectorOptions, ModelInfo, Runtime

DETECTOR = b"a detector"
OWN = b"an embedder of our own"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Made(tuple[object, ...]):
    """What a factory was called with, as a model."""

    info = ModelInfo("made", "")
    threshold = 0.25


class Recorder:
    """A plugin whose factories give back what they were called with."""

    @hookimpl
    def register_detectors(self, register):
        register("scrfd", lambda *a: Made(("scrfd", *a)))
        register("other", lambda *a: Made(("other", *a)), aliases=("second",))

    @hookimpl
    def register_scorers(self, register):
        register("onnx", lambda *a: Made(("onnx", *a)))
        register("laplacian", lambda *a: Made(("laplacian", *a)))

    @hookimpl
    def register_embedders(self, register):
        register("arcface", lambda *a: Made(("arcface", *a)))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model folder, and a host that knows the recorder alone."""
    monkeypatch.setenv("BLURGATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    host = Host(dict.fromkeys(BUILTIN, ()), outside=False)
    host.add(Recorder(), "recorder")
    monkeypatch.setattr(zoo, "get_host", lambda: host)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manifest]:
    """A manifest of two detectors (one with a checksum), a scorer without weights, an embedder."""
    licence = "research only"
    manifest = Manifest(
        defaults={"detector": ["big", "det"], "scorer": ["laplacian"], "embedder": ["emb"]},
        models=(
            Model("laplacian", "scorer", "laplacian", "blurgate", "Apache-2.0"),
            Model("det", "detector", "scrfd", "vendor", licence, "det.onnx", len(DETECTOR),
                  digest(DETECTOR), aliases=("pack",), input={"size": [64, 64]}),
            Model("big", "detector", "other", "vendor", licence, "big.onnx"),
            Model("emb", "embedder", "arcface", "blurgate", "Apache-2.0", "emb.onnx", 4, "ff" * 32,
                  aliases=("pack",)),
        ),
        packs=(
            Pack("big", "big.onnx", ["big"]),
            Pack("pack", "pack.zip", ["det"], url="https://example.org/pack.zip"),
        ),
    )  # fmt: skip
    monkeypatch.setattr(catalogue, "get_manifest", lambda: manifest)
    return manifest


# --- the manifest that is shipped ---


def test_the_manifest_is_consistent():
    manifest = catalogue.get_manifest()
    names: set[tuple[str, str]] = set()
    for model in manifest.models:
        assert model.kind in MODEL_KINDS
        for name in (model.name, *model.aliases):
            assert (model.kind, name) not in names
            assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name)
            names.add((model.kind, name))
        assert model.licence
        assert read_card(model.card, "manifest").runner == model.runner
        if model.file:
            assert Path(model.file).name == model.file
            assert not model.file.startswith(".")
            assert re.fullmatch(r"[0-9a-f]{64}", model.sha256)
            assert model.bytes is not None
    files = [model.file for model in manifest.models if model.file]
    assert len(files) == len(set(files))
    for pack in manifest.packs:
        assert Path(pack.file).name == pack.file
        assert pack.url == "" or pack.url.startswith("https://")
        assert re.fullmatch(r"[0-9a-f]{64}", pack.sha256)
        for name in pack.models:
            assert any(model.name == name and model.file for model in manifest.models)
    for kind, defaults in manifest.defaults.items():
        assert all(manifest.find(kind, name) is not None for name in defaults)
    assert set(manifest.defaults) == set(MODEL_KINDS)


@pytest.mark.parametrize("text", ['{"models": [', '{"models": [], "packs": []}', "\udcff", None])
def test_a_damaged_list_of_models_says_what_mends_it(monkeypatch, tmp_path: Path, text):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text, "utf-8", "surrogateescape")
    monkeypatch.setattr(catalogue, "files", lambda package: tmp_path)
    with pytest.raises(ChecksumError, match=r"manifest.json .* run: pip install --force-reinstall"):
        catalogue.get_manifest.__wrapped__()


def test_runners_of_the_manifest_are_built_in_plugins():
    host = Host(outside=False)
    for model in catalogue.get_manifest().models:
        assert model.runner in host.registry(model.kind)
    for kind, runner in zoo.RUNNERS.items():
        assert runner in host.registry(kind)


@pytest.mark.shared
def test_the_pinned_scrfd_is_the_known_file(shared: Path, home: Path):
    source = shared / "data" / "weights" / "scrfd_2.5g_bnkps.onnx"
    (home / "scrfd_2.5g_bnkps.onnx").write_bytes(source.read_bytes())
    found = zoo.resolve("detector", "scrfd_2.5g")
    assert found is not None
    assert found.info.name == "scrfd_2.5g_bnkps"
    assert zoo.default_name("detector") == "scrfd_blurgate"  # ours comes first, others by name
    assert [row.name for row in zoo.models() if row.default and row.kind == "detector"] == [
        "scrfd_blurgate"
    ]


def test_a_pulled_detector_is_the_default_where_none_is_in_the_box(bare_zoo):
    folder = catalogue.models_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "det_500m.onnx").write_bytes(b"x")
    assert zoo.default_name("detector") == "det_500m"


def test_no_detector_names_both_ways_out(bare_zoo):
    with pytest.raises(MissingModelError) as caught:
        zoo.open_detector(None, Runtime(), DetectorOptions())
    assert "`blurgate models pull buffalo_sc`" in str(caught.value)
    assert "--detector path/to/scrfd.onnx" in str(caught.value)
    assert caught.value.exit_code == 5


def test_the_default_scorer_is_the_trained_one():
    runner, model, runtime = zoo.open_scorer(None, Runtime(device="cpu"))
    assert (runner, model.info.name, runtime) == (
        "onnx",
        "yolov5n_xx_relu.int8",
        Runtime(device="cpu"),
    )


def test_without_it_the_default_scorer_is_laplacian(bare_zoo):
    scorer = zoo.open_scorer(None, Runtime(device="cpu"))
    assert scorer == ("laplacian", None, Runtime(device="cpu"))


# --- names ---


def test_a_name_or_alias_of_the_manifest_gives_its_file_and_card(small, home: Path):
    (home / "det.onnx").write_bytes(DETECTOR)
    for name in ("det", "pack"):
        found = zoo.resolve("detector", name)
        assert found is not None
        assert found.path == home / "det.onnx"
        assert (found.info.name, found.info.sha256) == ("det", digest(DETECTOR))
        assert found.card["input"] == {"size": [64, 64]}
        assert found.card["runner"] == "scrfd"
    runtime, options = Runtime(device="cpu"), DetectorOptions(min_score=0.3)
    assert zoo.open_detector("det", runtime, options) == ("scrfd", found, runtime, options)


def test_a_runner_is_chosen_by_the_manifest(small, home: Path):
    (home / "big.onnx").write_bytes(b"x")
    assert zoo.open_detector("big", Runtime(), DetectorOptions())[0] == "other"


def test_the_first_default_that_is_present_is_used(small, home: Path):
    (home / "det.onnx").write_bytes(DETECTOR)
    assert zoo.default_name("detector") == "det"
    (home / "big.onnx").write_bytes(b"x")
    assert zoo.default_name("detector") == "big"


def test_a_known_model_that_is_absent_names_the_pull(small):
    with pytest.raises(MissingModelError, match=r"the detector det is not .*models pull pack$"):
        zoo.resolve("detector", "det")
    with pytest.raises(MissingModelError, match=r"models pull big --from FILE_OR_ADDRESS"):
        zoo.resolve("detector", "big")
    with pytest.raises(MissingModelError, match=r"pip install --force-reinstall"):
        zoo.resolve("embedder", "emb")


def test_a_changed_file_is_not_used(small, home: Path):
    (home / "det.onnx").write_bytes(DETECTOR + b"!")
    message = rf"det\.onnx is not det: its SHA-256 is {digest(DETECTOR + b'!')}, not .*pull pack"
    with pytest.raises(ChecksumError, match=message):
        zoo.resolve("detector", "det")


def test_a_recorded_checksum_is_enforced(small, home: Path):
    (home / "big.onnx").write_bytes(b"x")
    assert zoo.resolve("detector", "big") is not None
    lock = {"big.onnx": {"sha256": digest(b"y"), "bytes": 1, "source": "s"}}
    (home / catalogue.LOCK_NAME).write_text(json.dumps(lock))
    with pytest.raises(ChecksumError, match="is not big"):
        zoo.resolve("detector", "big")


@pytest.mark.parametrize("text", ["{", "[]", '{"big.onnx": {}}', '{"big.onnx": "x"}'])
def test_a_damaged_record_is_an_error_and_not_a_free_pass(small, home: Path, text):
    (home / "big.onnx").write_bytes(b"x")
    (home / catalogue.LOCK_NAME).write_text(text)
    with pytest.raises(ChecksumError, match=r"cannot read the recorded checksums in .*delete"):
        zoo.resolve("detector", "big")


def test_a_plugin_without_weights_has_no_file(small):
    assert zoo.resolve("scorer", "laplacian") is None
    assert zoo.resolve("detector", "second") is None
    assert zoo.open_detector("second", Runtime(), DetectorOptions())[:2] == ("other", None)


def test_an_unknown_name_lists_near_ones_of_its_kind(small, home: Path):
    (home / "mine.onnx").write_bytes(b"")
    with pytest.raises(UnknownNameError, match=r"no detector is called 'sdet'") as caught:
        zoo.resolve("detector", "sdet")
    assert "det" in caught.value.near
    with pytest.raises(UnknownNameError, match=r"did you mean 'laplacian'"):
        zoo.resolve("scorer", "laplacien")
    with pytest.raises(UnknownNameError, match=r"did you mean 'mine'"):
        zoo.resolve("detector", "mines")
    with pytest.raises(UnknownNameError):
        zoo.resolve("scorer", "det")


def test_a_folder_of_the_same_name_does_not_hide_a_model(small, tmp_path: Path):
    (tmp_path / "laplacian").mkdir()
    (tmp_path / "laplacian.onnx").write_bytes(b"")
    assert zoo.resolve("scorer", "laplacian") is None


# --- paths ---


def test_a_path_is_taken_as_it_is(tmp_path: Path):
    path = tmp_path / "sub" / "net.onnx"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    for name in (str(path), "sub/net.onnx", "./sub/net.onnx"):
        found = zoo.resolve("detector", name)
        assert found is not None
        assert found.path.samefile(path)
        assert (found.info.name, found.info.sha256) == ("net", digest(b"weights"))
        assert found.card == {}
    assert zoo.open_detector("sub/net.onnx", Runtime(), DetectorOptions())[0] == "scrfd"
    assert zoo.open_scorer("sub/net.onnx", Runtime())[0] == "onnx"
    assert zoo.open_embedder("sub/net.onnx", Runtime())[0] == "arcface"


def test_any_existing_file_is_a_path_when_no_model_has_the_name(tmp_path: Path):
    (tmp_path / "weights.bin").write_bytes(b"weights")
    found = zoo.resolve("detector", "weights.bin")
    assert found is not None
    assert found.path == Path("weights.bin")


def test_the_card_beside_a_path_names_it_and_its_runner(tmp_path: Path):
    (tmp_path / "net.onnx").write_bytes(b"weights")
    (tmp_path / "net.json").write_text('{"kind": "detector", "runner": "other", "name": "n1"}')
    found = zoo.resolve("detector", "net.onnx")
    assert found is not None
    assert found.info.name == "n1"
    assert zoo.open_detector("net.onnx", Runtime(), DetectorOptions())[:2] == ("other", found)
    with pytest.raises(WeightsError, match=r"net\.onnx is a detector by its card, and a scorer is"):
        zoo.resolve("scorer", "net.onnx")


def test_a_runner_that_nobody_registered_is_named(tmp_path: Path):
    (tmp_path / "net.onnx").write_bytes(b"weights")
    (tmp_path / "net.json").write_text('{"runner": "othr"}')
    with pytest.raises(
        UnknownNameError, match=r"no detector is called 'othr'; did you mean 'other'"
    ):
        zoo.open_detector("net.onnx", Runtime(), DetectorOptions())


@pytest.mark.parametrize("name", ["absent.onnx", "some/where", "models/"])
def test_a_path_that_is_not_a_file_is_named(name):
    with pytest.raises(WeightsError, match=r"the scorer file .* does not exist"):
        zoo.resolve("scorer", name)


# --- lists ---

KEYS = ["name", "kind", "origin", "present", "default", "bytes", "sha256", "licence", "threshold"]


def test_models_lists_exactly_the_promised_keys(small, home: Path):
    (home / "det.onnx").write_bytes(DETECTOR)
    (home / "mine.onnx").write_bytes(b"own")
    (home / "mine.json").write_text(
        '{"kind": "scorer", "threshold": 0.5, "licence": "MIT", "name": "other-name"}'
    )
    (home / "cardless.onnx").write_bytes(b"own")
    (home / "broken.onnx").write_bytes(b"own")
    (home / "broken.json").write_text("{")
    (home / ".half.onnx").write_bytes(b"what a pull has not finished")
    (home / ".half.json").write_text('{"kind": "scorer"}')
    rows = zoo.models()
    assert all(list(asdict(row)) == KEYS for row in rows)
    assert [entry.name for entry in fields(rows[0])] == KEYS
    assert [tuple(asdict(row).values()) for row in rows] == [
        ("laplacian", "scorer", "blurgate", True, True, 0, "", "Apache-2.0", 0.25),
        ("det", "detector", "vendor", True, True, 10, digest(DETECTOR), "research only", None),
        ("big", "detector", "vendor", False, False, None, "", "research only", None),
        ("emb", "embedder", "blurgate", False, False, 4, "ff" * 32, "Apache-2.0", None),
        ("mine", "scorer", "file", True, False, 3, digest(b"own"), "MIT", 0.5),
    ]
    found = zoo.resolve("scorer", "mine")
    assert found is not None
    assert found.path == home / "mine.onnx"


def test_verify_tells_the_states_apart(small, home: Path):
    (home / "det.onnx").write_bytes(DETECTOR)
    (home / "big.onnx").write_bytes(b"x")
    assert [(f.name, f.state) for f in zoo.verify()] == [("det", "ok"), ("big", "unrecorded")]
    assert [(f.name, f.state) for f in zoo.verify(["emb"])] == [("emb", "missing")]
    assert [f.name for f in zoo.verify(["pack", "det"])] == ["det"]
    (home / "det.onnx").write_bytes(b"other")
    (found,) = zoo.verify(["det"])
    assert found.state == "changed"
    assert found.mend == "run: blurgate models pull pack"
    assert digest(b"other") in found.detail
    with pytest.raises(UnknownNameError, match=r"no model is called 'dett'; did you mean 'det'"):
        list(zoo.verify(["dett"]))


def test_the_model_folder_is_the_users_data_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BLURGATE_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    folder = catalogue.models_folder()
    assert folder.parts[-2:] == ("blurgate", "models")
    monkeypatch.setenv("BLURGATE_HOME", "~/b")
    assert catalogue.models_folder() == Path.home() / "b" / "models"
