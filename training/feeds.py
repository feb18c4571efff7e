"""Where a training loop gets its pictures: a `blurgate synth` folder, or faces blurred on the fly.

A feed gives an epoch's batches in an order that the seed and the epoch decide, so that an epoch can
be repeated. Every process of a distributed run takes its own share of the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from blurgate import zoo
from blurgate.errors import ConfigError
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.pipeline import ordered_map, prefetch
from blurgate.training import even, layout
from blurgate.training.dataset import Dataset, LiveData, read_crops
from blurgate.training.faces import Face, FaceReader, list_faces, resized
from blurgate.training.graph import tensor_embed, torch_embedder
from blurgate.training.labels import Labeller
from blurgate.training.pairs import make_chain, torch_device
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.training.config import TrainConfig
    from blurgate.types import U8

__all__ = ["Feed", "FolderFeed", "LiveFeed", "Pictures", "open_feed"]

_MADE: Final = 4096
"""Pictures that a GPU makes at once: the 2000 steps of a random path take it as long for one."""
_MADE_CPU: Final = 64


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


def _sharp(count: int, share: float) -> int:
    """Give how many pictures of a batch, its first, show the clean face instead; see `clean`."""
    return round(count * share)


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
        return _shares(len(self._train), batch, world)[0]

    def train(
        self, epoch: int, batch: int, *, rank: int = 0, world: int = 1
    ) -> Generator[Pictures]:
        """Give an epoch's batches; see `Feed`."""
        order = _order(len(self._train), self._seed, epoch, batch, rank, world)
        return self._read(self._train, order, self._clean)

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

    def _read(
        self, part: _Joined, order: Iterator[NDArray[np.int64]], clean: float = 0.0
    ) -> Generator[Pictures]:
        def read(index: NDArray[np.int64]) -> Pictures:
            sharp = _sharp(len(index), clean)
            pictures, degrees = part.pictures(index, sharp), part.labels[index]
            degrees[:sharp] = 0
            return Pictures(
                torch.from_numpy(pictures).permute(0, 3, 1, 2), torch.from_numpy(degrees)
            )

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

    def pictures(self, index: NDArray[np.int64], sharp: int = 0) -> U8:
        """Read pictures, of the first `sharp` rows the clean twins; see `Dataset.pictures`."""
        out = np.empty((len(index), CROP_SIZE, CROP_SIZE, 3), np.uint8)
        which = np.searchsorted(self._ends, index, side="right")
        first = np.arange(len(index)) < sharp
        for number, part in enumerate(self.parts):
            row = index - (self._ends[number] - len(part))
            clean, blurred = (which == number) & first, (which == number) & ~first
            out[clean] = part.clean_pictures(row[clean])
            out[blurred] = part.pictures(row[blurred])
        return out


