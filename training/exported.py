"""Weights out of an exported model, to train on with: a model of the box has no checkpoint.

An exported graph keeps the names of a network's tensors but for two things. Batch normalisation is
folded into the convolution before it, whose weights and bias it scales and shifts; and a linear
layer may have become a product with its weights turned round, and a sum. Both are undone here.
What the network gives in eval mode is then what the file gives.

Training normalises by the statistics of each batch, and a folded graph has forgotten what these
were like: `settle` measures them anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from blurgate import zoo
from blurgate.errors import ConfigError, UnknownNameError, WeightsError
from blurgate.onnxfile import read_model
from blurgate.training.runs import run_weights
from blurgate.types import CROP_SIZE

__all__ = ["check_alike", "is_exported", "read_weights", "settle", "weights_of"]

_ROOT: Final = "model."  # what `export` calls the network


def is_exported(run: str) -> bool:
    """Say whether what is to be begun with is a model's name or file, and no run or checkpoint."""
    path = Path(run)
    return path.suffix == ".onnx" or (path.name == run and not path.exists())


def check_alike(network: nn.Module, runs: Sequence[str]) -> None:
    """Refuse runs whose weights have no mean: checkpoints beside exported models.

    Normalisation is folded into the convolutions of the latter and stands beside those of the
    former, so that even of one network in both forms the mean is another network.

    Raises:
        ConfigError: There are both, and the network has batch normalisation.
    """
    if len(set(map(is_exported, runs))) > 1 and any(
        isinstance(module, _BatchNorm) for module in network.modules()
    ):
        raise ConfigError(
            f"init has exported models and earlier runs ({', '.join(runs)}), of which no mean can "
            "be taken; name the .onnx file of each run instead"
        )


def read_weights(
    run: str, network: nn.Module, *, kind: str = "scorer", side: int = CROP_SIZE
) -> Mapping[str, Tensor]:
    """Read the weights of an earlier run, or of a model by its name or file.

    Args:
        run: A run's folder, a checkpoint, a model's name, or an ONNX file.
        network: That they are for; not changed.
        kind: scorer or detector.
        side: Of a picture that the network takes.

    Raises:
        WeightsError: It cannot be read.
        ConfigError: There is neither a run nor a model of that name, or it does not hold the
            weights of this network.
    """
    if not is_exported(run):
        return run_weights(run, network)
    try:
        file = zoo.resolve(kind, run)
    except UnknownNameError as error:
        raise ConfigError(f"there is no run {run!r} here to begin with, and {error}") from error
    if file is None:
        raise ConfigError(f"{run} is not a network: there are no weights to begin with")
    return weights_of(file.path, network, side=side)


