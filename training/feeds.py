"""Where a training loop gets its pictures: a `blurgate synth` folder, or faces blurred on the fly.

A feed gives an epoch's batches in an order that the seed and the epoch decide, so that an epoch can
be repeated. Every process of a distributed run takes its own share of the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from blurgate import zoo
from blurgate.errors import ConfigError
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.pipeline import ordered_map
from blurgate.training import even, layout
from blurgate.training.bound import tensor_embed
from blurgate.training.dataset import Dataset, LiveData, read_crops
from blurgate.training.faces import Face, FaceReader, list_faces
from blurgate.training.labels import Labeller
from blurgate.training.pairs import make_chain, torch_device
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.training.config import TrainConfig
    from blurgate.types import U8

__all__ = ["Feed", "FolderFeed", "LiveFeed", "Pictures", "open_feed"]


class Pictures(NamedTuple):
    """A batch, on whatever device it was made."""

    pictures: Tensor
    """(n, 3, 112, 112) uint8 BGR."""
    degrees: Tensor
    """(n,) float32 true degrees in [0, 1]."""


class Feed(Protocol):
    """Training and validation pictures."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the data is, as plain values; a resumed run has to have the same."""
        ...

    def steps(self, batch: int, *, world: int = 1) -> int:
        """Give the number of batches of an epoch, per process."""
        ...

    def train(
        self, epoch: int, batch: int, *, rank: int = 0, world: int = 1
    ) -> Generator[Pictures]:
        """Give an epoch's batches, all of one size; what is left over is left out.

        Args:
            epoch: From 0.
            batch: Pictures per batch and process; fewer if there are not so many.
            rank: Which process this is, from 0.
            world: How many there are.
        """
        ...

    def val(self, batch: int) -> Generator[Pictures]:
        """Give the validation pictures, the same every time; the last batch may be smaller."""
        ...

    def clean_val(self, count: int) -> U8:
        """Give clean validation faces, (up to count, 112, 112, 3) uint8 BGR, one per identity."""
        ...


def _shares(count: int, batch: int, world: int) -> tuple[int, int]:
    """Give (batches, pictures per batch) of one process."""
    share = count // world
    if share < 2:
        raise ConfigError(f"{count} training pictures are too few for {world} processes")
    step = min(batch, share)
    return share // step, step


def _order(
    count: int, seed: int, epoch: int, batch: int, rank: int, world: int
) -> Iterator[NDArray[np.int64]]:
    """Give the numbers of the pictures of each batch of one process."""
    batches, step = _shares(count, batch, world)
    order = np.random.default_rng([seed, epoch]).permutation(count)[rank::world]
    for number in range(batches):
        yield order[number * step : (number + 1) * step]


class FolderFeed:
    """Reads finished folders of `blurgate synth`, put together to one set.

    Args:
        folders: The folders, at least one; all labelled by the same embedder.
        methods: Only these methods; empty: all.
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
                "another; make them with the same faces, --val and --seed"
            )
        made = [part.facts for part in self._train.parts]
        if any(facts.get("embedder") != made[0].get("embedder") for facts in made):
            raise ConfigError(f"{named}: labels of different embedders cannot be mixed")
        self._seed, self._workers = seed, workers
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
        return _shares(len(self._train), batch, world)[0]

    def train(
        self, epoch: int, batch: int, *, rank: int = 0, world: int = 1
    ) -> Generator[Pictures]:
        """Give an epoch's batches; see `Feed`."""
        order = _order(len(self._train), self._seed, epoch, batch, rank, world)
        return self._read(self._train, order)

    def val(self, batch: int) -> Generator[Pictures]:
        """Give the validation pictures in the order of the tables."""
        every = np.arange(len(self._val))
        return self._read(self._val, (every[at : at + batch] for at in every[::batch]))

    def clean_val(self, count: int) -> U8:
        """Give clean validation faces of the first folder; see `Feed`."""
        part = self._val.parts[0]
        first: dict[str, int] = {}
        for row, person in enumerate(part.identities):
            first.setdefault(person, row)
        return part.clean_pictures(list(first.values())[:count])

    def _read(self, part: _Joined, order: Iterator[NDArray[np.int64]]) -> Generator[Pictures]:
        def read(index: NDArray[np.int64]) -> Pictures:
            pictures = torch.from_numpy(part.pictures(index)).permute(0, 3, 1, 2)
            return Pictures(pictures, torch.from_numpy(part.labels[index]))

        return ordered_map(read, order, self._workers)


