"""The model card: what a trained model is, as JSON for programs and as Markdown for people."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.files import write_atomically
from blurgate.interfaces import Runtime
from blurgate.runtime import make_session, onnxruntime, run
from blurgate.timing import in_turns
from blurgate.training.runs import TrainState, run_names
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from blurgate.training.config import TrainConfig
    from blurgate.training.detection.config import DetectionConfig

__all__ = ["about", "run_facts", "table_of", "time_ms", "write_card", "write_files"]

RUNS: Final = 60
_FROM_CONFIG: Final = (
    "head",
    "loss",
    "epochs",
    "batch",
    "lr",
    "schedule",
    "ema",
    "precision",
    "clean",
    "shift",
    "tone",
    "for_int8",
    "freeze_norm",
)
_OF_FACES: Final = ("per_face", "fresh")
"""The same where faces are blurred while the model is trained."""


def about(
    config: TrainConfig, data: Mapping[str, Any], state: TrainState, *, parameters: int, device: str
) -> dict[str, Any]:
    """Give what is known about a model before its file exists.

    Args:
        config: How it was trained.
        data: The feed's facts.
        state: What came of it.
        parameters: Number of the network's parameters.
        device: Where it was trained.
    """
    keys = _FROM_CONFIG + (_OF_FACES if data.get("kind") == "faces" else ())
    return {
        "backbone": config.backbone,
        **({"backbone_options": dict(options)} if (options := config.backbone_options) else {}),
        "parameters": parameters,
        **run_facts(
            config, keys, data, state, device,
            threshold_from="the configuration; not calibrated on data",
        ),
    }  # fmt: skip


def run_facts(
    config: TrainConfig | DetectionConfig,
    keys: Sequence[str],
    data: Mapping[str, Any],
    state: TrainState,
    device: str,
    **more: str,
) -> dict[str, Any]:
    """Give what every card says of a run: of its configuration `keys`, after the scores `more`."""
    facts = config.facts()
    return {
        "data": dict(data),
        "seed": config.seed,
        "training": {key: facts[key] for key in keys},
        **({"begun_with": run_names(config.init)} if config.init else {}),
        "epochs_done": state.epoch,
        "best_epoch": state.best_epoch,
        "validation": state.best,
        **more,
        "trained_on": device,
        "seconds": round(sum(row["seconds"] for row in state.history), 1),
        "versions": {"blurgate": version("blurgate"), "torch": version("torch")},
        "commit": _source_commit(),
    }


def _source_commit() -> str:
    """Give the git commit of the source that runs, with `-dirty` where it was changed since.

    Returns:
        Empty for an installed package, and where there is no git.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - as the user's path has it
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # another repository may lie around us
        commit = git("rev-parse", "HEAD")
        return f"{commit}-dirty" if git("status", "--porcelain", "-uno") else commit
    except (OSError, subprocess.SubprocessError):
        return ""


def time_ms(
    path: Path,
    shape: tuple[int, ...],
    runs: int,
    *,
    outputs: Sequence[str] | None = None,
) -> float:
    """Measure an ONNX file on one thread of the CPU: the milliseconds of the fastest call.

    A median would tell of what else the machine did just then, and cards are compared.

    Args:
        path: A file whose input is called `images`.
        shape: Of the input.
        runs: Calls that count.
        outputs: Only what these need; None: everything.
    """
    session = make_session(path, Runtime("cpu"), outputs)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    call = partial(run, session, {"images": images}, str(path))
    return in_turns({path: call}, runs)[path].fastest


def write_card(
    path: Path, card: Mapping[str, Any], difference: float | None = None, *, runs: int = RUNS
) -> dict[str, Any]:
    """Write `<stem>.json` and `<stem>.md` beside an ONNX file.

    Args:
        path: The ONNX file; its size and speed are measured.
        card: The card that the file holds.
        difference: Between torch and onnxruntime; None: of an 8-bit twin, which torch does not run.
        runs: Calls that are timed; on a machine that is shared more of them tell more.

    Returns:
        The card with what was measured.
    """
    spent = {
        f"batch {n}": time_ms(path, (n, 3, CROP_SIZE, CROP_SIZE), runs, outputs=["degree"])
        for n in (1, 8)
    }
    return write_files(path, card, spent, difference, _markdown)


