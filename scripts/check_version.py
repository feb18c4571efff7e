"""Fail unless the changelog begins with the unreleased changes and knows the current version."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    heads = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [head.split()[0].strip("[]") for head in heads if not head.startswith("Unreleased")]
    if not heads or not heads[0].startswith("Unreleased"):
        sys.exit("CHANGELOG.md: the first section must be 'Unreleased'")
    if released and released[0] != version:
        sys.exit(f"CHANGELOG.md knows {released[0]}, pyproject.toml says {version}")
    print(f"version {version}")


if __name__ == "__main__":
    main()
