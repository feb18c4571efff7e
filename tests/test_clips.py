"""Real clips and weights: what `blurgate filter` finds is what insightface finds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "check_clips.py"


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # insightface calls deprecated functions
def test_a_real_clip_equals_insightface_and_ffprobe(shared, load, tmp_path):
    pytest.importorskip("insightface")
    if shutil.which("ffprobe") is None:
        pytest.skip("the ffprobe program is not installed")
    module = load(SCRIPT)
    data = shared / "data"
    result = module.check(
        data / "video/intel_asl_learn.mkv", data / "weights/scrfd_2.5g_bnkps.onnx", tmp_path / "o"
    )
    assert result["frames"] == result["frames read"] == 61
    assert result["wrong times"] == 0
    assert result["faces"] == result["IoU >= 0.95"] == 50
    assert result["least IoU"] >= 0.99
    assert result["extra"] == 0
