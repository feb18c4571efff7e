"""What thresholds do to material that is blurred less than a folder of `blurgate synth --even`.

    python scripts/threshold_table.py TRAINSET --embedder arcface.onnx --match-threshold 0.3343 \
        --other-photo 0.675 --threshold 0.4 --threshold 0.5

Labels of such a folder are spread evenly over 0 to 1, and most footage is milder. Its validation
people (others with --split) are counted with weights that fall with the label, exp(-a label), so
that the FNMR without a gate is 10, 20 and 30 %. A comparison with another photo of the person is
taken to have the cosine with the clean twin times `--other-photo`, as in `blurgate calibrate`.
Printed are, for each threshold, the share of faces that is kept and the FNMR of the kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from blurgate import zoo
from blurgate.evaluation.material import material_of_synth
from blurgate.interfaces import Runtime

STARTS = (0.1, 0.2, 0.3)
STEEPEST = 50.0


def weights(label: np.ndarray, wrong: np.ndarray, start: float) -> np.ndarray:
    """Give weights of sum 1 for which a share `start` of the comparisons is wrong."""
    low, high = 0.0, STEEPEST
    for _ in range(60):
        steep = (low + high) / 2
        w = np.exp(-steep * label)
        low, high = (steep, high) if (w * wrong).sum() / w.sum() > start else (low, steep)
    return w / w.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--model", help="scorer: a name or .onnx; the default one without it")
    parser.add_argument("--match-threshold", type=float, required=True)
    parser.add_argument("--other-photo", type=float, required=True)
    parser.add_argument("--threshold", type=float, action="append", required=True)
    parser.add_argument("--split", choices=("val", "train"), default="val")
    args = parser.parse_args()

    runtime = Runtime("cpu")
    scorer = zoo.open_scorer(args.model, runtime)
    embedder = zoo.open_embedder(args.embedder, runtime)
    found = material_of_synth(args.folder, scorer, embedder, split=args.split)
    same = (found.reference_embedding[found.owner] * found.embedding).sum(1)
    wrong = same * args.other_photo < args.match_threshold
    print(f"{len(wrong)} pictures of {len(set(found.identities))} people by {scorer.info}")
    print("FNMR without a gate | threshold | kept | FNMR of the kept")
    whole = wrong.mean()
    mixes = [(f"{whole:.3f}, even labels", np.full(len(wrong), 1 / len(wrong)))]
    mixes += [(f"{s:.3f}", weights(found.label, wrong, s)) for s in STARTS if s < whole]
    for title, weight in mixes:
        for threshold in args.threshold:
            kept = found.degree <= threshold
            share = weight[kept].sum()
            rate = weight[kept & wrong].sum() / share if share else float("nan")
            print(f"{title} | {threshold:g} | {share:.3f} | {rate:.4f}")


if __name__ == "__main__":
    main()
