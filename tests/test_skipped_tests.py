"""What one run of pytest skipped is what the next one runs (scripts/skipped_tests.py, .ci/run)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "skipped_tests.py"
FIRST = """
import pytest

@pytest.fixture
def refused():
    pytest.skip("not here")

@pytest.mark.parametrize("value", ["a b", 'q"[1]', "x::y", "é"])
def test_values(value):
    pytest.skip("not here")

def test_fixture(refused): pass
def test_ordinary(): pass
"""


def test_tests_and_files_that_were_skipped_are_listed_and_found_again(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    (tmp_path / "part").mkdir()
    (tmp_path / "test_first.py").write_text(FIRST, encoding="utf-8")
    whole = "import pytest\npytest.importorskip('not_a_module')\ndef test_it(): pass\n"
    (tmp_path / "part" / "test_whole.py").write_text(whole)

    def run(*arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return ran.stdout

    run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml", "first.xml")
    listed = run(str(SCRIPT), "first.xml")
    assert sorted(listed.splitlines()) == [
        "part/test_whole.py",
        "test_first.py::test_fixture",
        "test_first.py::test_values[\\xe9]",
        "test_first.py::test_values[a b]",
        'test_first.py::test_values[q"[1]]',
        "test_first.py::test_values[x::y]",
    ]
    (tmp_path / "skipped.txt").write_text(listed, encoding="utf-8")
    assert "6 skipped" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", "@skipped.txt")
