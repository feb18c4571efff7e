"""Write a detector of `blurgate train` again: the same weights, in the graph that is written today.

    python scripts/write_again.py scrfd_blurgate --out again
    python scripts/add_to_zoo.py again/scrfd_blurgate.onnx --default

Its card stays, but for size and speed and how near the file is to the network in torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from blurgate import zoo
from blurgate.cards import facts_of
from blurgate.training.detection.card import write_card
from blurgate.training.detection.export import export_detector
from blurgate.training.detection.network import DetectorNet, NetShape
from blurgate.training.exported import weights_of


def main() -> None:
    """Write the file and its card."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("detector", metavar="NAME|PATH")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    file = zoo.resolve("detector", arguments.detector)
    if file is None:
        parser.error(f"{arguments.detector} is no network")
    card = facts_of(file.path, file.path.read_bytes())
    network = DetectorNet(NetShape(**card["about"]["shape"]))
    network.load_state_dict(weights_of(file.path, network, side=64))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{card['name']}.onnx"
    difference = export_detector(network, path, card)
    write_card(path, card, difference)
    print(f"{path}: at most {difference:.2g} from torch")


if __name__ == "__main__":
    main()
