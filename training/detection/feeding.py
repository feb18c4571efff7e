"""Batches of a detector's training, composed in other processes while the network is trained.

Composing is Python that calls OpenCV a few hundred times a sample, so threads would wait for one
another. The processes are torch's (`torch.utils.data.DataLoader`); what a batch holds follows from
its plan alone and not from the process that composes it.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from blurgate.errors import BlurgateError
from blurgate.training.detection.assign import assign
from blurgate.training.detection.distil import DenseTeacher
from blurgate.training.detection.losses import Targets
from blurgate.training.detection.pictures import LEAST_VISIBLE

if TYPE_CHECKING:
    from typing import Any

    from blurgate.training.detection.config import DetectionConfig
    from blurgate.training.detection.samples import Sample, Samples

__all__ = ["Batch", "batches", "collate", "targets_of", "teacher_of"]

_AHEAD = 3  # batches that every process makes before they are asked for


class Batch(NamedTuple):
    """Pictures and what is to be said of them."""

    pictures: Tensor
    """(n, 3, h, w) uint8 BGR."""
    targets: Targets
    features: tuple[Tensor, ...] = ()
    """(n, c, h, w) float16 of each stride: what a teacher sees in them, if that is to be learnt."""

    def to(self, device: torch.device) -> Batch:
        """Bring it to a device."""
        moved = Targets(*(part.to(device, non_blocking=True) for part in self.targets))
        features = tuple(part.to(device, non_blocking=True) for part in self.features)
        return Batch(self.pictures.to(device, non_blocking=True), moved, features)


class Plan(NamedTuple):
    """Which samples make up a batch."""

    close: bool
    """Whether they are large pictures of faces close to the camera."""
    epoch: int
    first: int
    """The first sample's index in the epoch; the others follow it."""
    pictures: int


class _Target(NamedTuple):
    """A sample's part of a batch."""

    image: Any
    faces: Any
    scores: Any
    boxes: Any
    kps: Any
    features: Any = ()


def teacher_of(config: DetectionConfig) -> DenseTeacher | None:
    """Give a configuration's teacher, if it has one."""
    if not config.teacher:
        return None
    return DenseTeacher(config.teacher, config.least_kps, watched=config.mimic > 0)


def targets_of(
    sample: Sample,
    config: DetectionConfig,
    teacher: DenseTeacher | None = None,
    *,
    close: bool = False,
) -> _Target:
    """Say what the anchors of a sample are to say.

    Faces end at the picture's border. Those that are too small, or of which the border leaves too
    little, are ignored; landmarks of small faces are not learnt.

    Args:
        sample: A picture and its faces.
        config: What is too small.
        teacher: Is asked about all that the annotations leave open.
        close: The faces are close to the camera: of those that are this large a teacher of this
            kind knows less than the annotations, and gives its features only.
    """
    h, w = sample.image.shape[:2]
    boxes = sample.boxes.clip(0, np.array([w, h, w, h], np.float32))
    sides = boxes[:, 2:] - boxes[:, :2]
    whole = (sample.boxes[:, 2:] - sample.boxes[:, :2]).prod(1)
    side = sides.min(1, initial=np.inf)
    ignore = sample.ignore | (side < config.least) | (sides.prod(1) < LEAST_VISIBLE * whole)
    kps = sample.kps.reshape(-1, 10).copy()
    kps[side < config.least_kps] = np.nan
    faces = assign(boxes, ignore, (h, w))
    scores = np.where(faces < 0, 0, np.nan).astype(np.float32)
    target = _Target(sample.image, faces, scores, boxes, kps)
    if teacher is None:
        return target
    if close:
        return target._replace(features=teacher.features(sample.image))
    return _Target(sample.image, *teacher.complete(sample.image, faces, scores, boxes, kps))


