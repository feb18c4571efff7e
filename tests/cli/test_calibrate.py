"""`blurgate calibrate` end to end, on pictures that the tests draw, and `filter --profile`."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("tiny_plugin")


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    monkeypatch.setattr(cv2, "setNumThreads", lambda n: None)  # it is the whole process's


@pytest.fixture(scope="module")
def drawn(tiny, tmp_path_factory):
    """24 people with four crops each, of which every fourth one is soft."""
    folder = tmp_path_factory.mktemp("drawn") / "people"
    rng = np.random.default_rng(0)
    for person in range(24):
        base = 0.55 * tiny.draw(112, 99) + 0.45 * tiny.draw(112, person)
        for number in range(4):
            photo = (base + rng.normal(0, 12, base.shape)).clip(0, 255).astype(np.uint8)
            if number == 3:
                photo = cv2.GaussianBlur(photo, (0, 0), 0.2 + 0.8 * person)
            path = folder / f"p{person:02}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), photo)
    return folder


@pytest.fixture
def calibrate(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run_calibrate(*arguments):
        common = ("--model", "laplacian", "--embedder", "tiny", "--bootstrap", 60, "--workers", 1)
        return run("calibrate", *arguments, *common)

    return run_calibrate


def profile(path="profile.json"):
    return json.loads(Path(path).read_text())


def test_a_keep_rate_needs_no_embedder(run, drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLURGATE_HOME", str(tmp_path))
    common = ("calibrate", drawn, "--model", "laplacian", "--workers", 2)
    ran = run(*common, "--keep-rate", 0.75, "--review", 0.01, "--min-face", 20)
    assert (ran.code, ran.out) == (0, "")
    made = profile()
    scored = run("score", drawn, "--aligned", "--model", "laplacian", "--quiet")
    rows = [line.split(",") for line in scored.out.splitlines()]
    degrees = sorted(float(row[rows[0].index("blur_degree")]) for row in rows[1:])
    assert len(degrees) == 96
    assert made["threshold"] == degrees[71]  # 72 of 96 are kept, the very numbers of `score`
    assert made["ci"][0] <= made["threshold"] <= made["ci"][1]
    assert made["target"] == {"share": 0.75, "kind": "keep-rate"}
    assert made["n"] == {"faces": 96, "identities": 24, "replicates": 1000}
    assert made["model"] == {"name": "laplacian", "sha256": ""}
    assert (made["embedder"], made["review"], made["min_face"]) == (None, 0.01, 20)
    assert "keeps 75.0% of the faces" in ran.err
    assert "profile in profile.json" in ran.err
    again = run(*common, "--keep-rate", 0.75)
    assert again.code == 2
    assert "profile.json is there already; use --overwrite, or another --out" in again.err
    same = run(*common, "--keep-rate", 0.75, "--overwrite", "--quiet", "--json")
    assert (same.code, same.err) == (0, "")
    assert json.loads(same.out)["ci"] == made["ci"]


@pytest.mark.parametrize("there", [b"\xff\xd8 a photo", b"[1, 2]", b'{"name": "x"}'])
def test_only_profiles_are_replaced(run, tmp_path, there):
    kept = tmp_path / "kept.json"
    kept.write_bytes(there)
    ran = run("calibrate", "faces", "--keep-rate", 0.5, "--overwrite", "--out", kept)
    assert ran.code == 2
    assert str(kept) in ran.err.replace("\n", "")
    assert "choose another --out" in " ".join(ran.err.split())
    assert kept.read_bytes() == there


def test_a_profile_of_another_schema_may_be_replaced(run, drawn, tmp_path):
    old = tmp_path / "old.json"
    old.write_text('{"schema": 0}')
    common = ("calibrate", drawn, "--model", "laplacian", "--workers", 1, "--bootstrap", 50)
    assert run(*common, "--keep-rate", 0.5, "--overwrite", "--out", old, "-q").code == 0
    assert profile(old)["schema"] == 1


def test_an_fnmr_on_own_photos(calibrate, drawn):
    ran = calibrate(drawn, "--fnmr-ratio", 0.5, "--fmr", 0.05, "--out", "a.json")
    if ran.code:
        pytest.fail(ran.err)
    made = profile("a.json")
    reached = made["reached"]
    assert reached["fnmr_without_gate"] > 0
    assert reached["fnmr"] <= reached["fnmr_without_gate"] / 2
    assert made["n"]["genuine"] == 24 * 6
    assert made["n"]["impostor"] == 96 * 95 // 2 - 24 * 6
    assert made["embedder"] == {"name": "tiny", "sha256": ""}
    assert made["material"]["pairs"] == "all genuine, all impostor pairs (seed 0)"


def test_blurred_faces_and_synth_folders(calibrate, run, drawn):
    ran = calibrate(
        drawn, "--blur", "gaussian", "--blur", "small", "--max-mean-degree", 0.2, "--per-image", 2
    )
    assert ran.code == 0, ran.err
    made = profile()
    assert (made["n"]["faces"], made["n"]["pictures"]) == (96, 96 * 4)
    assert made["material"]["blur"] == ["gaussian", "small"]
    assert made["reached"]["mean_label"] <= 0.2  # the true degree, which is known here
    assert "mean true degree" in ran.err

    synth = ("--embedder", "tiny", "--blur", "gaussian", "--per-image", 2, "--val", 0.5, "--quiet")
    assert run("synth", drawn, "--out", "set", *synth).code == 0
    for split, people in (("val", 12), ("all", 24)):
        ran = calibrate("--from-synth", "set", "--split", split, "--keep-rate", 0.5, "--overwrite")
        assert ran.code == 0, ran.err
        assert profile()["n"]["identities"] == people
        n = profile()["n"]
        assert (n["faces"], n["pictures"]) == (people * 4, people * 8)
    ran = calibrate(
        "--from-synth", "set", "--split", "all", "--fnmr-ratio", 0.9, "--fmr", 0.05,
        "--pairing", "twins", "--overwrite",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert profile()["n"]["genuine"] == 192  # every blurred picture with its own clean twin
    assert profile()["material"]["pairs"] == "each probe with its own reference"
    own = profile()["reached"]["median_similarity"]
    ran = calibrate(
        "--from-synth", "set", "--split", "all", "--fnmr-ratio", 0.9, "--fmr", 0.05,
        "--pairing", "twins", "--other-photo", 0.9, "--overwrite",
    )  # fmt: skip
    assert profile()["reached"]["median_similarity"] == pytest.approx(0.9 * own, rel=1e-5)
    assert profile()["material"]["pairs"] == "each probe with its own reference, times 0.9"
    assert f"median cosine is {0.9 * own:.3f}" in ran.err


@pytest.mark.parametrize(
    ("split", "lacking"),
    [
        ("all", "labelled pictures"),
        ("val", "pictures of the split val; make it with --val, or use --split"),
    ],
)
def test_a_synth_folder_without_pictures(calibrate, run, drawn, split, lacking):
    synth = ("--embedder", "tiny", "--blur", "gaussian", "--quiet")
    assert run("synth", drawn, "--out", "set", *synth).code == 0
    table, settings = Path("set/label_gaussian/label/data_label.csv"), Path("set/dataset.json")
    table.write_text(table.read_text().splitlines()[0] + "\n")
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "rows": 0}))
    ran = calibrate("--from-synth", "set", "--split", split, "--keep-rate", 0.5)
    assert ran.code == 3
    assert ran.err.endswith(f"blurgate: error: set holds no {lacking}\n")


def test_pictures_that_cannot_be_used_are_named(calibrate, drawn, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"no picture")
    ran = calibrate(drawn, folder, "--keep-rate", 0.5)
    assert ran.code == 4
    assert "broken.png" in ran.err
    assert profile()["material"]["skipped"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["people"], 2, "name one target: --keep-rate, --max-mean-degree, --fnmr or --fnmr-ratio"),
        (["people", "--fnmr", 0.1, "--keep-rate", 0.5], 2, "name one target"),
        (["--keep-rate", 0.5], 2, "name FACES or a folder with --from-synth, one of the two"),
        (["people", "--from-synth", "x", "--keep-rate", 0.5], 2, "one of the two"),
        (["--from-synth", "x", "--blur", "linear", "--keep-rate", 0.5], 2, "--blur is for FACES"),
        (["people", "--detector", "x", "--keep-rate", 0.5], 2, "it goes with --align"),
        (["people", "--pairing", "twins", "--fnmr", 0.5], 2, "it goes with --blur"),
        (["people", "--other-photo", 0.7, "--fnmr", 0.5], 2, "that goes with --pairing twins"),
        (["people", "--keep-rate", 1.5], 2, "a keep rate is a share above 0 and up to 1, got 1.5"),
        (["people", "--keep-rate", 0.5, "--review", 2], 2, "review must be a width in [0, 1]"),
        (["people", "--blur", "nobody", "--keep-rate", 0.5], 2, "is called 'nobody'"),
        (["people/p00", "--keep-rate", 0.5], 3, "at least 30 faces, and there are only 4"),
        (["people", "--fnmr", 0.1, "--identity", "file"], 3, "there are 0 of 0 people"),
        (["--from-synth", "people", "--keep-rate", 0.5], 3, "holds no dataset of blurgate synth"),
    ],
)
def test_what_cannot_be_done_is_one_line(calibrate, drawn, tmp_path, arguments, code, message):
    (tmp_path / "people").symlink_to(drawn)
    ran = calibrate(*arguments)
    assert ran.code == code
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "profile.json").exists()


def test_the_folder_of_the_profile_is_made_before_any_work(run, drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ("calibrate", drawn, "--model", "laplacian", "--keep-rate", 0.75, "--workers", 1)
    ran = run(*common, "--out", "new/folder/gate.json")
    assert ran.code == 0, ran.err
    assert profile("new/folder/gate.json")["target"] == {"share": 0.75, "kind": "keep-rate"}
    monkeypatch.setattr("blurgate.evaluation.material.material_of_faces", None)  # is not reached
    ran = run(*common, "--out", "new", "--overwrite")
    assert ran.code == 2
    assert ran.err == "blurgate: error: new is a folder; --out names the profile's file\n"
    Path("file").write_text("")
    ran = run(*common, "--out", "file/gate.json")
    assert (ran.code, ran.err) == (2, "blurgate: error: file is a file; choose another --out\n")


def test_a_failure_leaves_no_empty_folder(calibrate, drawn, tmp_path):
    few = drawn / "p00"
    ran = calibrate(few, "--keep-rate", 0.5, "--out", "new/folder/gate.json")
    assert (ran.code, "there are only 4" in ran.err) == (3, True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    assert calibrate(few, "--keep-rate", 0.5, "--out", "mine/new/gate.json").code == 3
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_filter_takes_the_profile(run, marker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = {
        "schema": 1,
        "model": {"name": "laplacian", "sha256": ""},
        "threshold": 0.123,
        "ci": [0.1, 0.2],
        "target": {},
        "min_face": 17,
    }
    Path("p.json").write_text(json.dumps(facts))
    cv2.imwrite("x.png", np.zeros((64, 64, 3), np.uint8))
    common = ("filter", "x.png", "--detector", "marker", "--profile", "p.json")
    ran = run(*common, "--model", "laplacian", "--dry-run")
    assert ran.code == 0, ran.err
    assert "threshold  0.123, review 0, min face 17 px" in ran.out
    ran = run(*common, "--model", "laplacian", "--min-face", 5, "--out", "o", "--quiet")
    assert ran.code == 0, ran.err
    summary = json.loads(Path("o/summary.json").read_text())
    assert (summary["threshold"], summary["threshold_profile"]) == (0.123, "p.json")
    run(*common, "--model", "laplacian", "--shard", "1/1", "--out", "part", "--quiet")
    merged = run("merge", "part", "--out", "all")
    assert merged.code == 0, merged.err
    assert json.loads(Path("all/summary.json").read_text())["threshold_profile"] == "p.json"
    ran = run(*common, "--model", "laplacian", "--threshold", 0.3)
    assert ran.code == 2
    assert "the profile p.json gives a threshold, and so does --threshold; name one" in ran.err
    ran = run(*common, "--model", "tenengrad")
    assert ran.code == 2
    assert "p.json was made for the model laplacian, and this run uses tenengrad" in ran.err
    Path("p.json").write_text(json.dumps({**facts, "treshold": 1}))
    ran = run(*common)
    assert (ran.code, "did you mean 'threshold'" in ran.err) == (2, True)
