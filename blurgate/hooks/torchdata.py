"""Datasets of torch without the faces that are too blurred, or with fewer of them.

    degrees = measure(dataset)                       # once; keep it with numpy.save
    sharp = skip_blurred(dataset, degrees, 0.4)      # a Dataset
    sampler = weigh_blurred(degrees)                 # for DataLoader(dataset, sampler=sampler)

torch is imported when a Dataset or a Sampler is made, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from blurgate.errors import ConfigError, EnvironmentLackError, ShapeError
from blurgate.gate import Gate
from blurgate.io.images import bgr_of
from blurgate.stages import Rule, six_digits

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from blurgate.interfaces import Scorer
    from blurgate.types import F32, U8

__all__ = ["crop_of", "measure", "skip_blurred", "weigh_blurred"]

_BATCH = 64


def crop_of(item: Any) -> U8:
    """Take the aligned face out of an item of a dataset.

    Args:
        item: A picture, a tuple or list with the picture first, or a dict with it under `image`. A
            picture is from Pillow, whose 16 and 32 bits are scaled as
            `blurgate.io.images.read_image` scales those of a file; or a NumPy array (h, w, 3) uint8
            BGR, as OpenCV has it; or a tensor (3, h, w) RGB, uint8 or float in [0, 1], as
            torchvision has it.

    Returns:
        (h, w, 3) uint8 BGR.

    Raises:
        ShapeError: It is none of these, or has no pixels; a tensor that was normalised is not, nor
            a picture of Pillow's mode F, whose range nobody knows.
    """
    if isinstance(item, tuple | list):
        item = item[0] if item else None
    elif isinstance(item, dict):
        item = item.get("image")
    if isinstance(item, np.ndarray):
        return _checked(item)
    if hasattr(item, "convert"):  # Pillow
        return _of_pillow(item)
    if hasattr(item, "detach") and item.ndim == 3:
        tensor = item.detach().cpu()
        # NumPy knows no bfloat16.
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        array = tensor.numpy().transpose(1, 2, 0)[..., ::-1]
        if array.dtype.kind == "f":
            if not ((array >= 0) & (array <= 1)).all():
                raise ShapeError(
                    "float tensors must be RGB in [0, 1]; measure the dataset before it is "
                    "normalised, or undo that in a function given as `crop`"
                )
            array = (array * 255).round().astype(np.uint8)
        return _checked(array)
    raise ShapeError(
        f"cannot find a picture in {type(item).__name__}; give a function as `crop` that turns an "
        "item into (h, w, 3) uint8 BGR"
    )


def _of_pillow(image: Any) -> U8:
    if not all(image.size):
        raise ShapeError("a picture has no pixels")
    if image.mode == "F":
        raise ShapeError(
            "a picture of mode F has no known range; give a function as `crop` that makes it "
            "(h, w, 3) uint8 BGR"
        )
    return bgr_of(image)


def _checked(array: Any) -> U8:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ShapeError(
            f"a picture must be (h, w, 3) uint8 BGR, got {array.dtype} of {array.shape}; give a "
            "function as `crop` that makes it so"
        )
    if not array.size:
        raise ShapeError(f"a picture has no pixels: {array.shape}")
    return np.ascontiguousarray(array)


def measure(
    dataset: Any,
    *,
    crop: Callable[[Any], U8] = crop_of,
    model: str | Scorer | None = None,
    device: str = "auto",
) -> F32:
    """Score every item of a dataset of aligned faces, in bounded memory.

    Args:
        dataset: Has a length and items by number, as a map-style Dataset of torch; without random
            augmentation, which would be measured too.
        crop: Turns an item into (h, w, 3) uint8 BGR, an aligned face; another size than 112 x 112
            is resized.
        model: Name or ONNX path of a scorer, or an object that is one; None for the default.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        (n,) float32 blur degrees in [0, 1].

    Raises:
        ShapeError: An item is not a picture; the message holds its number.
        ModelError: The model is missing or cannot be used.
    """
    gate = Gate(scorer=model, device=device)
    degrees = np.empty(len(dataset), np.float32)
    for start in range(0, len(dataset), _BATCH):
        numbers = range(start, min(start + _BATCH, len(dataset)))
        crops = [_at(dataset, number, crop) for number in numbers]
        degrees[start : start + len(crops)] = [v.blur_degree for v in gate.crops(crops)]
    return degrees


def _at(dataset: Any, number: int, crop: Callable[[Any], U8]) -> U8:
    try:
        return _checked(np.asarray(crop(dataset[number])))
    except ShapeError as error:
        raise ShapeError(f"item {number}: {error}") from error


def skip_blurred(dataset: Any, degrees: ArrayLike, threshold: float) -> Any:
    """Give a dataset without the items above a threshold.

    Args:
        dataset: Map-style.
        degrees: (n,) blur degrees of its items; see `measure`.
        threshold: Items above it are left out; equality stays.

    Returns:
        A `torch.utils.data.Subset`; its `indices` say which items stayed.

    Raises:
        ShapeError: There is not one degree in [0, 1] for every item.
        ConfigError: The threshold is out of range, or nothing stays.
        EnvironmentLackError: torch is not installed.
    """
    rule, values = Rule(threshold), _degrees(degrees)
    if len(values) != len(dataset):
        raise ShapeError(f"{len(values)} degrees for a dataset of {len(dataset)} items")
    rounded = map(six_digits, values.tolist())  # as everywhere: 0.4 in float32 is above 0.4
    kept = [i for i, value in enumerate(rounded) if rule(value, 1.0)[0] == "keep"]
    if not kept:
        raise ConfigError(f"every item is above the threshold {threshold:g}; raise it")
    return _torch_data().Subset(dataset, kept)


def weigh_blurred(
    degrees: ArrayLike,
    *,
    floor: float = 0.05,
    num_samples: int | None = None,
    generator: Any = None,
) -> Any:
    """Give a sampler that draws an item with the weight 1 - its blur degree.

    Args:
        degrees: (n,) blur degrees; see `measure`.
        floor: The least weight, above 0 if the most blurred are to be seen at all.
        num_samples: Items per epoch; None: n.
        generator: A `torch.Generator`.

    Returns:
        A `torch.utils.data.WeightedRandomSampler`, with replacement.

    Raises:
        ShapeError: A degree is not in [0, 1].
        ConfigError: `floor` is not in [0, 1], or all weights are 0.
        EnvironmentLackError: torch is not installed.
    """
    values = _degrees(degrees)
    if not 0 <= floor <= 1:
        raise ConfigError(f"floor must lie in [0, 1], got {floor}")
    weights = np.maximum(1 - values, floor)
    if not weights.sum() > 0:
        raise ConfigError("all items weigh 0: give a floor above 0")
    count = len(values) if num_samples is None else num_samples
    return _torch_data().WeightedRandomSampler(weights.tolist(), count, generator=generator)


def _degrees(degrees: ArrayLike) -> Any:
    values = np.asarray(degrees, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ShapeError(f"degrees must be n numbers in [0, 1], got an array of {values.shape}")
    return values


def _torch_data() -> Any:
    try:
        from torch.utils import data
    except ModuleNotFoundError as error:
        raise EnvironmentLackError(
            'this needs torch, which is not installed; run: pip install "blurgate[train]"'
        ) from error
    return data