def collate(parts: list[_Target]) -> Batch:
    """Put samples together."""
    before = np.cumsum([0, *(len(part.boxes) for part in parts)])
    faces = np.stack([part.faces for part in parts]).astype(np.int64)
    faces += np.where(faces >= 0, before[:-1, None], 0)
    pictures = torch.from_numpy(np.stack([part.image for part in parts])).permute(0, 3, 1, 2)
    scores = torch.from_numpy(np.stack([part.scores for part in parts]))
    boxes = torch.from_numpy(np.concatenate([part.boxes for part in parts]))
    kps = torch.from_numpy(np.concatenate([part.kps for part in parts]))
    features = tuple(
        torch.from_numpy(np.concatenate(level).astype(np.float16))
        for level in zip(*(part.features for part in parts), strict=True)
    )
    return Batch(pictures, Targets(torch.from_numpy(faces), scores, boxes, kps), features)


class _Composing(Dataset["Batch | BlurgateError"]):
    """Plan -> batch, or the error that kept it from being made.

    Raised in a process of torch's, an error would lose its facts and gain a traceback.
    """

    def __init__(self, samples: Samples, close: Samples | None, config: DetectionConfig) -> None:
        self._samples, self._close, self._config = samples, close, config
        self._teacher = teacher_of(config)

    def __getitem__(self, plan: Plan) -> Batch | BlurgateError:
        source = self._close if plan.close else self._samples
        assert source is not None
        config, teacher = self._config, self._teacher
        samples = (source.sample(plan.epoch, plan.first + i) for i in range(plan.pictures))
        try:
            return collate([targets_of(s, config, teacher, close=plan.close) for s in samples])
        except BlurgateError as error:
            return error


class _Plans(Sampler[Plan]):
    """The batches of the epochs from one on, in their order."""

    def __init__(self, config: DetectionConfig, length: int, first: int, with_close: bool) -> None:
        self._config, self._first = config, first
        self._batch = min(config.batch, length)
        self._steps = max(1, length // config.batch)
        self._share = config.close if with_close else 0.0

    def __iter__(self) -> Iterator[Plan]:
        for epoch in range(self._first, self._config.epochs):
            rng = np.random.default_rng((self._config.seed, epoch))
            for step, close in enumerate((rng.random(self._steps) < self._share).tolist()):
                # Twice the side is four times the work.
                count = max(self._batch // 4, 1) if close else self._batch
                yield Plan(close, epoch, step * self._batch, count)


@contextmanager
def batches(
    samples: Samples,
    close: Samples | None,
    config: DetectionConfig,
    *,
    first: int = 0,
    workers: int = 1,
    pin: bool = False,
) -> Iterator[Iterator[Batch]]:
    """Give the batches of a run, epoch after epoch.

    Args:
        samples: The training pictures; those of other processes have to be picklable.
        close: Larger ones, for a share of the steps.
        config: Epochs, batch and so on.
        first: The epoch to begin with, from 0.
        workers: Processes; 1 composes in this one, when a batch is asked for.
        pin: Put them where a GPU fetches them without waiting.
    """
    several = workers > 1
    with TemporaryDirectory(prefix="blurgate-", ignore_cleanup_errors=True) as shared:
        if several:
            samples.share(Path(shared), workers=workers)
        loader: DataLoader[Batch | BlurgateError] = DataLoader(
            _Composing(samples, close, config),
            batch_size=None,
            sampler=_Plans(config, len(samples), first, close is not None),
            num_workers=workers if several else 0,
            prefetch_factor=_AHEAD if several else None,
            # Not fork: OpenCV's and torch's threads are not there in a fork, and their locks are.
            # Not forkserver: its children do not see that this process is gone, and stay.
            multiprocessing_context="spawn" if several else None,
            worker_init_fn=_start_worker if several else None,
            pin_memory=pin and several,
        )
        made = _checked(iter(loader), workers, Path(shared))
        try:
            yield made
        finally:
            made.close()  # which ends the processes, also where batches are left
            if several:
                samples.unshare()  # Windows removes no file that somebody has open


def _start_worker(number: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _checked(made: Iterator[Batch | BlurgateError], workers: int, shared: Path) -> Generator[Batch]:
    for number, batch in enumerate(made, 1):
        if isinstance(batch, BlurgateError):
            raise batch
        if number == workers:
            # They give batches in turn, so that all have it open by now. After a kill nobody could
            # remove it.
            shutil.rmtree(shared, ignore_errors=True)
        yield batch
