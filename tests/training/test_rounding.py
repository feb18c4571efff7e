"""Activations rounded to 8 bits while training."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs the extra: pip install "blurgate[train]"')

import torch

from blurgate.training.model import build_model
from blurgate.training.rounding import rounded, rounded_activations

pytestmark = pytest.mark.usefixtures("one_thread")


def test_values_come_to_lie_on_256_steps_and_gradients_pass():
    values = torch.randn(4, 3, 20, 20, generator=torch.Generator().manual_seed(0)) * 3 - 1
    values.requires_grad_()
    found = rounded(values)
    # NumPy's own quantiser: the nearest of 256 even levels.
    flat = values.detach().numpy().ravel()
    levels = np.linspace(flat.min(), flat.max(), 256)
    nearest = levels[np.abs(flat[:, None] - levels).argmin(1)]
    np.testing.assert_allclose(found.detach().numpy().ravel(), nearest, atol=1e-5)
    assert len(found.detach().unique()) <= 256
    (found * torch.arange(20.0)).sum().backward()
    assert torch.equal(values.grad, torch.arange(20.0).expand_as(values))


def test_an_even_tensor_stays_as_it_is():
    assert rounded(torch.full((3, 4), 0.7)).tolist() == [[pytest.approx(0.7)] * 4] * 3


def test_a_network_rounds_only_while_it_trains_and_only_inside():
    torch.manual_seed(0)
    model = build_model("yolov5n_xx").train()
    images = torch.randn(4, 3, 112, 112)
    levels: list[int] = []
    gate = next(m for m in model.modules() if isinstance(m, torch.nn.SiLU))

    def count(module, inputs, output):
        levels.append(len(output.detach().unique()))

    with rounded_activations(model):
        handle = gate.register_forward_hook(count)  # after the rounding
        model(images)
        model.eval()
        inside = model(images)
        handle.remove()
    assert levels[0] <= 256 < levels[1]
    assert torch.equal(model(images), inside)
    assert not any(m._forward_hooks for m in model.modules())


def test_a_relu_and_its_convolution_are_rounded_as_one():
    torch.manual_seed(0)
    norm, gate = torch.nn.BatchNorm2d(3), torch.nn.ReLU()
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), norm, gate).train()
    seen: dict[torch.nn.Module, torch.Tensor] = {}

    def keep(module, inputs, output):
        seen[module] = output.detach()

    with rounded_activations(layers):
        for module in (norm, gate):
            module.register_forward_hook(keep)
        layers(torch.randn(4, 3, 40, 40))
    assert len(seen[norm].unique()) > 256
    # All 256 steps are above 0: the twin's numbers are what is left of the convolution's.
    torch.testing.assert_close(seen[gate], rounded(seen[norm].relu()))
    assert len(seen[gate].unique()) > 200