def weights_of(path: Path, network: nn.Module, *, side: int = CROP_SIZE) -> dict[str, Tensor]:
    """Read an exported model's weights.

    Args:
        path: An ONNX file that `blurgate train` wrote.
        network: Of the same shape, on the CPU; not changed.
        side: Of a picture that the network takes.

    Returns:
        A whole state dict for the network.

    Raises:
        WeightsError: The file cannot be read, or is no ONNX.
        ConfigError: It does not hold this network's weights.
    """
    order, norms = _layers(network, side)
    try:
        known = _tensors(onnx.load_model_from_string(read_model(path)).graph, order)
    except (
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # a name that is no text, data shorter than its shape
        raise WeightsError(f"{path} is damaged; get it again", path=str(path)) from error
    found: dict[str, Tensor] = {}
    for name, own in network.state_dict().items():
        owner, _, part = name.rpartition(".")
        value = known.get(name)
        if value is None and owner in norms:
            value = _neutral(network.get_submodule(owner), part, known.get(f"{norms[owner]}.bias"))
        if value is None or value.shape != own.shape:
            raise ConfigError(
                f"{path} does not hold the weights of this network ({name}): it must be a file of "
                "blurgate train, no 8-bit twin, and the network of the shape that it had there "
                "(backbone and head)"
            )
        found[name] = value
    return found


def _tensors(graph: onnx.GraphProto, order: Sequence[str]) -> dict[str, Tensor]:
    """Give a graph's weights by the names that they have in the network.

    Args:
        graph: With the network's names, or one of `blurgate.training.detection.export`, whose
            convolutions are numbered.
        order: The network's convolutions as they run.
    """
    raw = {
        tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        for tensor in graph.initializer
    }
    named = {
        name.removeprefix(_ROOT): value for name, value in raw.items() if name.startswith(_ROOT)
    }
    # A detector's averages are convolutions, too, and have no bias.
    convolutions = [node for node in graph.node if node.op_type == "Conv" and len(node.input) == 3]
    if not named and len(convolutions) == len(order):
        for layer, node in zip(order, convolutions, strict=True):
            for part, tensor in zip(("weight", "bias"), node.input[1:], strict=True):
                named[f"{layer}.{part}"] = raw[tensor]
        return named
    products = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        inputs = list(node.input)
        if node.op_type == "Conv" and len(inputs) == 3 and inputs[2] in raw:
            layer = inputs[1].removesuffix(".weight").removeprefix(_ROOT)
            named[f"{layer}.bias"] = raw[inputs[2]]  # a folded one has another name
        elif node.op_type == "Add" and inputs[0] in products and inputs[1].endswith(".bias"):
            turned = raw.get(products[inputs[0]].input[1])
            if turned is not None:
                layer = inputs[1].removesuffix(".bias").removeprefix(_ROOT)
                named[f"{layer}.weight"] = turned.T.contiguous()
    return named


def _layers(network: nn.Module, side: int) -> tuple[list[str], dict[str, str]]:
    """Run a network once, to see how its layers follow each other.

    Returns:
        The names of the convolutions as they run; and of each batch normalisation that follows
        one, its name -> the convolution's.
    """
    order: list[str] = []
    made: dict[int, tuple[str, Tensor]] = {}  # with the tensor, so that its id is not given again
    found: dict[str, str] = {}

    def hook(name: str) -> Any:
        def seen(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Conv2d):
                order.append(name)
                made[id(output)] = name, output
            elif id(inputs[0]) in made:
                found[name] = made[id(inputs[0])][0]

        return seen

    hooks = [
        module.register_forward_hook(hook(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | _BatchNorm)
    ]
    was_training = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, side, side))
    finally:
        network.train(was_training)
        for handle in hooks:
            handle.remove()
    return order, found


def _neutral(norm: nn.Module, part: str, bias: Tensor | None) -> Tensor | None:
    """Give a tensor of a normalisation that does nothing but add what was folded into a bias."""
    assert isinstance(norm, _BatchNorm)
    if bias is None:
        return None
    match part:
        case "weight":
            return torch.ones_like(bias)
        case "bias":
            return bias
        case "running_mean":
            return torch.zeros_like(bias)
        case "running_var":
            return torch.full_like(bias, 1 - norm.eps)
        case _:
            return torch.zeros((), dtype=torch.long)  # num_batches_tracked


@torch.no_grad()
def settle(network: nn.Module, images: Tensor) -> None:
    """Take the statistics of every batch normalisation from pictures, and change nothing else.

    Weights and biases are moved along, so that in eval mode the network gives what it gave, and in
    training mode nearly that.

    Args:
        network: Changed in place.
        images: (n, 3, h, w) float32, normalised; some hundred, of the kind to be trained on.
    """

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        mean, var = norm.running_mean, norm.running_var
        if mean is None or var is None or not norm.affine:
            return
        now_var, now_mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3), correction=0)
        scale = norm.weight / (var + norm.eps).sqrt()
        norm.bias.add_(scale * (now_mean - mean))
        norm.weight.copy_(scale * (now_var + norm.eps).sqrt())
        mean.copy_(now_mean)
        var.copy_(now_var)

    hooks = [
        module.register_forward_pre_hook(measure)
        for module in network.modules()
        if isinstance(module, _BatchNorm)
    ]
    was_training = network.training
    try:
        network.eval()(images)
    finally:
        network.train(was_training)
        for handle in hooks:
            handle.remove()
