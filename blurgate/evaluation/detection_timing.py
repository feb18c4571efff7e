"""How long detectors take, measured turn by turn so that a busy moment strikes all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate import zoo
from blurgate.geometry import fit_long_side
from blurgate.interfaces import Runtime
from blurgate.runtime import make_session, run
from blurgate.timing import Spent, in_turns
from blurgate.types import Frame

if TYPE_CHECKING:
    from blurgate.evaluation.detection import Contender

FILM: Final = (1080, 1920)
"""(h, w) of the video whose pictures are timed, at the size that they have on the canvas."""
ROUNDS: Final = 30


def time_detectors(
    contenders: Sequence[Contender],
    *,
    long_side: int = 640,
    rounds: int = ROUNDS,
) -> dict[str, dict[str, Any]]:
    """Time detectors on one thread of the CPU.

    Args:
        contenders: The detectors.
        long_side: Of the canvas.
        rounds: How often each is timed.

    Returns:
        Detector -> `size` (h, w), and in milliseconds the median and the fastest of the rounds:
        `call_ms`, `call_fastest_ms` of the whole detector on a picture of noise without faces (its
        second search included), `network_ms`, `network_fastest_ms` of the ONNX file alone; None for
        the latter two where a detector is not one ONNX file with one picture as its input, or
        takes no picture of that size.
    """
    size = h, w = fit_long_side(FILM, long_side, multiple=32).canvas
    image = np.random.default_rng(0).integers(0, 256, (h, w, 3), np.uint8)
    frame = Frame(image, "noise", 0, None)
    calls: dict[str, Callable[[], object]] = {}
    for contender in contenders:
        calls[f"call {contender.name}"] = partial(contender.default, [frame])
        network = _network(contender.name, size)
        if network is not None:
            calls[f"network {contender.name}"] = network
    taken = in_turns(calls, rounds)
    return {c.name: {"size": list(size), **_figures(taken, c.name)} for c in contenders}


def _figures(taken: Mapping[str, Spent], name: str) -> dict[str, float | None]:
    out: dict[str, float | None] = {}
    for part in ("call", "network"):
        spent = taken.get(f"{part} {name}")
        out[f"{part}_ms"] = spent and spent.median
        out[f"{part}_fastest_ms"] = spent and spent.fastest
    return out


def _network(name: str, size: tuple[int, int]) -> Callable[[], object] | None:
    model = zoo.resolve("detector", name)
    if model is None:
        return None
    session = make_session(model.path, Runtime("cpu", 1))
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
        return None
    wanted = (1, 3, *size)
    sizes = zip(inputs[0].shape, wanted, strict=True)
    if any(isinstance(side, int) and side != want for side, want in sizes):
        return None
    blob = np.random.default_rng(0).standard_normal(wanted).astype(np.float32)
    return lambda: run(session, {inputs[0].name: blob}, str(model.path))
