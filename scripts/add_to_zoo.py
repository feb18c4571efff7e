"""Put a trained model into the zoo that comes with the package.

    python scripts/add_to_zoo.py run/mobilenetv2_0.25.onnx [--profile profile.json] [--alias NAME]
        [--default]

copies the ONNX file and its Markdown card to models_zoo/, with the threshold that `blurgate
calibrate` has chosen written into the card inside the file, and lists it in manifest.json with its
size and SHA-256. `--default` makes it the first choice of its kind.
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
    how = (
        f"blurgate calibrate, {target}; 95 % interval {low:.3f} to {high:.3f}; "
        f"{profile['n']['faces']} faces of the validation part: {reached}"
    )
    about = {**card.get("about", {}), "threshold_from": how}
    return {**card, "threshold": round(profile["threshold"], 3), "about": about}


def main() -> None:
    """Add one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--alias", action="append", default=[])
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
    onnx.helper.set_model_props(graph, {**properties, METADATA_KEY: json.dumps(card)})
    file = ZOO / f"{card['name']}.onnx"
    file.write_bytes(graph.SerializeToString())
    if card["kind"] == "scorer":  # measured again: the machine was busy when training ended
        difference = card["about"]["torch_against_onnxruntime"]
        card = write_card(file, card, difference)
        file.with_suffix(".json").unlink()  # the card is in the file and in the manifest
    else:
        text = arguments.model.with_suffix(".md").read_text(encoding="utf-8")
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
