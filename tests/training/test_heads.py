"""Heads, and the network of a backbone and a head."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason='heads are made of torch (pip install "blurgate[train]")')

import torch
from torch import nn

from blurgate.errors import ConfigError, PluginError, ShapeError, UnknownNameError
from blurgate.hookspecs import hookimpl
from blurgate.host import Host
from blurgate.training.heads import (
    HEADS,
    BinsHead,
    RegressionHead,
    bin_centres,
    bin_index,
    checked_batch,
    expected_degree,
    make_head,
)
from blurgate.training.model import build_model


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "kind", "outputs", "parameters"),
    [
        ("regression", "regression", 1, 513),
        ("complex", "regression", 1, 512 * 100 + 100 + 100 + 1),
        ("bins20", "bins", 20, 513 * 20),
        ("bins40", "bins", 40, 513 * 40),
    ],
)
def test_the_four_heads(name: str, kind: str, outputs: int, parameters: int) -> None:
    head = make_head(name, in_features=512)
    assert (head.kind, head.outputs, count(head)) == (kind, outputs, parameters)
    output = head(torch.randn(3, 512))
    assert output.shape == (3, outputs)
    degree = head.degree(output)
    assert degree.shape == (3,)
    assert degree.dtype == torch.float32


def test_no_head_is_untested() -> None:
    assert list(HEADS) == ["regression", "complex", "bins20", "bins40"]


def test_hidden_layers_can_be_put_before_any_head() -> None:
    head = make_head("bins20", in_features=10, hidden=(7, 5))
    assert count(head) == 11 * 7 + 8 * 5 + 6 * 20
    assert [type(layer).__name__ for layer in head.layers] == [
        *("Linear", "ReLU", "Linear", "ReLU", "Linear"),
    ]
    assert count(make_head("complex", in_features=10, hidden=())) == 11


def test_an_unknown_head_is_named_with_its_neighbours() -> None:
    with pytest.raises(UnknownNameError, match=r"no head is called 'bins30'; did you mean 'bins"):
        make_head("bins30", in_features=4)


def test_a_regression_is_cut_off_at_0_and_1_and_starts_at_the_middle() -> None:
    head = RegressionHead(in_features=4)
    output = torch.tensor([[-0.2], [0.25], [1.0], [1.7]])
    assert head.degree(output).tolist() == [0.0, 0.25, 1.0, 1.0]
    assert head(torch.zeros(1, 4)).tolist() == [[0.5]]
    assert head.degree(output.to(torch.bfloat16)).dtype == torch.float32


def test_bins_worked_by_hand() -> None:
    assert bin_centres(20)[[0, 1, 19]].tolist() == pytest.approx([0.025, 0.075, 0.975])
    degrees = torch.tensor([0.0, 0.049, 0.051, 0.5, 0.999, 1.0])
    assert bin_index(degrees, 20).tolist() == [0, 0, 1, 10, 19, 19]
    # p = (1/4, 3/4, 0, 0) over the centres .125 .375 .625 .875
    logits = torch.tensor([[0.0, np.log(3.0), -1e4, -1e4]])
    assert expected_degree(logits).item() == pytest.approx(0.25 * 0.125 + 0.75 * 0.375)


@pytest.mark.parametrize("bins", [20, 40])
def test_the_expected_degree_stays_in_range_and_finds_a_certain_bin(bins: int) -> None:
    certain = 1e4 * torch.eye(bins)
    torch.testing.assert_close(
        BinsHead(in_features=2, bins=bins).degree(certain), bin_centres(bins)
    )
    wild = 1e3 * torch.randn(100, bins, generator=torch.Generator().manual_seed(0))
    degree = expected_degree(wild)
    assert bool(((degree > 0) & (degree < 1)).all())


@pytest.mark.parametrize(
    ("output", "target", "kind", "message"),
    [
        (torch.zeros(2, 1), torch.zeros(2), "bins", r"output \(n, bins\) of a bins head.*\(2, 1\)"),
        (torch.zeros(2, 9), torch.zeros(2), "regression", r"\(n, 1\) of a regression.*\(2, 9\)"),
        (torch.zeros(2), torch.zeros(2), "regression", r"got \(2,\)"),
        (torch.zeros(0, 1), torch.zeros(0), "regression", r"n >= 1; got \(0, 1\)"),
        (torch.zeros(2, 1), torch.zeros(2, 1), "regression", r"shape \(2,\).*\(2, 1\)"),
        (torch.zeros(2, 1), torch.zeros(2).long(), "regression", r"must be float.*torch.int64"),
        (torch.zeros(2, 1), torch.tensor([0.5, 1.25]), "regression", r"\[0, 1\]; got 0.5 to 1.25"),
        (torch.zeros(2, 1), torch.tensor([0.5, torch.nan]), "regression", r"\[0, 1\]; got nan"),
        (torch.tensor([[torch.nan]]), torch.zeros(1), "regression", "output is not finite"),
        (torch.tensor([[1.0, torch.inf]]), torch.zeros(1), "bins", "output is not finite"),
    ],
)
def test_a_batch_that_cannot_be_right_is_refused(
    output: torch.Tensor, target: torch.Tensor, kind: str, message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        checked_batch(output, target, kind)  # type: ignore[arg-type]


def test_the_degree_of_a_model_is_that_of_its_head() -> None:
    model = build_model("mobilenetv2", head="bins40").eval()
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        torch.testing.assert_close(model.degree(images), model.head.degree(model(images)))


def test_the_head_stays_in_single_precision_under_autocast() -> None:
    model = build_model("mobilenetv2").eval()
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.backbone(images).dtype == torch.bfloat16
        output = model(images)
    assert output.dtype == torch.float32
    assert not torch.equal(output, output.bfloat16().float())


class Broken:
    """An outside plugin whose backbone is not one."""

    @staticmethod
    @hookimpl
    def register_backbones(register) -> None:
        register("formless", lambda: nn.Flatten())


def test_a_backbone_without_out_features_is_the_plugins_fault() -> None:
    host = Host(outside=False)
    host.add(Broken, "broken-plugin")
    with pytest.raises(PluginError, match=r"'formless' of broken-plugin is not .* out_features"):
        build_model("formless", host=host)


def test_unknown_backbones_and_options() -> None:
    with pytest.raises(
        UnknownNameError, match="no backbone is called 'resnet50'; did you mean 'resnet"
    ):
        build_model("resnet50")
    with pytest.raises(ConfigError, match="'squeezenet1_1' cannot be made"):
        build_model("squeezenet", options={"width": 0.5})
