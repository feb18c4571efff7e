"""Training data for a loop: what `blurgate synth` wrote, read back, or made on the fly.

`Dataset` reads a finished folder. `LiveData` holds clean crops and makes pictures and labels batch
by batch on a torch device, with the same chain and the same labels, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from blurgate.errors import InputError, ShapeError
from blurgate.files import is_count
from blurgate.interfaces import ModelInfo
from blurgate.io.text import harmless
from blurgate.pipeline import ordered_map
from blurgate.training import even, layout
from blurgate.training.faces import Face, FaceReader, Skipped
from blurgate.training.labels import Labeller, check_embeddings
from blurgate.training.pairs import same_side, to_numpy, to_tensor, torch_device
from blurgate.training.streams import Streams
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from blurgate.training.degrade import Chain
    from blurgate.training.even import Curve
    from blurgate.training.interfaces import Params
    from blurgate.types import F32, U8

Split: TypeAlias = Literal["train", "val"]
TensorEmbed: TypeAlias = "Callable[[Tensor], Tensor]"
"""(n, 3, 112, 112) uint8 BGR on a device -> (n, d) float32 on the same one, each of length 1."""

_CLEAN_BATCH = 256


class Dataset:
    """A finished folder of `blurgate synth`.

    Args:
        folder: The folder.
        split: Only the rows of this part; None: all.
        methods: Only these methods; None: all.

    Raises:
        InputError: The folder holds no dataset, or a table is damaged; the message names the line.
        ConfigError: The dataset is not finished.

    Attributes:
        split: As given.
        facts: What dataset.json says.
        labels: (n,) float32 in [0, 1].
        files: n paths of blurred pictures, relative to the folder.
        clean_files: n paths of their clean twins.
        identities: n identities.
        methods: n names.
    """

    def __init__(
        self,
        folder: Path,
        *,
        split: Split | None = None,
        methods: Sequence[str] | None = None,
    ) -> None:
        self.folder, self.split = folder, split
        self.facts = layout.read_settings(folder)
        layout.check_finished(folder, self.facts)
        _check_facts(folder, self.facts)
        known = list(self.facts["methods"])
        unknown = sorted(set(methods or ()) - set(known))
        if unknown:
            raise InputError(f"{folder} holds {', '.join(known)}, not {unknown[0]!r}")
        model = harmless(str(ModelInfo(**self.facts["embedder"])))
        rows, whole = [], 0
        names: dict[str, str] = {}  # clean files and identities stand in many rows
        for method in known:
            for row in layout.read_rows(folder, method):
                whole += 1
                if row["embedder"] != model:
                    raise InputError(
                        f"{folder / layout.table_file(method)}: a label of the embedder "
                        f"{row['embedder']!r}, among those of {model!r}; make the dataset again",
                        source=str(folder),
                    )
                if split in (None, row["split"]) and (methods is None or method in methods):
                    clean, person = (names.setdefault(row[k], row[k]) for k in _SHARED)
                    rows.append((row["file"], clean, person, method, float(row["label"])))
        if whole != self.facts["rows"]:
            raise InputError(
                f"{folder} has {whole} rows, and {layout.SETTINGS} says {self.facts['rows']}; "
                "make the dataset again",
                source=str(folder),
            )
        columns: Any = zip(*rows, strict=True) if rows else ([], [], [], [], [])
        self.files, self.clean_files, self.identities, self.methods, labels = map(list, columns)
        self.labels: F32 = np.array(labels, np.float32)

    @classmethod
    def to_evaluate(cls, folder: Path) -> Dataset:
        """Open a folder's validation part, or all of it where it has none.

        Raises:
            InputError: As for the folder itself; or it holds no rows.
            ConfigError: The dataset is not finished.
        """
        data = cls(folder, split="val")
        data = data if len(data) else cls(folder)
        if not len(data):
            raise InputError(f"{folder} holds no labelled pictures", source=str(folder))
        return data

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def clean_rows(self) -> dict[str, int]:
        """Give the clean files, each with the first row that has it."""
        first: dict[str, int] = {}
        for row, file in enumerate(self.clean_files):
            first.setdefault(file, row)
        return first

    def pictures(self, index: Sequence[int] | NDArray[Any]) -> U8:
        """Read blurred pictures: (n, 112, 112, 3) uint8 BGR, in the order of the index.

        Raises:
            DecodeError: One is missing or damaged.
        """
        return self._read([self.files[i] for i in index])

    def clean_pictures(self, index: Sequence[int] | NDArray[Any]) -> U8:
        """Read the clean twins of rows; see `pictures`."""
        return self._read([self.clean_files[i] for i in index])

    def _read(self, files: Sequence[str]) -> U8:
        out = np.empty((len(files), CROP_SIZE, CROP_SIZE, 3), np.uint8)
        for picture, file in zip(out, files, strict=True):
            picture[:] = layout.read_picture(self.folder / file)
        return out


_SHARED = ("clean_file", "identity")


def _check_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a dataset.json in which what is read here is missing or of another kind."""
    embedder = facts.get("embedder")
    right = {
        "methods": isinstance(facts.get("methods"), dict),
        "size": is_count(facts.get("size", 0)),
        "embedder": isinstance(embedder, dict)
        and embedder.keys() == {"name", "sha256"}
        and all(isinstance(text, str) for text in embedder.values()),
    }
    for key, is_right in right.items():
        if not is_right:
            raise InputError(
                f"{folder / layout.SETTINGS} is damaged: its {key!r} is missing or not what "
                "blurgate synth writes; make the dataset again",
                source=str(folder),
            )


