"""What every registered backbone must do, and what the built-in nine are."""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
import math
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='backbones are made of torch (pip install "blurgate[train]")')

import torch
from torch import nn

from blurgate.errors import ConfigError
from blurgate.host import get_host
from blurgate.plugins.backbones import BACKBONES
from blurgate.plugins.backbones.initial import he_initialise
from blurgate.plugins.backbones.squeezenet import squeezenet1_1
from blurgate.plugins.backbones.yolov5n import yolov5n_xx
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
# One of each architecture; EfficientNet-Lite0 is made of MobileNetV2's blocks.
EXPORTED = ["mobilenetv2_0.25", "squeezenet1_1", "yolov5n_xx", "edgenext_xx_small", "resnet18"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Several threads wait for each other, which takes minutes on a machine that is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(name: str) -> nn.Module:
    torch.manual_seed(7)
    return get_host().registry("backbone")[name].factory()


def images(n: int, seed: int = 0) -> torch.Tensor:
    """Patches of colour under noise: of noise alone, all averages would be alike."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randn(n, 3, 4, 4, generator=generator).repeat_interleave(28, 2)
    noise = torch.randn(n, 3, 112, 112, generator=generator)
    return patches.repeat_interleave(28, 3) + 0.5 * noise


def settle(network: nn.Module) -> nn.Module:
    """Draw all weights and statistics: many start at 0 or 1, EdgeNeXt's scales at 1e-6."""
    network.train()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter)
            elif name.endswith("bias"):
                nn.init.normal_(parameter, std=0.1)
            else:
                nn.init.uniform_(parameter, 0.5, 1.5)
        network(images(4, seed=3))
    return network.eval()


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


@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_promised_shape_and_every_weight_learns(name: str) -> None:
    network = make(name).train()
    features = network(images(2))
    assert features.shape == (2, network.out_features)
    assert features.dtype == torch.float32
    # Not the sum: what a batch or layer norm gives sums to a constant, whatever its input.
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    (features * weights).sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key
        assert bool((parameter.grad != 0).any()), key


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_equals_a_batch_of_many(name: str) -> None:
    network = settle(make(name))
    with torch.no_grad():
        many = network(images(3))
        one = torch.cat([network(image[None]) for image in images(3)])
        assert many.std(0).max() > 1e-2 * many.abs().max()  # the images are told apart
    torch.testing.assert_close(one, many, rtol=1e-4, atol=float(1e-5 * many.abs().max()))


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
def test_features_are_those_of_the_reference(name: str) -> None:
    # Shapes do not see a stride, a padding, an activation or a shortcut.
    spec = importlib.util.spec_from_file_location("parity", PARITY)
    assert spec is not None
    assert spec.loader is not None
    parity = importlib.util.module_from_spec(spec)
    sys.modules["parity"] = parity  # its dataclass looks itself up there
    try:
        spec.loader.exec_module(parity)
    finally:
        del sys.modules["parity"]
    model = build_model(name).eval()
    parity.fill(model)
    with torch.no_grad():
        features = model.backbone(parity.pictures())
    expected = torch.tensor(GOLDEN[name]["features"])
    difference = (parity.thinned(features) - expected).abs().max() / features.abs().max()
    assert difference < 1e-4, GOLDEN[name]["reference"]


def test_the_golden_file_holds_all_nine() -> None:
    assert sorted(GOLDEN) == sorted(name for name, *_ in BACKBONES)


@pytest.mark.parametrize("name", EXPORTED)
def test_onnxruntime_gives_the_same_features_at_any_batch_size(name: str) -> None:
    ort = pytest.importorskip("onnxruntime", reason="exports are checked with onnxruntime")
    pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")
    network = settle(make(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own insides
        program = torch.onnx.export(
            network,
            (images(2),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            input_names=["images"],
            output_names=["features"],
            verbose=False,
        )
    file = io.BytesIO()
    program.save(file)
    session = ort.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for n in (1, 3):
        with torch.no_grad():
            expected = network(images(n, seed=n)).numpy()
        (got,) = session.run(None, {"images": images(n, seed=n).numpy()})
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("module", "function"), [(m, f) for _, m, f, _ in BACKBONES])
def test_factories_take_keywords_only(module: str, function: str) -> None:
    factory = getattr(import_module(f"blurgate.plugins.backbones.{module}"), function)
    kinds = {p.kind for p in inspect.signature(factory).parameters.values()}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}


def test_an_option_that_a_backbone_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'resnet18' cannot be made: .*'wdth'"):
        build_model("resnet18", wdth=2)


@pytest.mark.parametrize("side", [64, 97, 100, 112])
def test_yolov5n_knows_how_many_features_it_flattens(side: int) -> None:
    network = yolov5n_xx(image_size=side).eval()
    assert network(torch.zeros(1, 3, side, side)).shape == (1, network.out_features)


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = (make("mobilenetv2").state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


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
    layers = squeezenet1_1().layers
    with torch.no_grad():
        assert 0.1 < layers(images(1)).std() < 10  # no batch norm would put it right


def test_backbones_are_listed_without_torch_and_say_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from blurgate.errors import EnvironmentLackError\n"
        "from blurgate.host import get_host\n"
        "registry = get_host().registry('backbone')\n"
        "print(len(registry), len(get_host().registry('loss')))\n"
        "try: registry['resnet18'].factory()\n"
        "except EnvironmentLackError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == [
        "9 6",
        'training needs torch, which is not installed; run: pip install "blurgate[train]"',
    ]
