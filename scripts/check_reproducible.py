"""Build the wheel twice, from two copies of the tree at two times, and compare the bytes.

    python scripts/check_reproducible.py          # needs: pip install build

Times in a wheel come from SOURCE_DATE_EPOCH; where it is not set, the last commit's time is taken,
so that everybody who builds a commit with the same setuptools gets the same wheel.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IN = ("blurgate", "plugins", "models_zoo", "training", "pyproject.toml", "setup.py", "README.md",
      "LICENSE")  # fmt: skip


def epoch() -> str:
    """Seconds since 1970 of the last commit, or what the environment says."""
    command = ["git", "log", "-1", "--format=%ct"]
    known = os.environ.get("SOURCE_DATE_EPOCH")
    return known or subprocess.check_output(command, cwd=ROOT, text=True).strip()


def build(folder: Path, when: float, environment: dict[str, str]) -> Path:
    """Build a wheel from a fresh copy whose files were all changed at one time."""
    tree = folder / "tree"
    tree.mkdir(parents=True)
    for name in IN:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree)
    for path in tree.rglob("*"):
        os.utime(path, (when, when))
    command = [sys.executable, "-P", "-m", "build", "--wheel", "--outdir", str(folder), str(tree)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"the wheel cannot be built:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    (wheel,) = folder.glob("*.whl")
    return wheel


def members(wheel: Path) -> dict[str, tuple[object, ...]]:
    """Name -> checksum, time and mode of what is in a wheel."""
    return {
        one.filename: (one.CRC, one.date_time, one.external_attr)
        for one in zipfile.ZipFile(wheel).infolist()
    }


def main() -> int:
    """Build two, compare."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch()}
    with tempfile.TemporaryDirectory() as scratch:
        wheels = [
            build(Path(scratch, name), when, {**environment, "TZ": zone})
            for name, when, zone in (("a", 1e9, "UTC"), ("another", 1.7e9, "Asia/Tokyo"))
        ]
        digests = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]
        print(f"{wheels[0].name}: sha256 {digests[0]}, SOURCE_DATE_EPOCH {epoch()}")
        if digests[0] == digests[1]:
            print("two builds are equal, byte for byte")
            return 0
        one, other = map(members, wheels)
        differ = [n for n in sorted({*one, *other}) if one.get(n) != other.get(n)]
        print(f"the builds differ in: {', '.join(differ) or 'the order of their members'}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