def write_files(
    path: Path,
    card: Mapping[str, Any],
    spent_ms: Mapping[str, float],
    difference: float | None,
    markdown: Callable[[str, Mapping[str, Any]], Iterator[str]],
) -> dict[str, Any]:
    """Write a card's two files; see `write_card`.

    Args:
        path: The ONNX file.
        card: The card that it holds.
        spent_ms: What was timed -> milliseconds.
        difference: Between torch and onnxruntime.
        markdown: Makes the page of the file's name and the whole card.
    """
    measured = {
        "bytes": path.stat().st_size,
        "latency_ms": {
            **{what: round(spent, 3) for what, spent in spent_ms.items()},
            "how": f"fastest call, onnxruntime {onnxruntime().__version__}, 1 CPU thread, "
            f"{platform.machine()}",
        },
        **({} if difference is None else {"torch_against_onnxruntime": difference}),
    }
    whole = {**card, "about": {**card["about"], **measured}}
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path.with_suffix(".json"), [text])
    write_atomically(path.with_suffix(".md"), markdown(path.name, whole))
    return whole


def table_of(name: str, rows: Mapping[str, Any]) -> Iterator[str]:
    """Give a page's title and its table of two columns."""
    yield f"# {name}\n\n| | |\n| --- | --- |\n"
    for key, value in rows.items():
        yield f"| {key} | {str(value).replace('|', chr(92) + '|')} |\n"


def _kinds_row(facts: Mapping[str, Any]) -> dict[str, str]:
    told = facts.get("kinds")
    if not told:
        return {}
    row = (
        f"{', '.join(told['names'])}; right for {told['accuracy']:.1%} of {told['pictures']} "
        f"validation pictures of a degree above {told['counted_above']:g}"
    )
    if told["angle_median_error_deg"] is not None:
        row += f"; direction off by {told['angle_median_error_deg']:.1f} degrees in the median"
    if missing := told.get("missing"):
        row += f"; not exported: no pictures of {', '.join(missing)}"
    return {"kind of blur": row}


def _difference_row(facts: Mapping[str, Any]) -> dict[str, str]:
    """Say how far the file is from what was trained."""
    if twin := facts.get("int8"):
        return {
            "8 bits": f"ranges from {twin['pictures']} training pictures; validation MAE "
            f"{twin['mae_loss']:+.4f} against the model that it was made of"
        }
    apart = facts["torch_against_onnxruntime"]
    return {"torch against onnxruntime": f"at most {apart:.2g} apart"}


def _markdown(file: str, card: Mapping[str, Any]) -> Iterator[str]:
    facts = card["about"]
    data, training, found = facts["data"], facts["training"], facts["validation"]
    embedder = data.get("embedder") or {}
    speed = facts["latency_ms"]
    counted = "faces" if data.get("kind") == "faces" else "pictures"
    rows = {
        "file": f"`{file}`, {facts['bytes'] / 1e6:.3f} MB, {facts['parameters']:,} parameters",
        "backbone": facts["backbone"],
        "input": "aligned faces, 112 x 112, RGB, (pixel - 127.5) / 127.5",
        "output": "blur degree, 0 sharp to 1 unusable",
        "suggested threshold": f"{card['threshold']:g} ({facts['threshold_from']})",
        "validation MAE": f"{found['mae']:.4f} on {found['pictures']} pictures of other identities",
        "validation rank correlation": f"{found['spearman']:.4f} (Spearman)",
        **_kinds_row(facts),
        "latency": f"{speed['batch 1']} ms for one face, {speed['batch 8']} ms for 8 "
        f"({speed['how']})",
        "training data": f"{data['train']} {counted}, {data['identities']} identities, blurred by "
        + ", ".join(data["methods"]),
        "validation data": f"{data['val']} {counted}, {data['identities_val']} identities",
        "labels": "1 - cosine similarity to the sharp face, embedder "
        + f"{embedder.get('name', 'unknown')} {embedder.get('sha256', '')[:12]}".strip(),
        "training": f"{facts['epochs_done']} epochs, the best was {facts['best_epoch']}; "
        + ", ".join(f"{key} {value}" for key, value in training.items() if key != "epochs"),
        **({"begun with": facts["begun_with"]} if "begun_with" in facts else {}),
        "seed": f"{facts['seed']}; data {data.get('seed')}",
        "trained on": f"{facts['trained_on']}, {facts['seconds']} s",
        "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        "commit": facts["commit"] or "unknown",
        **_difference_row(facts),
        "licence": card["licence"],
    }
    yield from table_of(card["name"], rows)
    yield (
        "\nThe licence of a model also depends on the faces and on the embedder that it was "
        "trained with.\n"
    )
