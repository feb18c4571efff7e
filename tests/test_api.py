"""The public surface cannot change unnoticed."""

from __future__ import annotations

import subprocess
import sys

import blurgate

PUBLIC = [
    "BlurKind",
    "BlurgateError",
    "Detections",
    "FaceBatch",
    "Frame",
    "Gate",
    "RoutedFaces",
    "ScoredFaces",
    "SourceEnd",
    "Tracks",
    "Verdict",
    "__version__",
    "blur_degree",
    "hookimpl",
]


def test_all_is_what_this_list_says():
    assert sorted(blurgate.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(blurgate, name) is not None


def test_import_is_light(printed):
    code = "import sys, blurgate; print(sorted({'numpy','cv2','av','torch'} & set(sys.modules)))"
    assert printed(code).strip() == "[]"


def test_results_are_read_back_without_the_library_of_videos(printed):
    code = (
        "import sys, blurgate.merging, blurgate.merging_folders, blurgate.report.thumbs\n"
        "print('av' in sys.modules)"
    )
    assert printed(code).strip() == "False"


def test_the_bare_folders_cannot_be_imported():
    from pathlib import Path

    root = Path(__file__).parent.parent
    for name in ("plugins", "training", "models_zoo"):
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}"], capture_output=True, text=True, cwd=root
        )
        assert f"import blurgate.{name}, not the bare folder" in done.stderr
