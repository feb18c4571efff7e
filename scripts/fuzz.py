"""Fuzz what reads files.

    python scripts/fuzz.py [TARGET...] --seconds 60

With atheris (pip install atheris; CPython 3.11 to 3.13) the run is guided by coverage. Without it a
plain loop flips, cuts, repeats and joins the seeds, which finds the shallow half of what atheris
finds. The targets, and what each promises, stand in tests/fuzz. A finding ends its target with the
traceback and leaves the input in --keep; it belongs into a test.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "fuzz"
LONGEST = 1 << 14

Target = Callable[[bytes], None]


def targets() -> dict[str, tuple[Target, Callable[[], list[bytes]]]]:
    """Name -> target, seeds."""
    found: dict[str, Any] = {}
    sys.path.insert(0, str(FOLDER))
    for path in sorted(FOLDER.glob("fuzz_*.py")):
        found |= importlib.import_module(path.stem).TARGETS
    return found


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Change a seed in a few random places."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(6)
        if how == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1 and at < len(data):
            data[at] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
        elif how == 2:
            del data[at : at + rng.choice((1, 2, 4, 64, len(data)))]
        elif how == 3:
            data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16)))
        elif how == 4:
            part = data[at : at + rng.choice((1, 8, 64))]
            data[at:at] = part * rng.choice((1, 2, 50))
        else:
            other = rng.choice(seeds)
            data[at:] = other[rng.randrange(len(other) + 1) :]
        del data[LONGEST:]
    return bytes(data)


def plain(target: Target, seeds: list[bytes], seconds: float, seed: int, keep: Path) -> int:
    """Run a target on changed seeds; gives the executions.

    Raises:
        Exception: What the target raised; the input lies in `keep`.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret
    until, n = time.monotonic() + seconds, 0
    pool = list(seeds)
    while time.monotonic() < until:
        data = pool[n] if n < len(pool) else mutated(rng, pool)
        n += 1
        try:
            target(data)
        except Exception:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"crash-{abs(hash(data)):x}").write_bytes(data)
            raise
    return n


def guided(name: str, seconds: float, keep: Path) -> None:
    """Run a target under atheris; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["blurgate"]):
        target, seeds = targets()[name]
        for data in seeds():
            target(data)  # what is imported only now is to be instrumented too
    corpus = keep / f"corpus-{name}"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds()):
        (corpus / f"seed{number}").write_bytes(data)
    options = [f"-max_total_time={seconds:.0f}", f"-artifact_prefix={keep}/{name}-"]
    options += ["-rss_limit_mb=3000", "-timeout=20", f"-max_len={LONGEST}", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()


def report(name: str, seconds: float, keep: Path, *, plainly: bool) -> bool:
    """Run one target in a process of its own, print a line about it; True if nothing was found."""
    command = [sys.executable, "-P", __file__, "--one", name, "--seconds", str(seconds)]
    command += ["--keep", str(keep), *(["--plain"] if plainly else [])]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    counts = re.search(r"(?:executed_units:|executions:?)\s*(\d+)", said)
    coverage = re.findall(r"cov: (\d+)", said)
    line = f"{name}: {counts[1] if counts else '?'} executions"
    line += f" in {time.monotonic() - started:.0f} s"
    line += f", coverage {coverage[0]} -> {coverage[-1]}" if coverage else ""
    print(line + (", nothing found" if not done.returncode else ", FOUND:"), flush=True)
    if done.returncode:
        print(said[-4000:])
    return not done.returncode


def main() -> int:
    """Fuzz the chosen targets, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", nargs="*", help="names of targets; none: all")
    parser.add_argument("--seconds", type=float, default=60, help="of each target")
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="findings and corpora")
    parser.add_argument("--plain", action="store_true", help="without atheris")
    parser.add_argument("--one", metavar="TARGET", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.keep = arguments.keep.resolve()
    plainly = arguments.plain or importlib.util.find_spec("atheris") is None
    if arguments.one and not plainly:
        guided(arguments.one, arguments.seconds, arguments.keep)
    if arguments.one:
        target, seeds = targets()[arguments.one]
        try:
            n = plain(target, seeds(), arguments.seconds, 0, arguments.keep)
        except Exception:  # noqa: BLE001 - that is what is looked for
            traceback.print_exc()
            return 1
        print(f"executions: {n}")
        return 0
    known = targets()
    if missing := sorted(set(arguments.target) - set(known)):
        parser.error(f"no target {', '.join(missing)}; known: {', '.join(known)}")
    print("guided by coverage (atheris)" if not plainly else "without guidance")
    chosen = arguments.target or list(known)
    results = [report(name, arguments.seconds, arguments.keep, plainly=plainly) for name in chosen]
    return not all(results)


if __name__ == "__main__":
    sys.exit(main())
