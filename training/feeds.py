"""Finished folders of `blurgate synth` as training data, and the data of a configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from blurgate.errors import ConfigError
from blurgate.pipeline import ordered_map
from blurgate.training import layout
from blurgate.training.batches import Feed, Pictures, order, shares, sharp
from blurgate.training.dataset import Dataset
from blurgate.training.live import open_live
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.training.config import TrainConfig
    from blurgate.types import U8

__all__ = ["FolderFeed", "open_feed"]


class FolderFeed:
    """Reads finished folders of `blurgate synth`, put together to one set.

    Args:
        folders: The folders, at least one; all labelled by the same embedder.
        methods: Only these methods; empty: all.
        clean: Share of every training batch, in whole pictures, that shows the clean face instead:
            its degree is 0. Blurred pictures hardly ever come that low, and users' faces do.
        seed: Decides the order.
        workers: Threads that read pictures.

    Raises:
        InputError: A folder holds no dataset, or a damaged one.
        ConfigError: A dataset is not finished, a part is empty, the embedders differ, or an
            identity is for training in one folder and for validation in another.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        methods: tuple[str, ...] = (),
        clean: float = 0.0,
        seed: int = 0,
        workers: int = 1,
    ) -> None:
        self._train, self._val = (
            _Joined([Dataset(folder, split=split, methods=methods or None) for folder in folders])
            for split in ("train", "val")
        )
        named = " and ".join(map(str, folders))
        for part, name in ((self._train, "training"), (self._val, "validation")):
            if not len(part):
                raise ConfigError(
                    f"{named}: no {name} pictures; make them with blurgate synth --val 0.2"
                )
        both = self._train.identities & self._val.identities
        if both:
            raise ConfigError(
                f"{named}: {min(both)!r} is for training in one folder and for validation in "
                "another; make them with the same faces, --val and --val-seed"
            )
        made = [part.facts for part in self._train.parts]
        if any(facts.get("embedder") != made[0].get("embedder") for facts in made):
            raise ConfigError(f"{named}: labels of different embedders cannot be mixed")
        self._clean, self._seed, self._workers = clean, seed, workers
        digest = hashlib.sha256()
        for folder in folders:
            digest.update((folder / layout.SETTINGS).read_bytes())
        every = dict.fromkeys(name for facts in made for name in facts["methods"])
        seeds = [facts.get("seed") for facts in made]
        self.facts: Mapping[str, Any] = {
            "kind": "folder",
            "sha256": digest.hexdigest(),
            "methods": list(methods) or list(every),
            "train": len(self._train),
            "val": len(self._val),
            "identities": len(self._train.identities),
            "identities_val": len(self._val.identities),
            "embedder": made[0].get("embedder"),
            "seed": seeds[0] if len(set(seeds)) == 1 else seeds,
        }

    def steps(self, batch: int, *, world: int = 1) -> int:
        """Give the number of batches of an epoch, per process."""
        return shares(len(self._train), batch, world)[0]

    def train(
        self, epoch: int, batch: int, *, rank: int = 0, world: int = 1
    ) -> Generator[Pictures]:
        """Give an epoch's batches; see `blurgate.training.batches.Feed`."""
        batches = order(len(self._train), self._seed, epoch, batch, rank, world)
        return self._read(self._train, batches, self._clean)

    def val(self, batch: int) -> Generator[Pictures]:
        """Give the validation pictures in the order of the tables."""
        every = np.arange(len(self._val))
        starts = range(0, len(every), batch)  # Python's numbers: `batch` may be of any size
        return self._read(self._val, (every[at : at + batch] for at in starts))

    def clean_val(self, count: int) -> U8:
        """Give clean validation faces of the first folder; see `blurgate.training.batches.Feed`."""
        part = self._val.parts[0]
        first: dict[str, int] = {}
        for row, person in enumerate(part.identities):
            first.setdefault(person, row)
        return part.clean_pictures(list(first.values())[:count])

    def _read(
        self, part: _Joined, batches: Iterator[NDArray[np.int64]], clean: float = 0.0
    ) -> Generator[Pictures]:
        def read(index: NDArray[np.int64]) -> Pictures:
            count = sharp(len(index), clean)
            pictures, degrees = part.pictures(index, count), part.labels[index]
            degrees[:count] = 0
            return Pictures(
                torch.from_numpy(pictures).permute(0, 3, 1, 2), torch.from_numpy(degrees)
            )

        return ordered_map(read, batches, self._workers)


class _Joined:
    """The rows of several datasets, one dataset after the other."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = parts
        self.labels = np.concatenate([part.labels for part in parts])
        self.identities = {person for part in parts for person in part.identities}
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return len(self.labels)

    def pictures(self, index: NDArray[np.int64], clean_first: int = 0) -> U8:
        """Read pictures, of the first rows the clean twins; see `Dataset.pictures`."""
        out = np.empty((len(index), CROP_SIZE, CROP_SIZE, 3), np.uint8)
        which = np.searchsorted(self._ends, index, side="right")
        first = np.arange(len(index)) < clean_first
        for number, part in enumerate(self.parts):
            row = index - (self._ends[number] - len(part))
            clean, blurred = (which == number) & first, (which == number) & ~first
            out[clean] = part.clean_pictures(row[clean])
            out[blurred] = part.pictures(row[blurred])
        return out


def open_feed(
    config: TrainConfig,
    *,
    device: str = "cpu",
    workers: int = 1,
    on_failure: Callable[[str, str], None] = lambda source, error: None,
) -> Feed:
    """Open the data of a configuration.

    Args:
        config: Its `data` or `faces` say what.
        device: Where pictures are made on the fly: cpu, cuda or cuda:N.
        workers: Threads.
        on_failure: Called with (path, one line) for every picture that is skipped.

    Raises:
        ConfigError: Neither is set, or a part of the data would be empty.
        InputError: The data cannot be read.
        MissingModelError: The embedder is not on this machine.
    """
    if config.data:
        return FolderFeed(
            [Path(folder) for folder in config.data],
            methods=config.methods,
            clean=config.clean,
            seed=config.seed,
            workers=workers,
        )
    if not config.faces:
        raise ConfigError("there is nothing to train on: give --data DIR or --faces PATH")
    return open_live(config, device, workers, on_failure)
