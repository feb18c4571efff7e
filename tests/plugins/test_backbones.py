"""What every registered backbone must do, and what the built-in ones are."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch", reason='backbones are made of torch (pip install "blurgate[train]")')

import torch
from torch import nn

from blurgate.errors import ConfigError
from blurgate.host import get_host
from blurgate.plugins.backbones import BACKBONES
from blurgate.plugins.backbones.initial import he_initialise
from blurgate.plugins.backbones.squeezenet import SqueezeNet
from blurgate.training.model import build_model

ROOT = Path(__file__).parents[2]
# Made by scripts/check_backbone_parity.py from torchvision, timm and ultralytics.
GOLDEN = json.loads((ROOT / "tests" / "data" / "backbone_shapes.json").read_text(encoding="utf-8"))
PARITY = ROOT / "scripts" / "check_backbone_parity.py"
# Independent of the golden file: the counts that the papers' implementations are known to have.
PARAMETERS = {
    "mobilenetv2_0.25": 239_393,
    "mobilenetv2_0.5": 688_961,
    "squeezenet1_1": 723_009,
    "edgenext_xx_small": 1_158_385,
    "efficientnet_lite0": 3_372_289,
    "resnet18": 11_177_025,
    "resnet34": 21_285_185,
}
# Size of the original system's files in MiB: weights, statistics, and some per cent of packaging.
YOLO_FILES = {"yolov5n_x": 4.106, "yolov5n_xx": 2.213}
NAMES = [entry.name for entry in get_host().registry("backbone")]


pytestmark = pytest.mark.usefixtures("one_thread")


def images(n: int, seed: int = 0) -> torch.Tensor:
    """Patches of colour under noise: of noise alone, all averages would be alike."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randn(n, 3, 4, 4, generator=generator).repeat_interleave(28, 2)
    noise = torch.randn(n, 3, 112, 112, generator=generator)
    return patches.repeat_interleave(28, 3) + 0.5 * noise


def test_the_names_and_aliases_are_those_promised() -> None:
    assert {*PARAMETERS, *YOLO_FILES} <= set(NAMES)
    registry = get_host().registry("backbone")
    aliases = {alias: entry.name for entry in registry for alias in entry.aliases}
    assert aliases == {
        "mobilenetv2": "mobilenetv2_0.25",
        "edgenext": "edgenext_xx_small",
        "yolov5n": "yolov5n_xx",
        "efficientnet": "efficientnet_lite0",
        "squeezenet": "squeezenet1_1",
    }


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameters_with_one_output(name: str) -> None:
    assert sum(p.numel() for p in build_model(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(YOLO_FILES))
def test_yolov5n_has_the_file_size_of_the_original(name: str) -> None:
    values = build_model(name).state_dict().values()
    size = sum(value.numel() * value.element_size() for value in values) / 2**20
    assert YOLO_FILES[name] - 0.1 < size < YOLO_FILES[name]


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_layers_are_those_of_the_reference_in_order(name: str) -> None:
    model = build_model(name)
    shapes = [list(value.shape) for value in model.state_dict().values()]
    assert shapes == GOLDEN[name]["shapes"], GOLDEN[name]["reference"]
    assert sum(p.numel() for p in model.parameters()) == GOLDEN[name]["parameters"]


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_features_are_those_of_the_reference(load: Callable[[Path], ModuleType], name: str) -> None:
    # Shapes do not see a stride, a padding, an activation or a shortcut.
    parity = load(PARITY)
    model = build_model(name).eval()
    parity.fill(model)
    with torch.no_grad():
        features = model.backbone(parity.pictures())
    expected = torch.tensor(GOLDEN[name]["features"])
    difference = (parity.thinned(features) - expected).abs().max() / features.abs().max()
    assert difference < 1e-4, GOLDEN[name]["reference"]


def test_the_golden_file_holds_all_that_have_a_reference() -> None:
    ours = {"yolov5n_xx_relu"}
    assert sorted(GOLDEN) == sorted({name for name, *_ in BACKBONES} - ours)


def test_yolov5n_xx_relu_is_yolov5n_xx_with_relu_down_to_14_pixels() -> None:
    """Both on the same weights, every SiLU of a map of 14 pixels or more made a ReLU by a hook."""
    torch.manual_seed(0)
    ours, stock = build_model("yolov5n_xx_relu").eval(), build_model("yolov5n_xx").eval()
    stock.load_state_dict(ours.state_dict())

    def put_right(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if output.shape[-1] >= 14:
            output.copy_(given.relu())

    def keep(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        nonlocal given
        given = inputs[0].clone()  # SiLU writes over it

    given = torch.empty(0)
    gates = [module for module in stock.modules() if isinstance(module, nn.SiLU)]
    for gate in gates:
        gate.register_forward_pre_hook(keep)
        gate.register_forward_hook(put_right)
    with torch.no_grad():
        torch.testing.assert_close(ours.backbone(images(2)), stock.backbone(images(2)))
    kinds = [type(m) for m in ours.modules() if isinstance(m, (nn.ReLU, nn.SiLU))]
    assert (kinds.count(nn.ReLU), kinds.count(nn.SiLU)) == (15, len(gates) - 15)


@pytest.mark.parametrize(("module", "function"), [(m, f) for _, m, f, _ in BACKBONES])
def test_the_built_in_ones_take_no_options(module: str, function: str) -> None:
    factory = getattr(import_module(f"blurgate.plugins.backbones.{module}"), function)
    assert not inspect.signature(factory).parameters


def test_an_option_that_a_backbone_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'resnet18' cannot be made: .*'wdth'"):
        build_model("resnet18", options={"wdth": 2})


@pytest.mark.parametrize(("groups", "fan_out"), [(1, 64 * 9), (64, 9)])
def test_he_initialisation_counts_the_fan_out_of_one_group(groups: int, fan_out: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3, groups=groups)
    he_initialise(nn.Sequential(layer))
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
    assert layer.bias is not None
    assert layer.bias.abs().max() == 0


def test_squeezenet_starts_with_activations_of_the_size_of_its_input() -> None:
    torch.manual_seed(0)
    layers = SqueezeNet().layers
    with torch.no_grad():
        assert 0.1 < layers(images(1)).std() < 10  # no batch norm would put it right


def test_backbones_are_listed_without_torch_and_say_how_to_get_it(
    printed: Callable[[str], str],
) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from blurgate.errors import EnvironmentLackError\n"
        "from blurgate.host import get_host\n"
        "registry = get_host().registry('backbone')\n"
        "print(len([*registry]), len([*get_host().registry('loss')]))\n"
        "try: registry['resnet18'].factory()\n"
        "except EnvironmentLackError as error: print(error)\n"
    )
    assert printed(code).splitlines() == [
        "10 6",
        'training needs torch, which is not installed; run: pip install "blurgate[train]"',
    ]
