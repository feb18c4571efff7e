"""Look up what blurgate needs, in the versions installed here, among known vulnerabilities.

    python scripts/audit.py [EXTRA...]

It hands the bill of materials of scripts/make_sbom.py to pip-audit (pip install pip-audit), which
asks PyPI, or with --osv osv.dev. Exit code: 0 nothing known of any of them, 1 something is known,
3 some could not be looked up, for want of a network or because they are not on the index: that is
no clean bill.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def pinned(extras: list[str]) -> list[str]:
    """`name==version` of everything that blurgate needs here."""
    script = [sys.executable, "-P", str(ROOT / "scripts" / "make_sbom.py"), *extras]
    found = json.loads(subprocess.run(script, check=True, capture_output=True).stdout)
    libraries = [one for one in found["components"] if one["type"] == "library"]
    return [f"{one['name']}=={one['version']}" for one in libraries]


def told(answer: dict[str, Any], asked: int) -> tuple[list[str], int]:
    """What pip-audit said: lines, exit code."""
    skipped = [one for one in answer["dependencies"] if "skip_reason" in one]
    known = [
        f"{one['name']} {one['version']}: {vuln['id']}, mended in "
        f"{', '.join(vuln['fix_versions']) or 'no version yet'}"
        for one in answer["dependencies"]
        for vuln in one.get("vulns", ())
    ]
    lines = [f"{one['name']}: not looked up: {one['skip_reason']}" for one in skipped]
    seen = len(answer["dependencies"]) - len(skipped)
    lines += [*known, f"{seen} of {asked} looked up, {len(known)} known vulnerabilities"]
    return lines, 1 if known else 3 if seen < asked else 0


def main() -> int:
    """Ask, and say what came."""
    if importlib.util.find_spec("pip_audit") is None:
        sys.exit("pip-audit is not installed; run: pip install pip-audit")
    service = ["--vulnerability-service", "osv"] if "--osv" in sys.argv else []
    wanted = pinned([word for word in sys.argv[1:] if word != "--osv"])
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch, "pinned.txt")
        listed.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "-r", str(listed), "--no-deps"]
        command += ["--disable-pip", "--format", "json", "--progress-spinner", "off", *service]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        lines, code = told(json.loads(ran.stdout), len(wanted))
    except ValueError:
        last = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
        lines, code = [f"nothing was looked up: {last[:300]}"], 3
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
