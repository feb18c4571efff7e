"""Embeddings of tensors where they lie: onnxruntime reads and writes torch's own memory.

On a GPU the pictures of a batch never leave it, neither for the embedder nor for the training step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from blurgate import zoo
from blurgate.cards import InputCard, read_card
from blurgate.errors import ModelError
from blurgate.interfaces import Runtime
from blurgate.runtime import first_line, make_session
from blurgate.training.dataset import through_numpy

if TYPE_CHECKING:
    from torch import Tensor

    from blurgate.interfaces import ModelFile
    from blurgate.training.dataset import TensorEmbed
    from blurgate.training.labels import Labeller

__all__ = ["Bound", "tensor_embed"]


def tensor_embed(name: str | None, labeller: Labeller, device: torch.device) -> TensorEmbed:
    """Give what embeds tensors on a device: bound to it on a GPU, through NumPy otherwise.

    Args:
        name: The embedder, as `zoo.open_embedder` takes it.
        labeller: Of the same embedder; used where it is not a plain ONNX file, or has a fixed
            batch, or onnxruntime did not get the GPU.
        device: Where the tensors are.
    """
    if device.type != "cuda":
        return through_numpy(labeller)
    file = zoo.resolve("embedder", name or zoo.default_name("embedder"))
    runner = file.card.get("runner") or zoo.RUNNERS["embedder"] if file is not None else ""
    if file is None or runner != zoo.RUNNERS["embedder"]:
        return through_numpy(labeller)
    bound = Bound(file, device)
    return bound if bound.usable else through_numpy(labeller)


class Bound:
    """An embedder of insightface's convention, on tensors.

    Args:
        file: The ONNX file and its card.
        device: cpu, or a GPU that torch and onnxruntime share.

    Attributes:
        usable: Whether the batch is free and the session runs on the device.
    """

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        index = device.index or 0
        name = device.type if device.type == "cpu" else f"{device.type}:{index}"
        self._path, self._device, self._index = str(file.path), device, index
        self._card: InputCard = read_card(file.card, self._path).input
        self._session = make_session(file.path, Runtime(name))
        (entry,) = self._session.get_inputs()
        (out,) = self._session.get_outputs()
        self._input, self._output = entry.name, out.name
        provider = self._session.get_providers()[0]
        on_device = provider == ("CPU" if device.type == "cpu" else "CUDA") + "ExecutionProvider"
        self.usable = on_device and not isinstance(entry.shape[0], int)
        self._length = out.shape[1] if isinstance(out.shape[1], int) else 0
        self.usable &= self._length > 0

    def __call__(self, pictures: Tensor) -> Tensor:
        """Embed (n, 3, 112, 112) uint8 BGR on the device; gives (n, d) float32 of length 1.

        Raises:
            ModelError: onnxruntime could not run the model.
        """
        images = self._prepare(pictures)
        vectors = torch.empty(len(images), self._length, device=images.device)
        if not len(images):
            return vectors
        binding = self._session.io_binding()
        binding.bind_input(self._input, *self._place(images))
        binding.bind_output(self._output, *self._place(vectors))
        try:
            if images.is_cuda:  # onnxruntime works on a stream of its own
                torch.cuda.current_stream(images.device).synchronize()
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
        except Exception as error:  # onnxruntime's own exception types are not public
            raise ModelError(
                f"{self._path} does not run: {first_line(error)}", path=self._path
            ) from error
        units: Tensor = vectors / vectors.norm(dim=1, keepdim=True)
        return units

    def _prepare(self, pictures: Tensor) -> Tensor:
        facts = self._card
        pixels = (pictures.flip(1) if facts.color == "rgb" else pictures).float()
        planes = [
            (pixels[:, channel] - mean) / std
            for channel, (mean, std) in enumerate(zip(facts.mean, facts.std, strict=True))
        ]
        return torch.stack(planes, 1).contiguous()

    def _place(self, tensor: Tensor) -> tuple[Any, ...]:
        kind = tensor.device.type
        return kind, self._index, np.float32, tuple(tensor.shape), tensor.data_ptr()