def read_crops(
    faces: Sequence[Face],
    reader: FaceReader,
    *,
    workers: int = 1,
    on_failure: Callable[[str, str], None] = lambda source, error: None,
) -> tuple[list[Face], list[U8]]:
    """Read the crops of faces into memory.

    Args:
        faces: From `blurgate.training.faces.list_faces`.
        reader: Cuts the crops out.
        workers: Threads.
        on_failure: Called with (path, one line) for every picture that is skipped.

    Returns:
        The faces that could be read, and their crops.
    """
    kept: list[Face] = []
    crops: list[U8] = []
    read = ordered_map(reader, (face.source for face in faces), workers)
    for face, crop in zip(faces, read, strict=True):
        if isinstance(crop, Skipped):
            on_failure(crop.source, crop.error)
        else:
            kept.append(face)
            crops.append(crop)
    return kept, crops


def through_numpy(labeller: Labeller) -> TensorEmbed:
    """Let an embedder of the zoo embed tensors; they go through the computer's own memory."""

    def embed(pictures: Tensor) -> Tensor:
        import torch

        vectors = labeller.embed(to_numpy(pictures))
        return torch.from_numpy(vectors).to(pictures.device)

    return embed


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pictures with their labels, on the device that made them."""

    pictures: Tensor
    """(n, 3, 112, 112) uint8 BGR."""
    labels: Tensor
    """(n,) float32 in [0, 1]."""
    faces: NDArray[np.int64]
    """(n,) which crop each picture was made from."""
    params: list[Params]
    """n rows: what was done; see `blurgate.training.degrade.Chain`."""


class LiveData:
    """Makes pictures and labels batch by batch.

    What is drawn for a picture depends on the seed, the epoch and its face only, not on the batch
    it comes in. So do its pixels up to a rounding of torch's sums: single ones may differ.

    Args:
        crops: Clean crops (s, s, 3) uint8 BGR, each s its own.
        chain: What happens to them.
        embed: Turns pictures on the device into embeddings; see `through_numpy`.
        seed: Decides everything random.
        device: Where blur and labels are made: cpu, cuda or cuda:N.
        curve: Draw severities by this, so that labels come out even; see
            `blurgate.training.even.calibrate`. None: the method draws over its range.

    Raises:
        ShapeError: There are no crops.
        ModelError: `embed` does not give one vector of length 1 per picture.
        EnvironmentLackError: torch or the GPU is missing.

    Attributes:
        device: Where pictures and labels are made.
        on_gpu: Whether that is not a CPU.
    """

    def __init__(
        self,
        crops: Sequence[U8],
        chain: Chain,
        embed: TensorEmbed,
        *,
        seed: int = 0,
        device: str = "cpu",
        curve: Curve | None = None,
    ) -> None:
        if not len(crops):
            raise ShapeError("training data needs at least one clean crop")
        import torch

        self._chain, self._embed, self._seed, self._curve = chain, embed, seed, curve
        self.device = torch_device(device)
        self.on_gpu = self.device.type != "cpu"
        self._crops: dict[int, Tensor] = {}
        self._sides = np.array([len(crop) for crop in crops])
        self._place = np.empty(len(crops), np.int64)  # where in its size's tensor each crop lies
        for at in same_side(self._sides.tolist()):
            self._place[at] = np.arange(len(at))
            tensor = to_tensor(np.stack([crops[i] for i in at]), self.device)
            self._crops[int(self._sides[at[0]])] = tensor
        self._clean = torch.cat(
            [
                self._embed(self._made_clean(np.arange(at, min(at + _CLEAN_BATCH, len(crops)))))
                for at in range(0, len(crops), _CLEAN_BATCH)
            ]
        )
        check_embeddings(self._clean.cpu().numpy(), len(crops), "given")

    def __len__(self) -> int:
        """Number of clean crops."""
        return len(self._sides)

    def batch(
        self, faces: Sequence[int] | NDArray[Any], epoch: int | NDArray[np.int64] = 0
    ) -> Batch:
        """Make one picture of each of some faces.

        Args:
            faces: (n,) numbers of crops, from 0.
            epoch: From 0, one or (n,); another epoch blurs the same face otherwise.
        """
        import torch

        number = np.asarray(faces, np.int64)
        index = epoch * len(self) + number
        severity = None
        if self._curve is not None:
            severity = self._curve.severity(even.draws(self._seed, 0, number, epoch))
        params = self._chain.sample(Streams(self._seed, index), severity)
        pictures = torch.empty(
            (len(number), 3, CROP_SIZE, CROP_SIZE), dtype=torch.uint8, device=self.device
        )
        for at in same_side(self._sides[number].tolist()):
            made = self._chain.apply(self._take(number[at]), [params[i] for i in at])
            pictures[torch.tensor(at, device=self.device)] = made.degraded
        clean = self._clean[torch.from_numpy(number).to(self.device)]
        cosine = (clean * self._embed(pictures)).sum(1)
        return Batch(pictures, (1 - cosine).clamp(0, 1), number, params)

    def epoch(self, number: int, batch_size: int) -> Iterator[Batch]:
        """Give every face once, in an order that the seed and the epoch decide.

        Args:
            number: The epoch, from 0.
            batch_size: Pictures per batch; the last may be smaller.
        """
        order = np.random.default_rng([self._seed % 2**32, number]).permutation(len(self))
        for at in range(0, len(order), batch_size):
            yield self.batch(order[at : at + batch_size], number)

    def clean_pictures(self, faces: Sequence[int] | NDArray[Any]) -> U8:
        """Give the clean twins of faces: (n, 112, 112, 3) uint8 BGR."""
        return to_numpy(self.clean_twins(faces))

    def clean_twins(self, faces: Sequence[int] | NDArray[Any]) -> Tensor:
        """Give the clean twins of faces on the device: (n, 3, 112, 112) uint8 BGR."""
        import torch

        number = np.asarray(faces, np.int64)
        parts = np.array_split(number, max(1, -(-len(number) // _CLEAN_BATCH)))  # one of none, too
        return torch.cat([self._made_clean(part) for part in parts])

    def _take(self, faces: NDArray[np.int64]) -> Tensor:
        """Give the crops of faces of one size, on the device."""
        import torch

        crops = self._crops[int(self._sides[faces[0]])]
        return crops[torch.from_numpy(self._place[faces]).to(self.device)]

    def _made_clean(self, faces: NDArray[np.int64]) -> Tensor:
        import torch

        out = torch.empty(
            (len(faces), 3, CROP_SIZE, CROP_SIZE), dtype=torch.uint8, device=self.device
        )
        for at in same_side(self._sides[faces].tolist()):
            crops = self._take(faces[at])
            none = self._chain.sample(Streams(0, range(len(at))), np.zeros(len(at), np.float32))
            out[torch.tensor(at, device=self.device)] = self._chain.apply(crops, none).clean
        return out