class _Joined:
    """The rows of several datasets, one dataset after the other."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = parts
        self.labels = np.concatenate([part.labels for part in parts])
        self.identities = {person for part in parts for person in part.identities}
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return len(self.labels)

    def pictures(self, index: NDArray[np.int64]) -> U8:
        """Read pictures; see `Dataset.pictures`."""
        out = np.empty((len(index), CROP_SIZE, CROP_SIZE, 3), np.uint8)
        which = np.searchsorted(self._ends, index, side="right")
        for number, part in enumerate(self.parts):
            chosen = which == number
            out[chosen] = part.pictures(index[chosen] - (self._ends[number] - len(part)))
        return out


@dataclass(frozen=True, slots=True, eq=False)
class LiveFeed:
    """Blurs and labels faces as they are asked for.

    Raises:
        ConfigError: There are fewer than two training faces.
    """

    train_data: LiveData
    val_data: LiveData
    facts: Mapping[str, Any]
    val_identities: Sequence[str] = ()
    seed: int = 0
    per_face: int = 1
    """Pictures of every training face per epoch, each blurred otherwise."""
    val_per_face: int = 1

    def steps(self, batch: int, *, world: int = 1) -> int:
        """Give the number of batches of an epoch, per process."""
        return _shares(len(self.train_data), batch, world)[0] * self.per_face

    def train(
        self, epoch: int, batch: int, *, rank: int = 0, world: int = 1
    ) -> Generator[Pictures]:
        """Give an epoch's batches; see `Feed`."""
        for copy in range(epoch * self.per_face, (epoch + 1) * self.per_face):
            for faces in _order(len(self.train_data), self.seed, copy, batch, rank, world):
                made = self.train_data.batch(faces, copy)
                yield Pictures(made.pictures, made.labels)

    def val(self, batch: int) -> Generator[Pictures]:
        """Give the validation pictures: the same faces, blurred the same way, every time."""
        for copy in range(self.val_per_face):
            for at in range(0, len(self.val_data), batch):
                faces = range(at, min(at + batch, len(self.val_data)))
                made = self.val_data.batch(faces, copy)
                yield Pictures(made.pictures, made.labels)

    def clean_val(self, count: int) -> U8:
        """Give clean validation faces; see `Feed`."""
        first: dict[str, int] = {}
        for face, person in enumerate(self.val_identities):
            first.setdefault(person, face)
        return self.val_data.clean_pictures(list(first.values())[:count])


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
            seed=config.seed,
            workers=workers,
        )
    if not config.faces:
        raise ConfigError("there is nothing to train on: give --data DIR or --faces PATH")
    return _open_live(config, device, workers, on_failure)


def _open_live(
    config: TrainConfig, device: str, workers: int, on_failure: Callable[[str, str], None]
) -> LiveFeed:
    if not config.val:
        raise ConfigError("training on the fly needs a validation part: set val, such as 0.2")
    runtime = Runtime(device)
    labeller = Labeller(zoo.open_embedder(config.embedder or None, runtime))
    detection = DetectorOptions()
    finder = (
        zoo.open_detector(config.detector or None, runtime, detection) if config.align else None
    )
    reader = FaceReader(config.size, finder, repr(detection) if config.align else "")
    found = list_faces(config.faces, identity=config.identity, val=config.val, seed=config.seed)
    kept, crops = read_crops(found, reader, workers=workers, on_failure=on_failure)
    chain = make_chain(
        config.synthesizer,
        options=config.synthesizer_options,
        iterative=config.iterative,
        linear=config.light == "linear",
        noise=config.noise,
        compression=config.compression,
        harsh=config.harsh,
    )
    parts: dict[bool, list[U8]] = {
        is_val: [crop for face, crop in zip(kept, crops, strict=True) if face.is_val == is_val]
        for is_val in (False, True)
    }
    if len(parts[False]) < 2 or not parts[True]:
        raise ConfigError(
            f"of {len(found)} pictures {len(parts[False])} can be trained on and "
            f"{len(parts[True])} are left for validation: too few; see `identity` in "
            "docs/training.md"
        )
    curve = None
    if config.even:
        count = even.n_tracks(len(parts[False]) * config.per_face)
        order = np.random.default_rng(config.seed).permutation(len(parts[False]))[:count]
        sample = [parts[False][i] for i in order]
        place = torch_device(device) if device.startswith("cuda") else None
        curve = even.calibrate(
            chain, sample, labeller, seed=config.seed, tracks=count, device=place, workers=workers
        )
    embed = tensor_embed(config.embedder or None, labeller, torch_device(device))
    train, val = (
        LiveData(
            parts[is_val],
            chain,
            embed,
            seed=config.seed + is_val,
            device=device,
            curve=curve,
        )
        for is_val in (False, True)
    )
    facts = _live_facts(config, kept, labeller, finder)
    people = [face.identity for face in kept if face.is_val]
    return LiveFeed(train, val, facts, people, config.seed, config.per_face, config.val_per_face)


def _live_facts(
    config: TrainConfig, faces: list[Face], labeller: Labeller, finder: Any
) -> dict[str, Any]:
    digest = hashlib.sha256()
    for face in faces:
        line = f"{face.source}\0{face.identity}\0{face.is_val}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    people = {is_val: {f.identity for f in faces if f.is_val == is_val} for is_val in (False, True)}
    return {
        "kind": "faces",
        "sha256": digest.hexdigest(),
        "methods": [config.synthesizer],
        "train": sum(not face.is_val for face in faces),
        "val": sum(face.is_val for face in faces),
        "identities": len(people[False]),
        "identities_val": len(people[True]),
        "embedder": {"name": labeller.info.name, "sha256": labeller.info.sha256},
        "detector": finder and {"name": finder.info.name, "sha256": finder.info.sha256},
        "seed": config.seed,
    }
