"""One batch of `blurgate synth`: faces in, pictures on the disk and their rows out."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import ConfigError, blamed
from blurgate.host import get_host
from blurgate.interfaces import Scalar
from blurgate.io.text import digest, harmless
from blurgate.pipeline import ordered_map
from blurgate.training import even, layout
from blurgate.training.faces import Face, FaceReader, Skipped
from blurgate.training.pairs import apply_sizes, make_chain
from blurgate.training.streams import Streams

if TYPE_CHECKING:
    import torch

    from blurgate.training.degrade import Chain
    from blurgate.training.even import Curve
    from blurgate.training.interfaces import Params
    from blurgate.training.labels import Labeller
    from blurgate.types import F32, U8

MOST_BLURS: Final = 100
"""Blurs one after the other; long before, nothing of a face is left."""
MOST_PICTURES: Final = 10_000
"""Of a face and method, which are held in memory together."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is made of every face."""

    methods: tuple[str, ...]
    """Registered synthesizers."""
    per_image: int = 1
    """Pictures of every method per face."""
    iterative: int = 1
    """Blurs that are applied one after the other."""
    seed: int = 0
    even: bool = False
    """Draw severities so that every label comes out equally often."""
    linear: bool = True
    """Blur light and not sRGB codes."""
    noise: bool = True
    compression: bool = True
    harsh: float = 0.0
    """Share of the pictures with the noise and compression of a poor camera."""

    def __post_init__(self) -> None:
        """Check the numbers, and put the methods' own names in place of aliases."""
        registry = get_host().registry("synthesizer")
        names = tuple(registry[method].name for method in self.methods)
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"name each method once, and at least one; got {self.methods}")
        object.__setattr__(self, "methods", names)
        if not 0 <= self.harsh <= 1:
            raise ConfigError(f"--harsh is a share from 0 to 1, got {self.harsh:g}")
        if not (1 <= self.per_image <= MOST_PICTURES and 1 <= self.iterative <= MOST_BLURS):
            raise ConfigError(f"--per-image is 1 to {MOST_PICTURES}, --iterative 1 to {MOST_BLURS}")

    def chain(self, method: str) -> Chain:
        """Make the chain of a method."""
        return make_chain(
            method,
            iterative=self.iterative,
            linear=self.linear,
            noise=self.noise,
            compression=self.compression,
            harsh=self.harsh,
        )

    def facts(self) -> dict[str, Any]:
        """Give the recipe as plain values, with what each synthesizer is made with."""
        return {
            "seed": self.seed,
            "methods": {method: _defaults(method) for method in self.methods},
            "per_image": self.per_image,
            "iterative": self.iterative,
            "light": "linear" if self.linear else "srgb",
            "noise": self.noise,
            "compression": self.compression,
            "harsh": self.harsh,
            "severity": "even" if self.even else "as the method draws it",
        }


