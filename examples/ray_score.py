"""Score pictures in a Ray Data job of your own.

    pip install ".[cpu,ray]"
    python examples/ray_score.py PICTURES OUT [--actors N]

The paths here come from a folder; in a job of your own they may come from anywhere, as a column of
paths or fsspec addresses that every worker can read. `blurgate score --engine ray` does the same
with parts that can be resumed; use this where the rows go on to other steps.
"""

from __future__ import annotations

import argparse

import ray

from blurgate.engines import ScorePaths
from blurgate.scoring import list_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", help="A folder, pattern or address.")
    parser.add_argument("out", help="A folder or address for Parquet files.")
    parser.add_argument("--model")
    parser.add_argument("--detector")
    parser.add_argument("--actors", type=int, default=2)
    arguments = parser.parse_args()

    paths = ray.data.from_items([{"path": name} for name in list_images([arguments.pictures])])
    rows = paths.map_batches(
        ScorePaths,
        fn_constructor_kwargs={"model": arguments.model, "detector": arguments.detector},
        batch_size=64,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=arguments.actors),
    )
    rows.write_parquet(arguments.out)


if __name__ == "__main__":
    main()
