"""Weighted sums of losses, as they are written."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason='losses are made of torch (pip install "blurgate[train]")')

import torch

from blurgate.errors import ConfigError, UnknownNameError
from blurgate.training.heads import make_head
from blurgate.training.loss_sums import check_head, parse_loss


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # One output of 0.25 against 0.75: error 0.5.
        ("mse", 0.25),
        ("0.7*huber+0.3*l1", 0.7 * 0.1 * (0.5 - 0.05) + 0.3 * 0.5),
        (" 2 * l1 + .5*mse ", 2 * 0.5 + 0.5 * 0.25),
        ("1e+1*mse+1e-1*l1", 2.5 + 0.05),
        ("3*huber(delta=1)", 3 * 0.125),
        ("huber( delta = 2.5e-1 )+l1()", 0.25 * (0.5 - 0.125) + 0.5),
    ],
)
def test_sums(text: str, expected: float) -> None:
    loss = parse_loss(text)
    assert loss.head == "regression"
    assert str(loss) == text
    value = loss(torch.tensor([[0.25]]), torch.tensor([0.75]))
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_two_options_of_one_loss() -> None:
    loss = parse_loss("cmse(ce_weight=0, mse_weight=3) + wmse")
    # All bins alike: the expectation is 0.5; sum((c - 0.5)**2) / 2 over the centres 1/4 and 3/4.
    value = loss(torch.zeros(1, 2), torch.tensor([0.5]))
    assert value.item() == pytest.approx(0 + 0.0625)
    assert loss.head == "bins"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"cannot read the loss '' from '' on; write for example 0.7\*huber"),
        ("huber+", "cannot read the loss .* from '' on"),
        ("huber l1", "cannot read the loss 'huber l1' from 'huber l1' on"),
        ("l1-huber*2", r"from 'l1-huber\*2' on"),
        ("l1+-2*mse", r"from '-2\*mse' on"),
        ("l1+0*mse", "a weight must be above 0, got 0"),
        ("1e999*mse", "a weight must be above 0, got 1e999"),
        ("huber(delta)", "cannot read 'delta' in the loss"),
        ("huber(delta=a)", "cannot read 'delta=a' in the loss"),
        ("huber(delta=1,delta=2)", "sets delta twice"),
        ("huber(detla=1)", "'huber' cannot be made: .*'detla'"),
        ("huber(delta=0)", "huber: delta must be above 0"),
        (
            "huber+wmse",
            r"different heads: Huber\(delta=0.1\) needs regression, WMSE\(\) needs bins",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_loss(text)


def test_an_unknown_loss_is_named_with_its_neighbours() -> None:
    with pytest.raises(UnknownNameError, match="no loss is called 'hubert'; did you mean 'huber'"):
        parse_loss("0.5*hubert+l1")


def test_a_loss_and_a_head_that_do_not_fit() -> None:
    bins, regression = (make_head(name, in_features=4) for name in ("bins20", "complex"))
    check_head(parse_loss("wmse"), bins)
    check_head(parse_loss("huber+l1"), regression)
    with pytest.raises(ConfigError, match=r"loss 2\*wmse needs a bins head: use --head bins20 or"):
        check_head(parse_loss("2*wmse"), regression)
    with pytest.raises(ConfigError, match="loss l1 needs a regression head: use --head regression"):
        check_head(parse_loss("l1"), bins)