def _defaults(method: str) -> dict[str, Any]:
    factory = get_host().registry("synthesizer")[method].factory
    return {
        name: parameter.default
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a batch of faces; its pictures are on the disk."""

    faces: int
    rows: list[dict[str, Scalar]]
    skipped: list[Skipped]


class Maker:
    """Makes, labels and writes the pictures of a batch of faces.

    Safe to call from several threads at once. A batch depends on its own faces only.

    Args:
        folder: The dataset's folder.
        recipe: What is to be made.
        reader: Cuts the crops out.
        labeller: Makes the labels.
        device: Where torch blurs; None: NumPy does.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        reader: FaceReader,
        labeller: Labeller,
        device: torch.device | None = None,
    ) -> None:
        self.recipe = recipe
        self.curves: Mapping[str, Curve] = {}
        """Method -> how its severities are drawn; a method without one draws them itself."""
        self._folder = folder
        self._reader = reader
        self._labeller = labeller
        self._device = device
        self._chains = {method: recipe.chain(method) for method in recipe.methods}

    def __call__(self, faces: Sequence[Face]) -> Made:
        """Make the pictures of some faces."""
        found = [(face, self._reader(face.source)) for face in faces]
        skipped = [result for _, result in found if isinstance(result, Skipped)]
        whole = [(face, crop) for face, crop in found if not isinstance(crop, Skipped)]
        rows: list[dict[str, Scalar]] = []
        if whole:
            kept, crops = zip(*whole, strict=True)
            embedded: F32 | None = None
            for method in self.recipe.methods:
                embedded = self._make(method, kept, crops, embedded, rows)
        return Made(len(faces), rows, skipped)

    def _make(
        self,
        method: str,
        faces: Sequence[Face],
        crops: Sequence[U8],
        embedded: F32 | None,
        rows: list[dict[str, Scalar]],
    ) -> F32:
        """Make the pictures of one method; gives the embeddings of the clean twins."""
        times = self.recipe.per_image
        owner = np.repeat(np.arange(len(faces)), times)
        copy = np.tile(np.arange(times), len(faces))
        position = np.array([face.position for face in faces])[owner]
        series = self.recipe.methods.index(method)
        index = (position * len(self.recipe.methods) + series) * times + copy
        severity = None
        if method in self.curves:
            number = position * times + copy
            severity = self.curves[method].severity(even.draws(self.recipe.seed, series, number))
        params = self._chains[method].sample(Streams(self.recipe.seed, index), severity)
        pair = apply_sizes(
            self._chains[method], [crops[i] for i in owner.tolist()], params, self._device
        )
        if embedded is None:
            clean = pair.clean[::times]
            embedded = self._labeller.embed(clean)
            for face, picture in zip(faces, clean, strict=True):
                layout.write_picture(self._folder / layout.clean_file(face.name), picture)
        labels = self._labeller.label(embedded, owner, pair.degraded)
        for i, picture in enumerate(pair.degraded):
            row = self._row(faces[owner[i]], method, int(copy[i]), params[i], int(index[i]))
            layout.write_picture(self._folder / str(row["file"]), picture)
            rows.append({**row, "label": float(labels[i])})
        return embedded

    def _row(
        self, face: Face, method: str, copy: int, params: Params, index: int
    ) -> dict[str, Scalar]:
        with blamed("synthesizer", method):  # rows of a plugin may hold what JSON does not know
            parameters = json.dumps(params, separators=(",", ":"))
        return {
            "file": layout.blurred_file(method, face.name, copy),
            "clean_file": layout.clean_file(face.name),
            "identity": face.identity,
            "split": "val" if face.is_val else "train",
            "method": method,
            "parameters": parameters,
            "seed": self.recipe.seed,
            "index": index,
            "embedder": harmless(str(self._labeller.info)),
        }

    def calibrate(self, faces: Sequence[Face], workers: int) -> dict[str, Curve]:
        """Find out how severities must be drawn, on a sample of the faces that the seed chooses.

        Returns:
            Method -> curve; empty if no face can be read.
        """
        tracks = even.n_tracks(len(faces) * self.recipe.per_image)
        crops = self._sample(faces, tracks, workers)
        if not crops:
            return {}
        return {
            method: even.calibrate(
                chain,
                crops,
                self._labeller,
                seed=self.recipe.seed,
                tracks=tracks,
                device=self._device,
                workers=workers,
            )
            for method, chain in self._chains.items()
        }

    def _sample(self, faces: Sequence[Face], count: int, workers: int) -> list[U8]:
        """Read the faces of the lowest digests, as many as are wanted."""
        seed = self.recipe.seed
        order = sorted(faces, key=lambda face: digest(f"{seed} {face.position}"))
        crops: list[U8] = []
        read = ordered_map(self._reader, (face.source for face in order), workers)
        for crop in read:
            if not isinstance(crop, Skipped):
                crops.append(crop)
            if len(crops) == count:
                break
        read.close()
        return crops
