"""Write a model of `blurgate train` again: the same numbers, in the graph that is written today.

    python scripts/write_again.py models_zoo/scrfd_blurgate.onnx --out again
    python scripts/add_to_zoo.py again/scrfd_blurgate.onnx --default

for a detector, or for an 8-bit twin. A detector's card stays, but for size and speed and how near
the file is to the network in torch; that of a twin is measured when it is added to the zoo.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx

from blurgate.cards import facts_of
from blurgate.training.detection.card import write_card
from blurgate.training.detection.export import export_detector
from blurgate.training.detection.network import DetectorNet, NetShape
from blurgate.training.exported import weights_of
from blurgate.training.quantize import pack

TIMED = 500
"""Calls of a detector, of which the fastest counts."""


def main() -> None:
    """Write the file, and of a detector its card."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    card = facts_of(arguments.model, arguments.model.read_bytes())
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / arguments.model.name
    if card.get("kind") == "detector":
        network = DetectorNet(NetShape(**card["about"]["shape"]))
        network.load_state_dict(weights_of(arguments.model, network, side=64))
        write_card(path, card, export_detector(network, path, card), runs=TIMED)
    elif "int8" in card.get("about", {}):
        graph = onnx.load(arguments.model)
        pack(graph)
        path.write_bytes(graph.SerializeToString())
    else:
        parser.error(f"{arguments.model} is neither a detector nor an 8-bit twin")
    print(path)


if __name__ == "__main__":
    main()
