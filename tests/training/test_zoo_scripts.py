"""scripts/align_faces.py and scripts/train_zoo.py, as a GPU machine without PyAV runs them."""

import csv
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import cv2
import pytest

pytest.importorskip("torch", reason='training needs the extra: pip install "blurgate[train]"')
pytest.importorskip("lightning_fabric", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("safetensors", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("onnx", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("onnxscript", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("onnxruntime", reason='it needs: pip install "blurgate[cpu]"')

from blurgate.io.video import read_video
from blurgate.training.config import TrainConfig, make_config
from blurgate.training.faces import FaceReader, list_faces
from blurgate.training.labels import Labeller
from blurgate.training.settings import read_config
from blurgate.training.synth import Recipe, run_synth

ROOT = Path(__file__).parents[2]
WITHOUT = "import sys\nfor name in ('av', 'insightface'):\n    sys.modules[name] = None\n"


@pytest.fixture
def without(tmp_path):
    """Give the environment of programs that find neither PyAV nor insightface."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WITHOUT)
    return {**os.environ, "PYTHONPATH": str(tmp_path / "site")}


def test_training_and_detection_need_neither_pyav_nor_insightface(without, tmp_path):
    code = (
        "import blurgate.training.synth_command, blurgate.training.train\n"
        "import blurgate.training.detection.train, blurgate.plugins.detectors.scrfd\n"
        "import sys; assert sys.modules['av'] is None\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], env=without, check=True, timeout=100)
    photos = tmp_path / "photos"
    photos.mkdir()
    (portrait,) = islice(read_video(str(ROOT / "examples" / "sample.mp4")), 1)
    portrait = portrait.image
    cv2.imwrite(str(photos / "Ada_0001.png"), portrait)
    cv2.imwrite(str(photos / "empty.png"), portrait[:40, :40])
    command = [
        sys.executable, "-P", str(ROOT / "scripts" / "align_faces.py"), str(photos),
        "--detector", "scrfd_blurgate", "--out", str(tmp_path / "c"),
    ]  # fmt: skip
    options = {"env": without, "timeout": 100, "capture_output": True, "text": True}
    done = subprocess.run(command, check=True, **options)
    assert "1 of 2 faces" in done.stdout
    assert "empty.png shows no face" in done.stdout
    crop = cv2.imread(str(tmp_path / "c" / "photos" / "Ada_0001.png"))
    assert crop.shape[0] == crop.shape[1]
    assert 112 <= len(crop) <= 160
    cv2.imwrite(str(photos / "Ada_0001.jpg"), portrait)
    done = subprocess.run(command, check=False, **options)
    assert done.returncode == 1
    assert "Ada_0001.png would become one file in --out" in done.stderr


def test_a_plan_is_trained_in_the_time_there_is_and_finished(load, tiny, tmp_path, monkeypatch):
    zoo_script = load(ROOT / "scripts" / "train_zoo.py")
    from blurgate import zoo

    monkeypatch.setattr(zoo, "open_embedder", lambda *given: tiny.TinyEmbedder())
    faces = tmp_path / "faces"
    faces.mkdir()
    for i in range(16):
        cv2.imwrite(str(faces / f"p{i:02d}.png"), tiny.draw(112, i))
    runs = [
        zoo_script.Run("broken", "mobilenetv2_0.25", 0.1, {"loss": "no-such-loss"}),
        zoo_script.Run("late", "mobilenetv2_0.25", 0.5, {}),
        zoo_script.Run("a", "mobilenetv2_0.25", 0.4, zoo_script.BINS),
    ]
    monkeypatch.setitem(zoo_script.PLANS, "small", runs)
    speeds = iter([0.01, 0.3])  # late would need longer than there is

    def rate(steps, *given):
        next(steps)
        return next(speeds)

    monkeypatch.setattr(zoo_script, "rate", rate)
    out = tmp_path / "runs"
    settings = [
        "size=112",
        "val=0.25",
        "batch=4",
        "per_face=1",
        "val_per_face=2",
        "precision=float32",
    ]
    options = [part for setting in settings for part in ("--set", setting)]
    common = ["train_zoo.py", str(faces), "--device", "cpu", "--fresh", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*common, "--minutes", "1.5", *options])
    zoo_script.main()
    # What fails or is left out for want of time does not keep the others from being trained.
    assert [path.name for path in out.iterdir()] == ["a"]
    config = make_config(read_config(str(out / "a" / "config.yaml"), TrainConfig))
    assert (config.head, config.loss, config.name, config.fresh) == ("bins40", "cmse", "a", 2)
    assert make_config(config.facts()) == config
    run_synth(
        list_faces([str(faces)], val=0.25),
        Recipe(("linear",)),
        tmp_path / "set",
        reader=FaceReader(112),
        labeller=Labeller(tiny.TinyEmbedder()),
    )
    monkeypatch.setattr(
        sys, "argv", ["train_zoo.py", "--finish", str(out), "--data", str(tmp_path / "set")]
    )
    zoo_script.main()
    assert (out / "a" / "a.onnx").is_file()
    assert (out / "a" / "a.md").is_file()
    with (out / "a" / "log.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) >= 1
