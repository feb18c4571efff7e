"""Check what is in the wheel and the sdist: python scripts/check_distributions.py DIST.

The wheel adds one name to site-packages and holds every module of the four source folders; nothing
that is not ours to ship (pictures, videos, weights that our own commands did not train) is in
either.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "blurgate": "blurgate",
    "plugins": "blurgate/plugins",
    "models_zoo": "blurgate/models_zoo",
    "training": "blurgate/training",
}
LIMIT = 20_000_000


def main() -> None:
    dist = Path(sys.argv[1])
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    stray = {top for top in tops if top != "blurgate" and not top.endswith(".dist-info")}
    problems = [f"the wheel adds {name} to site-packages" for name in sorted(stray)]
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            inside = f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
            if inside not in names:
                problems.append(f"{inside} is missing from the wheel")
    needed = {
        "blurgate/py.typed", "blurgate/models_zoo/manifest.json", "blurgate/models_zoo/LICENSE",
    }  # fmt: skip
    needed |= {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "blurgate" / "report").rglob("*")
        if path.suffix in {".css", ".html", ".js"}
    }
    problems += [f"{name} is missing from the wheel" for name in sorted(needed - names)]
    for licence in ("licenses/LICENSE", "licenses/models_zoo/LICENSE"):
        if not any(name.endswith(licence) for name in names):
            problems.append(f"{licence} is missing from the wheel")
    media = (".jpg", ".png", ".mp4", ".mkv", ".pt", ".pth", ".bin")
    problems += [f"{name} does not belong into the wheel" for name in names if name.endswith(media)]
    with tarfile.open(sdist) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "pyproject.toml", "setup.py", "README.md", "LICENSE", "plugins/__init__.py",
        "models_zoo/LICENSE",
    ):  # fmt: skip
        if name not in sources:
            problems.append(f"{name} is missing from the sdist")
    for path in (wheel, sdist):
        if path.stat().st_size > LIMIT:
            problems.append(f"{path.name} has {path.stat().st_size:,} bytes, more than {LIMIT:,}")
    if problems:
        sys.exit("\n".join(problems))
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size:,} bytes; {sdist.name}: ok")


if __name__ == "__main__":
    main()
