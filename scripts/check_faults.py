"""Kill runs at random moments, continue them, and compare with a run that nobody disturbed.

    python scripts/check_faults.py --times 50 [filter score synth train]

Each trial starts a command in a process of its own, kills it with SIGKILL after a random part of
the time that it takes, now and then kills its continuation too, lets the last one end, and compares
every byte of the result. A line per command tells how many were killed in the middle. Needs fork.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
PLUGINS = ("marker_plugin", "tiny_embedder", "tiny_backbone")
AGAIN = 0.3
"""How often a continuation is killed as well."""
HANGS_S = 600
"""A run that takes so long is ended by the alarm, and counts as failed."""
COMMANDS = ("filter", "score", "synth", "train")
_TIMES = {"elapsed_s", "frames_per_s", "seconds", "pictures_per_s"}


def prepare(names: tuple[str, ...]) -> dict[str, Any]:
    """Import what is heavy before the forks, and register the plugins."""
    os.environ["BLURGATE_DISABLED_PLUGINS"] = "*"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import cv2

    cv2.setNumThreads(1)  # who has threads must not fork: OpenCV's pool would wait for ever
    from blurgate import cli, filtering, scoring  # noqa: F401
    from blurgate.host import get_host

    wanted = PLUGINS if "train" in names else PLUGINS[:2]
    sys.path.insert(0, str(DATA))
    plugins = {name: importlib.import_module(name) for name in wanted}
    for name, module in plugins.items():
        get_host().add(module, f"{name}-plugin")
    cli.make_app()
    if {"synth", "train"} & {*names}:
        import blurgate.training.synth
    if "train" in names:
        import blurgate.training.train  # noqa: F401
    return plugins


def start(arguments: list[str], place: Path) -> int:
    """Run the command line in a child; gives its process id."""
    child = os.fork()
    if child:
        return child
    signal.alarm(HANGS_S)
    code = 99
    try:
        from blurgate import cli

        os.chdir(place)
        said = os.open(place / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.argv = ["blurgate", *arguments]
        cli.main()
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def whole(arguments: list[str], place: Path) -> float:
    """Run to the end; gives the seconds.

    Raises:
        RuntimeError: It failed.
    """
    started = time.monotonic()
    _, status = os.waitpid(start(arguments, place), 0)
    if status:
        raise RuntimeError(f"{arguments}: {status}\n{(place / 'said').read_text()}")
    return time.monotonic() - started


def killed(arguments: list[str], place: Path, after_s: float) -> bool:
    """Run, and kill it after a while; whether it was still running."""
    child = start(arguments, place)
    time.sleep(after_s)
    done, _ = os.waitpid(child, os.WNOHANG)
    if not done:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return not done


def tensors(path: Path) -> bytes:
    """The tensors of a checkpoint, without the facts beside them, which hold times."""
    from safetensors.numpy import load_file

    found = load_file(path)
    return repr([(n, hashlib.sha256(found[n].tobytes()).digest()) for n in sorted(found)]).encode()


def weights(path: Path) -> bytes:
    """The graph of a model, without the card in its metadata, which holds times."""
    import onnx

    graph: bytes = onnx.load(path).graph.SerializeToString(deterministic=True)
    return graph


def content(folder: Path) -> dict[str, str]:
    """Path -> digest of every file of a result; of summaries and logs without their times."""
    found = {}
    for path in sorted(folder.rglob("*") if folder.is_dir() else [folder]):
        if path.is_file():
            data = path.read_bytes()
            if path.name == "summary.json":
                facts = json.loads(data)
                data = json.dumps({k: v for k, v in facts.items() if k not in _TIMES}).encode()
            elif path.name == "log.csv":
                rows = list(csv.DictReader(data.decode().splitlines()))
                data = repr(
                    [{k: v for k, v in r.items() if k not in _TIMES} for r in rows]
                ).encode()
            elif path.suffix == ".safetensors":
                data = tensors(path)
            elif path.suffix == ".onnx":
                data = weights(path)
            elif path.name in ("tiny.json", "tiny.md", "journal.jsonl"):
                data = b"exists"  # cards hold times; a journal's groups depend on the clock
            name = path.relative_to(folder).as_posix() if folder.is_dir() else path.name[:0]
            found[name] = hashlib.sha256(data).hexdigest()[:16]
    return found


def pictures(place: Path, plugins: dict[str, Any], count: int) -> None:
    """Pictures for `filter` and `score`, some broken."""
    import cv2
    import numpy as np

    (place / "in").mkdir()
    for i in range(count):
        image = np.full((160, 260, 3), 60, np.uint8)
        plugins["marker_plugin"].draw(image, 10, 20, 100, sharp=i % 3 > 0, seed=i)
        cv2.imwrite(str(place / f"in/{i:03d}.png"), image)


def clip(place: Path, plugins: dict[str, Any]) -> None:
    """A video among them."""
    import av
    import numpy as np

    with av.open(str(place / "in/a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 260, 160, "yuv420p"
        for i in range(80):
            image = np.full((160, 260, 3), 60, np.uint8)
            plugins["marker_plugin"].draw(image, 10 + i, 20, 100, sharp=i % 20 < 10)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))


def faces(place: Path, plugins: dict[str, Any], count: int) -> None:
    """Faces for `synth` and `train`."""
    import cv2

    for i in range(count):
        path = place / f"faces/p{i // 2}/{i % 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), plugins["tiny_embedder"].draw(112, i))


def command(name: str, place: Path, plugins: dict[str, Any]) -> Callable[[str], list[str]]:
    """Make the input of a command; gives output -> arguments."""
    use = ["--detector", "marker", "--model", "laplacian", "--workers", "2", "--quiet"]
    if name in ("filter", "score"):
        pictures(place, plugins, 120)
    if name == "filter":
        clip(place, plugins)
        return lambda out: ["filter", "in", *use, "--threshold", "0.4", "--out", out]
    if name == "score":
        return lambda out: ["score", "in", *use, "--csv", out]
    faces(place, plugins, 40 if name == "synth" else 16)
    synth = [
        "synth", "faces", "--embedder", "tiny", "--blur", "gaussian", "--blur", "linear",
        "--workers", "2", "--val", "0.2", "--quiet",
    ]  # fmt: skip
    if name == "synth":
        return lambda out: [*synth, "--out", out]
    whole([*synth, "--out", "set"], place)
    return lambda out: [
        "train", "--plugin", "tiny", "--data", "set", "--epochs", "6", "--batch", "8",
        "--workers", "1", "--device", "cpu", "--quiet", "--out", out,
    ]  # fmt: skip


def check(name: str, times: int, seed: int, scratch: Path, plugins: dict[str, Any]) -> bool:
    """Make the trials of one command; prints what came of them."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    place = scratch / name
    place.mkdir()
    arguments = command(name, place, plugins)
    took_s = whole(arguments("whole"), place)
    took_s = min(took_s, whole(arguments("twice"), place))
    wanted = content(place / "whole")
    if content(place / "twice") != wanted:
        other = content(place / "twice")
        differ = sorted(p for p in {*other, *wanted} if other.get(p) != wanted.get(p))
        print(f"{name}: two undisturbed runs differ in {', '.join(differ)}")
        return False
    in_the_middle = kills = 0
    started = time.monotonic()
    for trial in range(times):
        out = place / "out"
        in_the_middle += killed(arguments("out"), place, rng.uniform(0, took_s))
        kills += 1
        again = [*arguments("out"), "--resume"]
        while rng.random() < AGAIN:
            killed(again, place, rng.uniform(0, took_s))
            kills += 1
        whole(again, place)
        found = content(out)
        if found != wanted:
            differ = sorted(p for p in {*found, *wanted} if found.get(p) != wanted.get(p))
            print(f"{name}: trial {trial} differs in {', '.join(differ[:5])}")
            return False
        for left in (out, *place.glob("out.*")):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    print(
        f"{name}: {times} runs killed {kills} times, {in_the_middle} of the first kills in the "
        f"middle; every result equals the undisturbed one ({len(wanted)} files), "
        f"{time.monotonic() - started:.0f} s",
        flush=True,
    )
    return True


def main() -> int:
    """Check the chosen commands."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", nargs="*", choices=[*COMMANDS, []], help="none: all")
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = tuple(options.command or COMMANDS)
    plugins = prepare(names)
    with tempfile.TemporaryDirectory() as scratch:
        results = [
            check(name, options.times, options.seed, Path(scratch).resolve(), plugins)
            for name in names
        ]
    return not all(results)


if __name__ == "__main__":
    sys.exit(main())
