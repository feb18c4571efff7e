"""The contract of a backbone; see `blurgate.training.interfaces.Backbone`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import ModelError
from blurgate.testing import ContractError, common
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from torch import Tensor

_RELATIVE: Final = 1e-4


class Subject(common.FactorySubject):
    """A backbone to check: a registered name or a factory, and its keyword arguments."""

    kind = "backbone"

    def make(self, seed: int = 0) -> Any:
        """Make the network with weights of a seed; torch's own generator stays as it was."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return super().make()

    def settled(self) -> Any:
        """Make the network in eval mode, with weights and statistics that tell images apart.

        Many start at 0 or 1, which hides much.
        """
        import torch
        from torch import nn

        network = self.make().train()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            for name, weight in network.named_parameters():
                if weight.ndim > 1:
                    nn.init.kaiming_normal_(weight, generator=generator)
                elif name.endswith("bias"):
                    nn.init.normal_(weight, std=0.1, generator=generator)
                else:
                    nn.init.uniform_(weight, 0.5, 1.5, generator=generator)
            network(_images(4, seed=3))
        return network.eval()


def _images(n: int, seed: int = 0) -> Tensor:
    """Draw (n, 3, 112, 112) float32 of about zero mean and unit size."""
    import torch

    pictures = common.noisy_patches(n, CROP_SIZE, seed).transpose(0, 3, 1, 2)
    return torch.from_numpy((pictures.astype(np.float32) - 127.5) / 64)


def gives_features_of_the_promised_width(subject: Subject) -> None:
    """An nn.Module with `out_features`: (n, 3, 112, 112) float32 -> (n, out_features) float32."""
    import torch
    from torch import nn

    network = subject.make()
    common.require(isinstance(network, nn.Module), f"it is {type(network).__name__}, no nn.Module")
    width = getattr(network, "out_features", None)
    common.require(
        isinstance(width, int) and width > 0,
        f"`out_features` must be a whole number, got {width!r}",
    )
    for mode in (network.train(), network.eval()):
        features = mode(_images(2))
        common.require(
            tuple(features.shape) == (2, width) and features.dtype == torch.float32,
            f"features must be float32 of (2, {width}), got {features.dtype} of "
            f"{tuple(features.shape)}",
        )


def every_weight_learns(subject: Subject) -> None:
    """Gradients are finite, and every parameter has one that is not 0."""
    import torch

    network = subject.make().train()
    features = network(_images(2))
    # Not the sum: what a batch or layer norm gives sums to a constant, whatever its input.
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    (features * weights).sum().backward()
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        common.require(parameter.grad is not None, f"{name} has no gradient")
        common.require(bool(parameter.grad.isfinite().all()), f"{name}: gradient is not finite")
        common.require(bool((parameter.grad != 0).any()), f"{name}: the gradient is 0")


def batch_of_one_equals_batch_of_many(subject: Subject) -> None:
    """In eval mode an image's features do not depend on the others, and tell images apart."""
    import torch

    network, images = subject.settled(), _images(3)
    with torch.no_grad():
        many = network(images).numpy()
        one = np.concatenate([network(image[None]).numpy() for image in images])
    scale = float(np.abs(many).max())
    common.require(many.std(axis=0).max() > 1e-2 * scale, "different images have the same features")
    common.same("features of a batch of one and of many", one, many, _RELATIVE * scale)


def the_seed_decides_the_weights(subject: Subject) -> None:
    """The same torch seed gives the same weights, another seed others."""
    import torch

    first, again, other = (subject.make(seed).state_dict() for seed in (5, 5, 6))
    common.require(
        all(torch.equal(first[key], again[key]) for key in first),
        "the same seed gives other weights: draw them from torch's global generator",
    )
    common.require(
        any(not torch.equal(first[key], other[key]) for key in first),
        "every seed gives the same weights",
    )


def its_state_is_all_there_is(subject: Subject) -> None:
    """Weights put into a second network give the same features: nothing else is remembered."""
    import torch

    network, other = subject.settled(), subject.make(9)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        wanted, got = network(_images(2)).numpy(), other.eval()(_images(2)).numpy()
    common.same("features after loading the weights", got, wanted, 1e-6 * np.abs(wanted).max())


def exports_to_onnx(subject: Subject) -> None:
    """In onnxruntime it gives torch's features at any batch size."""
    common.need("onnxscript", "onnxruntime")
    import torch

    from blurgate.runtime import onnxruntime
    from blurgate.training.export import trace

    network = subject.settled()
    try:
        graph = trace(network, _images(2), ["features"])
    except ModelError as error:
        raise ContractError(str(error)) from error
    options = onnxruntime().SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime().InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for n in (1, 3):
        with torch.no_grad():
            wanted = network(_images(n, seed=n)).numpy()
        (got,) = session.run(None, {"images": _images(n, seed=n).numpy()})
        tolerance = _RELATIVE * float(np.abs(wanted).max())
        common.same(f"features of torch and onnxruntime, batch {n}", got, wanted, tolerance)


CHECKS: Final = (
    common.takes_keywords_only,
    gives_features_of_the_promised_width,
    every_weight_learns,
    batch_of_one_equals_batch_of_many,
    the_seed_decides_the_weights,
    its_state_is_all_there_is,
    exports_to_onnx,
)
