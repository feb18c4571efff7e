"""Run the tests in a fresh environment with the oldest dependencies that pyproject.toml allows.

    python3.11 scripts/check_lowest.py [--extra cpu] [--newest] [TESTS...]

Every `name>=X.Y` of the dependencies and of the extras becomes `name==X.Y.*`, the newest repair of
the oldest allowed series; `--newest` leaves them open. The Python that runs this makes the
environment, so run it once with each of 3.11, 3.12 and 3.13. For a locked set: --lock FILE, a file
as `pip freeze` writes it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME_AND_LOWEST = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*>=\s*([0-9.]+)")


def lowest(extras: list[str]) -> list[str]:
    """Constraints of pip for the dependencies and these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = list(project["dependencies"])
    for extra in extras:
        listed += project["optional-dependencies"][extra]
    found = {}
    for requirement in listed:
        if match := NAME_AND_LOWEST.match(requirement):
            found[match[1]] = f"{match[1]}=={match[2]}.*"
    return sorted(found.values())


def main() -> int:
    """Make the environment, install, run the tests."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tests", nargs="*", help="what pytest gets; none: all")
    parser.add_argument("--extra", action="append", help="besides test; default cpu")
    parser.add_argument("--newest", action="store_true", help="the newest versions")
    parser.add_argument("--lock", type=Path, help="exact versions, as of pip freeze")
    options = parser.parse_args()
    extras = [*(options.extra or ["cpu"]), "test"]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        venv.create(place / "venv", with_pip=True)
        programs = place / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
        constraints = place / "constraints.txt"
        lines = [] if options.newest or options.lock else lowest(extras)
        constraints.write_text("\n".join(lines) + "\n", encoding="utf-8")
        install = [str(programs / "python"), "-m", "pip", "install", "-q"]
        install += ["-c", str(options.lock or constraints), f"{ROOT}[{','.join(extras)}]"]
        subprocess.run(install, check=True)
        freeze = [str(programs / "python"), "-m", "pip", "freeze"]
        frozen = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
        known = [line for line in frozen.splitlines() if " @ " not in line]
        print(f"Python {sys.version.split()[0]}: {', '.join(known)}", flush=True)
        tests = [str(programs / "pytest"), "-q", *options.tests]
        return subprocess.run(tests, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
