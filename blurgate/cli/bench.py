"""`blurgate bench`: size, speed and accuracy of blur models, side by side."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blurgate.cli import options
from blurgate.cli.columns import columns
from blurgate.cli.progress import progress_bar
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blurgate.benching import Key, Subject
    from blurgate.interfaces import App
    from blurgate.timing import Spent

EXAMPLE = """Example:

  blurgate bench mobilenetv2_0.25 run/my_model.onnx --data trainset

compares two models on the validation part of a folder of `blurgate synth`.
`blurgate bench --backbone all` exports every backbone untrained and times it.
"""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("bench", epilog=EXAMPLE)(bench_command)


def bench_command(
    model: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL...]",
            help="Blur models: names or .onnx files [default: all that are here].",
        ),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Time a backbone untrained (needs the extra `train`); `all`; may be repeated.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Measure errors on this folder of `blurgate synth`."),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="Faces per call; may be repeated [1, 8 and 32]."),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, max=1024, metavar="N", help="Threads; may be repeated [1 and 2]."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Timed calls of each.")] = 20,
    torch: Annotated[
        bool, typer.Option("--torch/--no-torch", help="Time torch too, where it is installed.")
    ] = True,
    device: options.Device = "cpu",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure blur models: file size, time per call and accuracy."""
    import json
    import tempfile

    from blurgate import zoo
    from blurgate.benching import measure, open_subject
    from blurgate.errors import MissingModelError
    from blurgate.files import matching

    names = [name for word in model or () for name in matching(word)] or (
        [row.name for row in zoo.models() if row.kind == "scorer" and row.present]
        if not backbone
        else []
    )
    used_batches, used_threads = batch or [1, 8, 32], threads or [1, 2]
    if not names and not backbone:
        raise MissingModelError("there is no blur model here; name a file, or use --backbone all")
    subjects = [open_subject(name, device, used_threads) for name in names]
    if torch and find_spec("torch") is not None:
        subjects = [_with_torch(subject, used_threads) for subject in subjects]
    with tempfile.TemporaryDirectory() as folder:
        subjects += _untrained(backbone or [], Path(folder), used_threads, torch)
        with progress_bar(rounds, "rounds", quiet=quiet) as bar:
            times = measure(
                subjects, used_batches, rounds=rounds, on_round=lambda done: bar(done, "")
            )
        errors = [_errors(subject, data) for subject in subjects]
    rows = [
        _row(subject, taken, error)
        for subject, taken, error in zip(subjects, times, errors, strict=True)
    ]
    if as_json:
        facts = {"machine": _machine(), "rounds": rounds, "models": rows}
        typer.echo(json.dumps(facts, indent=2))
        return
    for line in columns(_table(rows, _labels(rows, names), used_batches)):
        typer.echo(line)
    how = f"ms per call, from pixels to degrees, medians of {rounds} and (the fastest)"
    typer.echo(f"\n{how}; {_machine()}", err=True)
    if any(row["mae"] is not None for row in rows):
        where = f"of {data}" if data is not None else "that their own cards state, each on its data"
        typer.echo(f"errors: validation pictures {where}", err=True)


def _with_torch(subject: Subject, threads: Sequence[int]) -> Subject:
    from dataclasses import replace

    from blurgate.training.bench import torch_calls

    if "backbone" not in subject.about:
        return subject
    return replace(subject, calls={**subject.calls, **torch_calls(subject.about, threads)})


def _untrained(
    backbones: Sequence[str], folder: Path, threads: Sequence[int], torch: bool
) -> list[Subject]:
    if not backbones:
        return []
    from dataclasses import replace

    from blurgate.host import get_host
    from blurgate.training.train_command import need_training

    need_training()
    from blurgate.training.bench import untrained

    every = [entry.name for entry in get_host().registry("backbone")]
    names = every if "all" in backbones else list(dict.fromkeys(backbones))
    found = [untrained(name, folder, threads) for name in names]
    if torch:
        return found
    return [
        replace(subject, calls={key: c for key, c in subject.calls.items() if key[0] != "torch"})
        for subject in found
    ]


def _errors(subject: Subject, data: Path | None) -> tuple[float | None, float | None]:
    """Give (MAE, Spearman): measured on `data`, or what the card states."""
    if data is None or subject.score is None:
        from blurgate.cards import number_in, object_in

        stated = object_in(subject.about, "validation")
        return number_in(stated, "mae"), number_in(stated, "spearman")
    import numpy as np

    from blurgate.errors import ConfigError
    from blurgate.training.dataset import Dataset
    from blurgate.training.scores import score

    part = Dataset(data, split="val")
    if not len(part):
        raise ConfigError(f"{data} has no validation pictures; make it with blurgate synth --val")
    every = np.arange(len(part))
    found: list[Any] = [
        subject.score(part.pictures(every[at : at + 64])) for at in range(0, len(part), 64)
    ]
    scores = score(np.concatenate(found), part.labels)
    return scores.mae, scores.spearman


def _row(
    subject: Subject,
    taken: dict[Key, Spent],
    errors: tuple[float | None, float | None],
) -> dict[str, Any]:
    from blurgate.cards import number_in

    return {
        "name": subject.name,
        "path": subject.path,
        "bytes": subject.bytes,
        "parameters": number_in(subject.about, "parameters"),
        "mae": errors[0],
        "spearman": errors[1],
        "ms": [
            {
                "engine": engine,
                "threads": threads,
                "batch": batch,
                "ms": round(middle, 4),
                "fastest_ms": round(fastest, 4),
            }
            for (engine, threads, batch), (middle, fastest) in taken.items()
        ],
    }


def _labels(rows: Sequence[dict[str, Any]], given: Sequence[str]) -> list[str]:
    """Give the models' names; where two have one, what was given for them."""
    names = [row["name"] for row in rows]
    words = [*given, *names[len(given) :]]
    return [w if names.count(n) > 1 else n for n, w in zip(names, words, strict=True)]


def _table(
    rows: Sequence[dict[str, Any]], labels: Sequence[str], batches: Sequence[int]
) -> list[tuple[str, ...]]:
    head = ("MODEL", "MB", "PARAMETERS", "MAE", "SPEARMAN", "ENGINE", "THREADS")
    table = [(*head, *(f"MS AT {batch}" for batch in batches))]
    for row, label in zip(rows, labels, strict=True):
        first = (
            label,
            f"{row['bytes'] / 1e6:.3f}" if row["bytes"] else "-",
            f"{row['parameters']:,}" if row["parameters"] else "-",
            "-" if row["mae"] is None else f"{row['mae']:.4f}",
            "-" if row["spearman"] is None else f"{row['spearman']:.4f}",
        )
        for engine, threads in dict.fromkeys((e["engine"], e["threads"]) for e in row["ms"]):
            spent = {
                e["batch"]: f"{e['ms']:.2f} ({e['fastest_ms']:.2f})"
                for e in row["ms"]
                if (e["engine"], e["threads"]) == (engine, threads)
            }
            table.append((*first, engine, str(threads), *(spent[batch] for batch in batches)))
            first = ("", "", "", "", "")
    return table


def _machine() -> str:
    import os
    import platform

    from blurgate.cli.doctor import installed

    names = ("onnxruntime", "onnxruntime-gpu", "torch")
    have = (f", {name} {version}" for name in names if (version := installed(name)) is not None)
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{''.join(have)}"
