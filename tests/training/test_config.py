"""Training configurations: layers, types, ranges, presets, and messages that name the way out."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("yaml", reason='configurations are YAML (pip install "blurgate[train]")')

import yaml

from blurgate.errors import ConfigError, UnknownNameError
from blurgate.training.config import TrainConfig, make_config
from blurgate.training.settings import parse_settings, preset_names, read_config

# The configurations of the original system: backbone, head, loss.
ORIGINAL = {
    "resnet18_simple": ("resnet18", "regression", "huber"),
    "resnet18_simple_mse": ("resnet18", "regression", "mse"),
    "resnet18_simple_l1": ("resnet18", "regression", "l1"),
    "resnet18_complex": ("resnet18", "complex", "huber"),
    "resnet18_bins20_cmse": ("resnet18", "bins20", "cmse"),
    "resnet18_bins20_wmse": ("resnet18", "bins20", "wmse"),
    "resnet18_bins40_cmse": ("resnet18", "bins40", "cmse"),
    "resnet18_bins40_wmse": ("resnet18", "bins40", "wmse"),
    "resnet34": ("resnet34", "regression", "huber"),
    "edgenext_xx_small": ("edgenext_xx_small", "regression", "huber"),
    "yolov5n_x": ("yolov5n_x", "regression", "huber"),
    "yolov5n_xx": ("yolov5n_xx", "regression", "huber"),
    "mobilenetv2_0.25": ("mobilenetv2_0.25", "regression", "huber"),
    "mobilenetv2_0.5": ("mobilenetv2_0.5", "regression", "huber"),
    "efficientnet_lite0": ("efficientnet_lite0", "regression", "huber"),
    "squeezenet1_1": ("squeezenet1_1", "regression", "huber"),
}


def test_the_presets_are_the_configurations_of_the_original():
    assert preset_names() == sorted(["original", *(f"original_{name}" for name in ORIGINAL)])


@pytest.mark.parametrize("name", ORIGINAL)
def test_a_preset_is_trained_as_the_original_was(name):
    config = make_config(read_config(f"original_{name}", TrainConfig))
    assert (config.backbone, config.head, config.loss) == ORIGINAL[name]
    assert (config.epochs, config.batch, config.lr, config.val) == (50, 64, 1e-3, 0.2)
    assert (config.schedule, config.decay, config.flip) == ("exponential", 0.95, True)
    assert config.synthesizer_options == {"weights": {"deblurgan": 1, "linear": 1}}


@pytest.mark.parametrize("name", ORIGINAL)
def test_a_presets_loss_fits_its_head_and_its_names_are_registered(name):
    pytest.importorskip("torch", reason="heads and losses are made of torch")
    from blurgate.host import get_host
    from blurgate.training.heads import make_head
    from blurgate.training.loss_sums import check_head, parse_loss
    from blurgate.training.pairs import make_chain

    config = make_config(read_config(f"original_{name}", TrainConfig))
    check_head(parse_loss(config.loss), make_head(config.head, in_features=4))
    assert get_host().registry("backbone")[config.backbone].name == config.backbone
    make_chain(config.synthesizer, options=config.synthesizer_options)


def test_yaml_of_a_configuration_gives_it_again(tmp_path):
    config = TrainConfig(
        lr=3e-4, hidden=(64, 8), faces=("a", "ö"), synthesizer_options={"weights": {"linear": 1}}
    )
    path = tmp_path / "c.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert make_config(read_config(str(path), TrainConfig)) == config
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) == {
        entry.name for entry in dataclasses.fields(TrainConfig)
    }


def test_a_whole_mapping_replaces_single_keys_of_its_bases_and_not_its_own(tmp_path):
    lowest = "synthesizer_options: {a: 1}\nsynthesizer_options.b: 2\n"
    (tmp_path / "lowest.yaml").write_text(lowest)
    (tmp_path / "base.yaml").write_text("base: lowest.yaml\nsynthesizer_options.c: 3\n")
    whole = "base: base.yaml\nsynthesizer_options: {d: 4}\n"
    (tmp_path / "whole.yaml").write_text(whole)
    (tmp_path / "both.yaml").write_text(f"{whole}synthesizer_options.b: 5\n")

    def options(name):
        return make_config(read_config(str(tmp_path / name), TrainConfig)).synthesizer_options

    assert options("base.yaml") == {"a": 1, "b": 2, "c": 3}
    assert options("whole.yaml") == {"d": 4}
    assert options("both.yaml") == {"d": 4, "b": 5}


def test_bases_lie_below_the_file_and_are_found_beside_it(tmp_path):
    (tmp_path / "base.yaml").write_text("base: original_resnet18_complex\nepochs: 7\nlr: 1e-4\n")
    (tmp_path / "top.yaml").write_text("base: base.yaml\nepochs: 9\n")
    config = make_config(read_config(str(tmp_path / "top.yaml"), TrainConfig), {"batch": 32})
    assert (config.head, config.epochs, config.lr, config.batch) == ("complex", 9, 1e-4, 32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", r"c\.yaml: unknown key 'epoch'; did you mean 'epochs'\?"),
        ("zzzzzz: 3", r"unknown key 'zzzzzz'; known: backbone, backbone_options, head"),
        ("epochs: 2.5", r"c\.yaml: epochs must be a whole number, not 2\.5"),
        ("epochs: true", r"epochs must be a whole number, not True"),
        ("epochs: 0", r"c\.yaml: epochs must be at least 1, got 0"),
        ("lr: fast", r"lr must be a number, not 'fast'"),
        ("lr: .nan", r"lr must be a number, not nan"),
        ("lr: 0", r"lr must be above 0, got 0"),
        ("ema: 1", r"ema must be from 0 to 0\.999999, got 1"),
        ("batch: 1", r"batch must be at least 2, got 1"),
        ("flip: 1", r"flip must be true or false, not 1"),
        ("schedule: cosin", r"schedule must be one of cosine, exponential, not 'cosin'"),
        ("methods: 3", r"methods must be a list, not 3"),
        ("hidden: [64, x]", r"hidden must be a whole number, not 'x'"),
        ("hidden: [0]", r"hidden must be widths from 1 to 65536, got \[0\]"),
        ("hidden: [65537]", r"hidden must be widths from 1 to 65536, got \[65537\]"),
        ("per_face: 10001", r"per_face must be from 1 to 10000, got 10001"),
        ("val_per_face: 10001", r"val_per_face must be from 1 to 10000, got 10001"),
        ("synthesizer_options: 3", r"synthesizer_options must be keys and values, not 3"),
        ("name: a/b", r"name becomes a file's name: .* not 'a/b'"),
        ("name: " + "a" * 201, r"name becomes a file's name: use at most 200 characters, not 201"),
        ("data: x\nfaces: [y]", r"c\.yaml: train either on a folder .* not on both"),
        ("[1, 2]", r"c\.yaml must hold keys and values, not list"),
        ("a: b: c", r"c\.yaml is not YAML: mapping values are not allowed here"),
        ("name: 2026-11-31", r"c\.yaml: day is out of range for month; a text that looks"),
        ('epochs: !!int ""', r"c\.yaml: a value is not what its tag says"),
        ("flip: !!bool maybe", r"c\.yaml: a value is not what its tag says"),
        ("name: !!timestamp x", r"c\.yaml: a value is not what its tag says"),
        ("epochs: " + "[" * 2000, r"c\.yaml is nested too deeply"),
        ("base: 3", r"c\.yaml: base must be a preset's name or a path, not 3"),
        ("base: c.yaml", r"c\.yaml is its own base"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(str(path), TrainConfig)


def test_yaml_makes_no_objects(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigError, match="is not YAML: could not determine a constructor"):
        read_config(str(path), TrainConfig)


def test_a_missing_file_and_an_unknown_preset_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*none\.yaml"):
        read_config(str(tmp_path / "none.yaml"), TrainConfig)
    with pytest.raises(UnknownNameError, match=r"no preset is called 'original_resnet43'; did you"):
        read_config("original_resnet43", TrainConfig)


def test_settings_are_yaml_values():
    assert parse_settings(["ema=0.9", "faces=[a, b]", "name=x=y"]) == {
        "ema": 0.9,
        "faces": ["a", "b"],
        "name": "x=y",
    }
    with pytest.raises(ConfigError, match=r"--set takes KEY=VALUE, such as ema=0\.999; got 'ema'"):
        parse_settings(["ema"])
    with pytest.raises(ConfigError, match=r"--set a=\[ is not YAML"):
        parse_settings(["a=["])
    with pytest.raises(ConfigError, match=r"--set name=2026-11-31: day is out of range for month"):
        parse_settings(["name=2026-11-31"])
    assert parse_settings(["name='2026-11-31'"]) == {"name": "2026-11-31"}
