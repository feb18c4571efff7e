"""Write what `blurgate filter` makes of the sample clip, for tests/test_determinism.py.

    python scripts/make_sample_golden.py

With the models in the box and the default settings; to be run again when one of these changes, and
looked at: every changed row is a changed promise.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "tests" / "data" / "sample"
FACTS = ("model", "detector", "threshold", "totals")


def main() -> None:
    """Run the command line and keep the table, and the summary without times."""
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "out")
        command = [sys.executable, "-P", "-m", "blurgate", "filter", "examples/sample.mp4"]
        subprocess.run([*command, "--out", str(out), "--quiet"], cwd=ROOT, check=True)
        shutil.copy(out / "faces.csv", TARGET / "faces.csv")
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    facts = {name: summary[name] for name in FACTS}
    facts["made_with"] = {name: version(name) for name in ("onnxruntime", "av", "numpy")}
    (TARGET / "summary.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{TARGET.relative_to(ROOT)}: {facts['totals']['faces']} faces")


if __name__ == "__main__":
    main()
