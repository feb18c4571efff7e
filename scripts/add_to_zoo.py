"""Put a trained model into the zoo that comes with the package.

    python scripts/add_to_zoo.py run/mobilenetv2_0.25.onnx [--profile profile.json] [--alias NAME]
        [--evaluation out/results.json] [--default]

copies the ONNX file and its Markdown card to models_zoo/, with the threshold that `blurgate
calibrate` has chosen written into the card inside the file, and lists it in manifest.json with its
size and SHA-256. `--default` makes it the first choice of its kind; `--evaluation` appends what
`blurgate evaluate --detector` found of a detector and of those beside it to its Markdown card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import onnx

from blurgate.cards import METADATA_KEY, read_card
from blurgate.training.card import write_card

ZOO = Path(__file__).parents[1] / "models_zoo"
KEPT = ("threshold", "source", "input", "output", "about")
MEASURED = ("bytes", "latency_ms")
"""Of a file on one machine; the manifest and the Markdown card tell of these, not the file."""
TIMED = 500
"""Calls, of which the fastest counts."""


def manifest_entry(card: dict[str, Any], file: Path, aliases: list[str]) -> dict[str, Any]:
    """Give a model's entry in the manifest."""
    data = file.read_bytes()
    runner = "scrfd" if card["kind"] == "detector" else "onnx"
    entry = {
        "name": card["name"],
        "aliases": aliases,
        "kind": card["kind"],
        "runner": card.get("runner") or runner,
        "origin": "blurgate",
        "licence": card["licence"],
        "file": file.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        **{key: card[key] for key in KEPT if card.get(key) not in (None, "", {})},
    }
    return {key: value for key, value in entry.items() if value not in ([], None)}


def with_profile(card: dict[str, Any], profile: dict[str, Any]) -> dict[str, Any]:
    """Take over the threshold of a profile of `blurgate calibrate`, and say where it is from."""
    low, high = profile["ci"]
    target = ", ".join(f"{key} {value}" for key, value in profile["target"].items())
    reached = ", ".join(f"{key} {value:.4g}" for key, value in profile["reached"].items())
    pictures = profile["n"].get("pictures", profile["n"]["faces"])  # the same, if none was blurred
    how = (
        f"blurgate calibrate, {target}; 95 % interval {low:.3f} to {high:.3f}; "
        f"{pictures} pictures of the validation part: {reached}"
    )
    about = {**card.get("about", {}), "threshold_from": how}
    return {**card, "threshold": round(profile["threshold"], 3), "about": about}


def compared(results: dict[str, Any]) -> str:
    """Give what `blurgate evaluate --detector` measured as a Markdown table, a column a detector.

    Args:
        results: Its results.json.
    """
    detectors = list(results["detectors"])
    rows: dict[str, list[float | None]] = {}
    for name, found in results["sets"].items():
        for kind, value in _figures(found[detectors[0]]).items():
            if value is not None:
                rows[f"{name}: {kind}"] = [_figures(found[d])[kind] for d in detectors]
    timing = results.get("timing", {})
    if all(d in timing for d in detectors):
        rows["milliseconds at 384 x 640, one thread, the network, fastest"] = [
            timing[d]["network_fastest_ms"] for d in detectors
        ]
    names = [str(results["detectors"][d]).split("@")[0] for d in detectors]
    lines = [["", *names], ["---", *["---:"] * len(names)]]
    for kind, values in rows.items():
        places = 1 if "millisecond" in kind or "alarms" in kind else 3
        lines.append([kind, *("" if v is None else f"{v:.{places}f}" for v in values)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figures(found: dict[str, Any]) -> dict[str, float | None]:
    """Choose what a card says of one set of pictures."""
    default = found["default"]
    if not default["faces"]:
        alarms = 100 * default["false_alarms"] / found["pictures"]
        return {f"false alarms per 100 of {found['pictures']} pictures": alarms}
    figures = {}
    if "ap" in found:
        figures["AP at IoU 0.5, faces from 32 px"] = found["ap"]["0.5"][">=32px"]
        figures["AP at IoU 0.3, faces from 32 px"] = found["ap"]["0.3"][">=32px"]
    for degree, part in default.get("recall_by_degree", {}).items():
        figures[f"recall at blur degree {degree.replace('-', ' to ')}"] = part["recall"]
    if "ap" in found:
        figures["recall"] = default["recall"]
        figures["precision"] = default["precision"]
        figures["landmark error over the distance of the eyes, mean"] = found["landmark_error"][
            "mean"
        ]
    return figures


def main() -> None:
    """Add one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--alias", action="append", default=[])
    parser.add_argument("--evaluation", type=Path)
    parser.add_argument("--default", action="store_true")
    arguments = parser.parse_args()
    graph = onnx.load(str(arguments.model))
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    card = json.loads(properties[METADATA_KEY])
    beside = arguments.model.with_suffix(".json")
    if beside.is_file():  # what was measured after the export: size, latency, errors
        card |= json.loads(beside.read_text(encoding="utf-8"))
    if arguments.profile:
        card = with_profile(card, json.loads(arguments.profile.read_text(encoding="utf-8")))
    read_card(card, str(arguments.model))
    about = {key: value for key, value in card["about"].items() if key not in MEASURED}
    inside = json.dumps({**card, "about": about})
    onnx.helper.set_model_props(graph, {**properties, METADATA_KEY: inside})
    file = ZOO / f"{card['name']}.onnx"
    file.write_bytes(graph.SerializeToString())
    if card["kind"] == "scorer":  # measured again: the machine was busy when training ended
        apart = card["about"].get("torch_against_onnxruntime")
        card = write_card(file, card, apart, runs=TIMED)
        file.with_suffix(".json").unlink()  # the card is in the file and in the manifest
    else:
        text = arguments.model.with_suffix(".md").read_text(encoding="utf-8")
        if arguments.evaluation:
            results = json.loads(arguments.evaluation.read_text(encoding="utf-8"))
            text += (
                "\nOn pictures that it was not trained on, `blurgate evaluate --detector` printed "
                f"(docs/results.md says more):\n\n{compared(results)}"
            )
        file.with_suffix(".md").write_text(text, encoding="utf-8")
    path = ZOO / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    entry = manifest_entry(card, file, arguments.alias)
    key = (entry["kind"], entry["name"])
    own = [m for m in manifest["models"] if m["origin"] == "blurgate"]
    others = [m for m in manifest["models"] if m["origin"] != "blurgate"]
    own = [m for m in own if (m["kind"], m["name"]) != key] + [entry]
    manifest["models"] = sorted(own, key=lambda m: (m["kind"], m["name"])) + others
    if arguments.default:
        names = [name for name in manifest["defaults"][entry["kind"]] if name != entry["name"]]
        manifest["defaults"][entry["kind"]] = [entry["name"], *names]
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    print(f"{file}: {entry['bytes']} bytes, sha256 {entry['sha256']}")


if __name__ == "__main__":
    main()
