"""Faces that are blurred and labelled while training goes on; see `blurgate.training.batches`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from blurgate import zoo
from blurgate.errors import ConfigError
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.pipeline import prefetch
from blurgate.training import even
from blurgate.training.batches import Pictures, shares, sharp
from blurgate.training.dataset import LiveData, read_crops, through_numpy
from blurgate.training.faces import Face, FaceReader, list_digest, list_faces, resized
from blurgate.training.graph import torch_embedder
from blurgate.training.labels import Labeller
from blurgate.training.pairs import make_chain, torch_device
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.interfaces import Detector
    from blurgate.training.config import TrainConfig
    from blurgate.training.degrade import Chain
    from blurgate.types import U8

__all__ = ["LiveFeed", "open_live"]

_MADE: Final = 4096
"""Pictures that a GPU makes at once: the 2000 steps of a random path take it as long for one."""
_MADE_CPU: Final = 64


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
        return shares(self._count, batch, world)[0]

    def train(
        self, epoch: int, batch: int, *, rank: int = 0, world: int = 1
    ) -> Generator[Pictures]:
        """Give an epoch's batches; see `Feed`.

        Raises:
            ConfigError: The memory is too small for `fresh` epochs.
        """
        batches, step = shares(self._count, batch, world)
        share = np.arange(self._count)[rank::world]  # the same in every epoch: it may be held

        def parts_of(epoch: int) -> list[NDArray[np.int64]]:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(share))
            return [order[number * step : (number + 1) * step] for number in range(batches)]

        shown = self._shown(parts_of, share, epoch, (rank, world))
        with closing(shown):
            for part, pictures in zip(parts_of(epoch), shown, strict=True):
                yield self._sharpened(pictures, share[part])

    def _shown(
        self,
        parts_of: Callable[[int], list[NDArray[np.int64]]],
        share: NDArray[np.int64],
        epoch: int,
        process: tuple[int, int],
    ) -> Generator[Pictures]:
        """Give an epoch's blurred pictures, made now or held since an earlier epoch."""
        if not self._fresh:
            yield from self._make(parts_of(epoch), share, epoch)
            return
        first = epoch % self._fresh
        key = (first, *process)
        if key not in self._held:
            # A run that goes on makes them in the batches in which they were made before: to the
            # last bit a picture depends on those that it is blurred with.
            parts = parts_of(first)
            # What does not fill a batch now may be shown later.
            left = np.setdiff1d(np.arange(len(share)), np.concatenate(parts))
            whole = [*parts, left] if len(left) else parts
            held = self._room(len(share))
            for number, made in enumerate(self._make(whole, share, first)):
                at = torch.from_numpy(whole[number]).to(held.degrees.device)
                held.pictures[at], held.degrees[at] = made
                if epoch == first and number < len(parts):
                    yield made
            self._held[key] = held
            if epoch == first:
                return
        held = self._held[key]
        for part in parts_of(epoch):
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
        count = sharp(len(number), self._clean)
        if not count:
            return pictures
        if self._twins is None:
            self._twins = self._train.clean_twins(range(len(self._train)))
        at = torch.from_numpy(number[:count] % len(self._train)).to(self._twins.device)
        degrees = pictures.degrees.clone()
        degrees[:count] = 0
        return Pictures(torch.cat([self._twins[at], pictures.pictures[count:]]), degrees)

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


def open_live(
    config: TrainConfig, device: str, workers: int, on_failure: Callable[[str, str], None]
) -> LiveFeed:
    """Open the faces of a configuration; see `blurgate.training.feeds.open_feed`."""
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
    parts = _parts_of(kept, crops, len(found))
    curve = _curve_of(config, parts[False], chain, labeller, place, workers)
    embed = on_gpu.tensors if on_gpu is not None else through_numpy(labeller)
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


def _parts_of(faces: list[Face], crops: list[U8], n_pictures: int) -> dict[bool, list[U8]]:
    """Give the crops to train on, and as True those to validate on."""
    parts: dict[bool, list[U8]] = {
        is_val: [crop for face, crop in zip(faces, crops, strict=True) if face.is_val == is_val]
        for is_val in (False, True)
    }
    if len(parts[False]) < 2 or not parts[True]:
        raise ConfigError(
            f"of {n_pictures} pictures {len(parts[False])} can be trained on and "
            f"{len(parts[True])} are left for validation: too few; see `identity` in "
            "docs/training.md"
        )
    return parts


def _curve_of(
    config: TrainConfig,
    crops: list[U8],
    chain: Chain,
    labeller: Labeller,
    place: torch.device,
    workers: int,
) -> even.Curve | None:
    """Find out how severities must be drawn for even labels, where that is wanted."""
    if not config.even:
        return None
    count = even.n_tracks(len(crops) * config.per_face)
    order = np.random.default_rng(config.seed).permutation(len(crops))[:count]
    on_gpu = place.type == "cuda"
    return even.calibrate(
        chain,
        [crops[i] for i in order],
        labeller,
        seed=config.seed,
        tracks=count,
        device=place if on_gpu else None,
        workers=1 if on_gpu else workers,
    )


def _live_facts(
    config: TrainConfig, faces: list[Face], labeller: Labeller, finder: Detector | None
) -> dict[str, Any]:
    people = {is_val: {f.identity for f in faces if f.is_val == is_val} for is_val in (False, True)}
    return {
        "kind": "faces",
        "sha256": list_digest(faces),
        "methods": [config.synthesizer],
        "train": sum(not face.is_val for face in faces),
        "val": sum(face.is_val for face in faces),
        "identities": len(people[False]),
        "identities_val": len(people[True]),
        "embedder": asdict(labeller.info),
        "detector": finder and asdict(finder.info),
        "seed": config.seed,
    }