class LiveFeed:
    """Blurs and labels faces as they are asked for.

    An epoch shows every training face `per_face` times, each time blurred otherwise. With `fresh`
    the pictures of as many epochs are made and then come again, in another order: they stay where
    they were made, 38 KB each.

    Args:
        train_data: Makes training pictures.
        val_data: Makes validation pictures.
        facts: What the data is; see `Feed`.
        val_identities: Who is shown by the faces of `val_data`.
        seed: Decides the order.
        per_face: Pictures of every training face per epoch.
        val_per_face: The same for validation.
        fresh: Epochs whose pictures are new; 0: all.
        clean: Share of every training batch that shows the clean face; see `FolderFeed`.

    Raises:
        ConfigError: There are fewer than two training faces.
    """

    def __init__(
        self,
        train_data: LiveData,
        val_data: LiveData,
        facts: Mapping[str, Any],
        val_identities: Sequence[str] = (),
        *,
        seed: int = 0,
        per_face: int = 1,
        val_per_face: int = 1,
        fresh: int = 0,
        clean: float = 0.0,
    ) -> None:
        self.facts = facts
        self._train, self._val = train_data, val_data
        self._people = val_identities
        self._seed, self._fresh, self._clean = seed, fresh, clean
        self._count, self._val_count = len(train_data) * per_face, len(val_data) * val_per_face
        self._held: dict[tuple[int, int, int], Pictures] = {}
        self._held_val: Pictures | None = None
        self._twins: Tensor | None = None

    def steps(self, batch: int, *, world: int = 1) -> int:
        """Give the number of batches of an epoch, per process."""
        return _shares(self._count, batch, world)[0]

    def train(
        self, epoch: int, batch: int, *, rank: int = 0, world: int = 1
    ) -> Generator[Pictures]:
        """Give an epoch's batches; see `Feed`.

        Raises:
            ConfigError: The memory is too small for `fresh` epochs.
        """
        batches, step = _shares(self._count, batch, world)
        share = np.arange(self._count)[rank::world]  # the same in every epoch: it may be held
        order = np.random.default_rng([self._seed, epoch]).permutation(len(share))
        parts = [order[number * step : (number + 1) * step] for number in range(batches)]
        shown = self._shown(parts, share, epoch, (rank, world))
        with closing(shown):
            for part, pictures in zip(parts, shown, strict=True):
                yield self._sharpened(pictures, share[part])

    def _shown(
        self,
        parts: list[NDArray[np.int64]],
        share: NDArray[np.int64],
        epoch: int,
        process: tuple[int, int],
    ) -> Generator[Pictures]:
        """Give an epoch's blurred pictures, made now or held since an earlier epoch."""
        if not self._fresh:
            yield from self._make(parts, share, epoch)
            return
        key = (epoch % self._fresh, *process)
        if key not in self._held:
            # What does not fill a batch now may be shown later.
            left = np.setdiff1d(np.arange(len(share)), np.concatenate(parts))
            whole = [*parts, left] if len(left) else parts
            held = self._room(len(share))
            for number, made in enumerate(self._make(whole, share, key[0])):
                at = torch.from_numpy(whole[number]).to(held.degrees.device)
                held.pictures[at], held.degrees[at] = made
                if number < len(parts):
                    yield made
            self._held[key] = held
            return
        held = self._held[key]
        for part in parts:
            at = torch.from_numpy(part).to(held.degrees.device)
            yield Pictures(held.pictures[at], held.degrees[at])

    def val(self, batch: int) -> Generator[Pictures]:
        """Give the validation pictures: the same faces, blurred the same way, every time."""
        if self._held_val is None:
            every, many = np.arange(self._val_count), _MADE if self._val.on_gpu else _MADE_CPU
            parts = [every[at : at + many] for at in every[::many]]
            made = [self._one(self._val, part, 0) for part in parts]
            self._held_val = Pictures(*(torch.cat(some) for some in zip(*made, strict=True)))
        for at in range(0, self._val_count, batch):
            yield Pictures(*(values[at : at + batch] for values in self._held_val))

    def clean_val(self, count: int) -> U8:
        """Give clean validation faces; see `Feed`."""
        first: dict[str, int] = {}
        for face, person in enumerate(self._people):
            first.setdefault(person, face)
        return self._val.clean_pictures(list(first.values())[:count])

    def _sharpened(self, pictures: Pictures, number: NDArray[np.int64]) -> Pictures:
        """Put clean faces in place of a batch's first pictures; see `clean`."""
        sharp = _sharp(len(number), self._clean)
        if not sharp:
            return pictures
        if self._twins is None:
            self._twins = self._train.clean_twins(range(len(self._train)))
        at = torch.from_numpy(number[:sharp] % len(self._train)).to(self._twins.device)
        degrees = pictures.degrees.clone()
        degrees[:sharp] = 0
        return Pictures(torch.cat([self._twins[at], pictures.pictures[sharp:]]), degrees)

    def _make(
        self, parts: Sequence[NDArray[np.int64]], share: NDArray[np.int64], epoch: int
    ) -> Generator[Pictures]:
        """Make pictures, on a GPU those of many parts at once and a step ahead."""
        many = max(1, _MADE // len(parts[0])) if self._train.on_gpu else 1
        groups = [parts[at : at + many] for at in range(0, len(parts), many)]
        made = (self._one(self._train, share[np.concatenate(group)], epoch) for group in groups)
        with closing(prefetch(made, 1)) as ready:
            for group, pictures in zip(groups, ready, strict=True):
                ends = np.cumsum([0, *map(len, group)])
                for low, high in pairwise(ends.tolist()):
                    yield Pictures(*(values[low:high] for values in pictures))

    def _one(self, data: LiveData, number: NDArray[np.int64], epoch: int) -> Pictures:
        copies = (self._count if data is self._train else self._val_count) // len(data)
        made = data.batch(number % len(data), epoch * copies + number // len(data))
        return Pictures(made.pictures, made.labels)

    def _room(self, n: int) -> Pictures:
        device = self._train.device
        try:
            pictures = torch.empty((n, 3, CROP_SIZE, CROP_SIZE), dtype=torch.uint8, device=device)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            raise ConfigError(
                f"there is no memory for {n} more pictures on {device}: lower fresh or per_face"
            ) from error
        return Pictures(pictures, torch.empty(n, device=device))


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
    return _open_live(config, device, workers, on_failure)


def _open_live(
    config: TrainConfig, device: str, workers: int, on_failure: Callable[[str, str], None]
) -> LiveFeed:
    if not config.val:
        raise ConfigError("training on the fly needs a validation part: set val, such as 0.2")
    place = torch_device(device)
    on_gpu = torch_embedder(config.embedder or None, place) if place.type == "cuda" else None
    runtime = Runtime("auto" if place.type == "cuda" else device)
    embedder = on_gpu or zoo.open_embedder(config.embedder or None, runtime)
    labeller = Labeller(embedder)
    detection = DetectorOptions()
    finder = (
        zoo.open_detector(config.detector or None, runtime, detection) if config.align else None
    )
    reader = FaceReader(config.size, finder, repr(detection) if config.align else "")
    found = list_faces(config.faces, identity=config.identity, val=config.val, seed=config.seed)
    kept, crops = read_crops(found, reader, workers=workers, on_failure=on_failure)
    if config.one_size:
        crops = [resized(crop, config.size) for crop in crops]
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
        curve = even.calibrate(
            chain,
            sample,
            labeller,
            seed=config.seed,
            tracks=count,
            device=place if place.type == "cuda" else None,
            workers=1 if place.type == "cuda" else workers,
        )
    embed = tensor_embed(labeller, on_gpu)
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
    return LiveFeed(
        train,
        val,
        facts,
        people,
        seed=config.seed,
        per_face=config.per_face,
        val_per_face=config.val_per_face,
        fresh=config.fresh,
        clean=config.clean,
    )


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
