"""List the tests that a run of pytest skipped, as arguments for the next one.

    pytest --junitxml first.xml
    pip install ".[train]"
    python scripts/skipped_tests.py first.xml > skipped.txt
    pytest @skipped.txt

A file that was skipped as a whole is listed as one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def main() -> None:
    """Print a line for each."""
    for case in ElementTree.parse(sys.argv[1]).iter("testcase"):  # noqa: S314 - made by pytest
        if case.find("skipped") is None:
            continue
        module, name = case.get("classname", ""), case.get("name", "")
        path = Path(*(module or name).split(".")).with_suffix(".py").as_posix()
        print(f"{path}::{name}" if module else path)


if __name__ == "__main__":
    main()
