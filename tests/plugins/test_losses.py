"""The six losses against closed forms, torch's own functions and numbers worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason='losses are made of torch (pip install "blurgate[train]")')

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blurgate.errors import ConfigError, ShapeError
from blurgate.host import get_host

HEADS = {
    "huber": "regression",
    "mse": "regression",
    "l1": "regression",
    "crossentropy": "bins",
    "cmse": "bins",
    "wmse": "bins",
}


def make(name: str, **options: float) -> Any:
    return get_host().registry("loss")[name].factory(**options)


def batch(
    kind: str, n: int = 16, bins: int = 20, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(n, 1 if kind == "regression" else bins, generator=generator)
    return output, torch.rand(n, generator=generator)


def in_numpy(name: str, output: torch.Tensor, target: torch.Tensor) -> float:
    """The definition of each loss once more, in float64 and loops."""
    values = []
    for row, y in zip(output.double().numpy(), target.double().numpy(), strict=True):
        if HEADS[name] == "regression":
            e = abs(row[0] - y)
            huber = e * e / 2 if e <= 0.1 else 0.1 * (e - 0.05)
            values.append({"mse": e * e, "l1": e, "huber": huber}[name])
            continue
        bins = len(row)
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        c = [(i + 0.5) / bins for i in range(bins)]
        ce = -math.log(p[min(int(y * bins), bins - 1)])
        squared = (sum(p[i] * c[i] for i in range(bins)) - y) ** 2
        weighted = sum(p[i] * (c[i] - y) ** 2 for i in range(bins))
        values.append({"crossentropy": ce, "cmse": ce + squared, "wmse": weighted}[name])
    return float(np.mean(values))


def test_the_six_are_registered_with_the_head_they_need() -> None:
    assert {entry.name for entry in get_host().registry("loss")} == set(HEADS)
    assert {name: make(name).head for name in HEADS} == HEADS


@pytest.mark.parametrize("bins", [20, 40])
@pytest.mark.parametrize("name", sorted(HEADS))
def test_each_loss_is_its_definition(name: str, bins: int) -> None:
    output, target = batch(HEADS[name], bins=bins)
    loss = make(name)(output, target)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(in_numpy(name, output, target), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # errors 0.05 and 0.5
        ("mse", {}, (0.0025 + 0.25) / 2),
        ("l1", {}, 0.275),
        ("huber", {}, (0.00125 + 0.1 * 0.45) / 2),
        ("huber", {"delta": 1.0}, (0.0025 + 0.25) / 4),
    ],
)
def test_regression_worked_by_hand(name: str, options: dict[str, float], expected: float) -> None:
    output, target = torch.tensor([[0.25], [1.3]]), torch.tensor([0.3, 0.8])
    assert make(name, **options)(output, target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # Four bins, p = (1/8, 5/8, 1/8, 1/8), centres 1/8 3/8 5/8 7/8: expectation 14/32 = 0.4375.
        # The target 0.5 lies in bin 2, whose p is 1/8.
        ("crossentropy", {}, math.log(8)),
        ("cmse", {}, math.log(8) + 0.0625**2),
        ("cmse", {"ce_weight": 0.5, "mse_weight": 10.0}, 0.5 * math.log(8) + 10 * 0.0625**2),
        ("wmse", {}, (0.375**2 + 5 * 0.125**2 + 0.125**2 + 0.375**2) / 8),
    ],
)
def test_classification_worked_by_hand(
    name: str, options: dict[str, float], expected: float
) -> None:
    output, target = torch.tensor([[1.0, 5.0, 1.0, 1.0]]).log(), torch.tensor([0.5])
    assert make(name, **options)(output, target).item() == pytest.approx(expected, rel=1e-5)


def test_targets_are_hard_bins() -> None:
    output, _ = batch("bins", n=1)
    inside = [make("crossentropy")(output, torch.tensor([y])).item() for y in (0.31, 0.34)]
    beside = make("crossentropy")(output, torch.tensor([0.36])).item()
    assert inside[0] == inside[1] != beside


@given(st.integers(0, 2**31), st.sampled_from([2, 5, 20, 40]), st.floats(0.01, 100))
@settings(max_examples=50, deadline=None)
def test_wmse_is_squared_bias_plus_variance(seed: int, bins: int, scale: float) -> None:
    output, target = batch("bins", bins=bins, seed=seed)
    p = (output.double() * scale).softmax(1)
    centres = (torch.arange(bins).double() + 0.5) / bins
    mean = (p * centres).sum(1)
    variance = (p * (centres - mean[:, None]) ** 2).sum(1)
    expected = ((mean - target.double()) ** 2 + variance).mean()
    assert make("wmse")(output * scale, target).item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_half_precision_outputs_are_measured_in_single(name: str) -> None:
    output, target = batch(HEADS[name])
    half = output.to(torch.bfloat16)
    loss = make(name)(half, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(in_numpy(name, half.float(), target), rel=1e-5)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_nan_and_the_wrong_head_are_refused(name: str) -> None:
    output, target = batch(HEADS[name])
    with pytest.raises(ShapeError, match=r"target degrees must lie in \[0, 1\]; got nan"):
        make(name)(output, torch.full_like(target, torch.nan))
    with pytest.raises(ShapeError, match="output is not finite"):
        make(name)(torch.full_like(output, torch.nan), target)
    other, _ = batch("bins" if HEADS[name] == "regression" else "regression")
    with pytest.raises(ShapeError, match=f"of a {HEADS[name]} head"):
        make(name)(other, target)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"huber: delta must be above 0, got 0\.0"):
        make("huber", delta=0.0)
    with pytest.raises(ConfigError, match="cmse: weights must be at least 0 and not both 0"):
        make("cmse", ce_weight=0.0, mse_weight=0.0)
    with pytest.raises(ConfigError, match=r"mse_weight=-1\.0"):
        make("cmse", mse_weight=-1.0)
