"""What training asks of synthesizers, backbones and losses.

`blurgate.training.blur` has what most synthesizers share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from blurgate.training.arrays import Array
    from blurgate.training.heads import HeadKind
    from blurgate.training.streams import Streams

Params: TypeAlias = dict[str, Any]
"""What was done to one image: str, int, float, None and lists and dicts of these, so that it can be
written as JSON and applied again exactly. Always holds `method`, the synthesizer's name."""


class Synthesizer(Protocol):
    """Blurs batches of face crops. Drawing parameters and applying them are two steps."""

    @property
    def name(self) -> str:
        """The name it is registered under; stands in every row of parameters as `method`."""
        ...

    def sample(
        self, streams: Streams, severity: NDArray[np.float32] | None = None, /
    ) -> list[Params]:
        """Draw parameters; an image's row depends on its own stream and severity only.

        Args:
            streams: The random streams of n images.
            severity: (n,) in [0, 1]. 0 is no blur, 1 the strongest; blur grows with it while
                everything else that is random stays as it is. None: drawn over the method's range.

        Returns:
            n rows.
        """
        ...

    def apply(self, images: Array, params: Sequence[Params], /, *, px: float) -> Array:
        """Blur images, each with its own parameters.

        Args:
            images: NumPy (n, h, w, 3) or torch (n, 3, h, w). float32 is linear light in [0, 1];
                uint8 is sRGB, and is blurred in linear light.
            params: n rows from `sample`, or read back from JSON.
            px: Working pixels per pixel of the 112 px crop, which is the unit of lengths in
                parameters.

        Returns:
            What came in, blurred: same library, shape, dtype and range. NumPy is the reference;
            torch agrees with it within 1e-3. On NumPy an image's result is the same to the bit
            whatever else is in the batch.
        """
        ...


class Backbone(Protocol):
    """Turns images into features. An `nn.Module`; its factory takes keyword arguments only."""

    out_features: int

    def __call__(self, images: Tensor, /) -> Tensor:
        """Give the features.

        Args:
            images: (n, 3, 112, 112) float32, about zero mean and unit size.

        Returns:
            (n, out_features); an image's features do not depend on the others in eval mode.
        """
        ...


class Loss(Protocol):
    """Measures how wrong a batch is."""

    @property
    def head(self) -> HeadKind:
        """The kind of head whose output this can be taken of."""
        ...

    def __call__(self, output: Tensor, target_degree: Tensor, /) -> Tensor:
        """Give the mean loss of a batch.

        Args:
            output: A head's raw output: (n, 1) for regression, (n, bins) for bins.
            target_degree: (n,) float true degrees in [0, 1].

        Returns:
            A scalar.
        """
        ...
