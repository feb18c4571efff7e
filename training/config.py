"""Everything that decides what a training run gives, typed, checked, and written beside its result.

A configuration is YAML with the keys of `TrainConfig`, all optional, and `base`: a preset's name or
a path relative to the file, whose values hold where the file says nothing. The presets in
`training/presets` repeat the configurations of the original system.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from blurgate.errors import ConfigError, EnvironmentLackError, UnknownNameError, hint

__all__ = [
    "Config",
    "Identity",
    "TrainConfig",
    "check_name",
    "check_ranges",
    "fill",
    "make_config",
    "parse_settings",
    "parse_yaml",
    "preset_names",
    "read_config",
]

BASE: Final = "base"

Identity: TypeAlias = Literal["auto", "folder", "name", "file"]
"""What tells who a picture shows; see `blurgate.training.faces.list_faces`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Config:
    """What every kind of configuration can do."""

    def facts(self) -> dict[str, Any]:
        """Give the configuration as plain values, from which `fill` makes it again."""
        return {entry.name: _plain(getattr(self, entry.name)) for entry in dataclasses.fields(self)}

    def to_yaml(self) -> str:
        """Give the configuration as YAML, every key included, in their order."""
        text: str = _yaml().safe_dump(self.facts(), sort_keys=False, allow_unicode=True)
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(Config):
    """What is trained, on what, and how.

    Raises:
        ConfigError: A value is out of its range, or two contradict each other.
    """

    # The network.
    backbone: str = "mobilenetv2_0.25"
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the backbone's own."""
    head: str = "regression"
    hidden: tuple[int, ...] = ()
    """Widths of the head's hidden layers; empty: the head's own."""
    loss: str = "huber"
    """A sum such as 0.7*huber+0.3*l1."""

    # Data: a folder of `blurgate synth`, or faces that are blurred on the fly.
    data: tuple[str, ...] = ()
    """Folders; what they hold is put together."""
    methods: tuple[str, ...] = ()
    """Only these methods of the folder; empty: all."""
    faces: tuple[str, ...] = ()
    """Pictures, folders or patterns."""
    identity: Identity = "auto"
    val: float = 0.2
    """Share of the identities for validation; a folder brings its own parts."""
    align: bool = False
    """Detect and align the faces; otherwise the pictures are crops."""
    detector: str = ""
    embedder: str = ""
    size: int = 224
    one_size: bool = False
    """Bring every face to `size`, so that a GPU blurs many together."""
    synthesizer: str = "random"
    synthesizer_options: Mapping[str, Any] = field(default_factory=dict)
    iterative: int = 1
    light: Literal["linear", "srgb"] = "linear"
    noise: bool = True
    compression: bool = True
    harsh: float = 0.0
    """Share of the pictures with the noise and compression of a poor camera."""
    even: bool = False
    clean: float = 0.0
    """Share of the training pictures that show the clean face, with the degree 0."""
    per_face: int = 1
    """Pictures of every face per epoch, on the fly."""
    val_per_face: int = 1
    fresh: int = 0
    """Epochs whose pictures are new, on the fly; then these come again, in another order. 0: all
    are new."""

    # Training.
    init: tuple[str, ...] = ()
    """Checkpoints or earlier runs' folders whose weights are begun with, of several their mean;
    empty: drawn."""
    epochs: int = 50
    batch: int = 64
    """Pictures per step and process."""
    lr: float = 1e-3
    weight_decay: float = 0.01
    schedule: Literal["cosine", "exponential"] = "cosine"
    """cosine: per step, down to 0; exponential: times `decay` after every epoch."""
    decay: float = 0.95
    ema: float = 0.0
    """Decay per step of the averaged weights, which are then what is validated and exported."""
    clip: float = 0.0
    """Largest norm of the gradient; 0: not clipped."""
    flip: bool = True
    shift: int = 0
    """Move every picture by up to this many whole pixels, each way."""
    tone: float = 0.0
    """Change every picture's brightness, contrast and colours, by at most e to this power."""
    for_int8: bool = False
    """Round activations while training, as an 8-bit twin does; see `blurgate.training.rounding`."""
    freeze_norm: bool = False
    """Batch normalisation keeps its statistics, for going on from a trained model."""
    patience: int = 0
    """Stop after this many epochs without a better validation error; 0: never."""
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = 0

    # The result.
    name: str = ""
    """What the model is called; empty: as its backbone."""
    threshold: float = 0.4
    """The threshold that the card suggests."""
    licence: str = ""

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if self.data and self.faces:
            raise ConfigError(
                "train either on a folder of blurgate synth (data) or on faces that are blurred on "
                "the fly (faces), not on both"
            )
        check_ranges(self, _RANGES)
        for key in ("lr", "decay"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"{key} must be above 0, got {getattr(self, key)}")
        if any(not 1 <= width <= _WIDEST for width in self.hidden):
            raise ConfigError(f"hidden must be widths from 1 to {_WIDEST}, got {list(self.hidden)}")
        check_name(self.name)


_NAME_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
)
_WIDEST: Final = 65_536
_NAME_MOST: Final = 200
"""Of the 255 that a file system allows; `.int8.onnx.tmp` and the like come behind a name."""
_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "val": (0, 0.9),
    "size": (112, 1024),
    "iterative": (1, 100),
    "harsh": (0, 1),
    "clean": (0, 0.5),
    "per_face": (1, 10_000),
    "val_per_face": (1, 10_000),
    "fresh": (0, math.inf),
    "epochs": (1, math.inf),
    "batch": (2, math.inf),
    "weight_decay": (0, 1),
    "lr": (0, 10),
    "decay": (0, 1),
    "ema": (0, 0.999999),
    "clip": (0, math.inf),
    "shift": (0, 16),
    "tone": (0, 1),
    "patience": (0, math.inf),
    "seed": (0, 2**31 - 1),
    "threshold": (0, 1),
}


def check_ranges(config: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check that fields of a configuration lie in their ranges, ends included.

    Raises:
        ConfigError: One does not.
    """
    for key, (low, high) in ranges.items():
        if not low <= getattr(config, key) <= high:
            wanted = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ConfigError(f"{key} must be {wanted}, got {getattr(config, key)}")


def check_name(name: str) -> None:
    """Check that a model's name can be a file's name on every system.

    Raises:
        ConfigError: It cannot.
    """
    if len(name) > _NAME_MOST:  # said only now, it would end a run whose training is done
        raise ConfigError(
            f"name becomes a file's name: use at most {_NAME_MOST} characters, not {len(name)}"
        )
    if not set(name) <= _NAME_CHARACTERS or name.startswith("."):
        raise ConfigError(
            f"name becomes a file's name: use letters, digits, '.', '_' and '-', not {name!r}"
        )


def make_config(*layers: Mapping[str, Any]) -> TrainConfig:
    """Make a configuration of plain values; see `fill`.

    >>> make_config({"epochs": 3}, {"lr": "1e-4"}).lr
    0.0001
    """
    return fill(TrainConfig, layers, "the configuration")


def fill(kind: type[T], layers: Iterable[Mapping[str, Any]], where: str) -> T:
    """Make a configuration of some kind of plain values; later layers win.

    Args:
        kind: A dataclass all of whose fields have defaults.
        layers: Key -> value, as YAML or JSON gives them. `outer.inner` is one key of a mapping,
            whose others stay as they are.
        where: Where they stand, for messages.

    Raises:
        ConfigError: A key is unknown (the nearest known one is named) or a value is wrong.

    >>> layers = [{"synthesizer_options": {"blades": [0]}}, {"synthesizer_options.max_radius": 9}]
    >>> fill(TrainConfig, layers, "here").synthesizer_options
    {'blades': [0], 'max_radius': 9}
    """
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            key, dot, inner = str(name).partition(".")
            if key not in hints:
                raise ConfigError(f"{where}: unknown key {key!r}; {hint(key, hints)}")
            if dot:
                mapping = values.get(key, {})
                if not isinstance(mapping, Mapping):
                    raise ConfigError(f"{where}: {name}: {key} is {mapping!r}")
                value = {**mapping, inner: value}
            values[key] = _value(key, value, hints[key], where)
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def read_config(source: str, kind: type[Any] = TrainConfig) -> dict[str, Any]:
    """Read a configuration file or preset.

    Args:
        source: A path (it ends with .yaml or .yml, or holds a separator), or a preset's name.
        kind: The dataclass whose keys it holds.

    Returns:
        Key -> value, those of its bases included, checked one by one.

    Raises:
        UnknownNameError: There is no such preset.
        ConfigError: The file cannot be read, is not YAML, or holds unknown keys or wrong values.
        EnvironmentLackError: PyYAML is not installed.
    """
    return _read(source, Path(), (), kind)


def _read(source: str, folder: Path, seen: tuple[str, ...], kind: type[Any]) -> dict[str, Any]:
    if source.endswith((".yaml", ".yml")) or "/" in source or "\\" in source:
        path = folder / source
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the configuration {path}: {error}") from error
        where, folder = str(path), path.parent
    else:
        if source not in preset_names():
            raise UnknownNameError("preset", source, preset_names())
        text = (_presets() / f"{source}.yaml").read_text(encoding="utf-8")
        where = f"the preset {source}"
    if where in seen:
        raise ConfigError(f"{where} is its own base")
    facts = parse_yaml(text, where)
    base = facts.pop(BASE, None)
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"{where}: base must be a preset's name or a path, not {base!r}")
    fill(kind, [facts], where)
    below = _read(base, folder, (*seen, where), kind) if base else {}
    # A mapping that the file gives whole leaves nothing of what the bases say of its keys.
    kept = {key: value for key, value in below.items() if key.partition(".")[0] not in facts}
    return {**kept, **facts}


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Read keys and values.

    Args:
        text: The YAML.
        where: Where it stands, for messages.

    Raises:
        ConfigError: It is not YAML, no keys and values, or holds a date that does not exist.
    """
    yaml = _yaml()
    try:
        facts = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{where} is not YAML: {line}") from error
    except ValueError as error:  # a date or a number that is none, such as 2026-11-31
        raise ConfigError(
            f"{where}: {error}; a text that looks like a date or a number goes in quotation marks"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{where} is nested too deeply") from error
    if facts is None:
        return {}
    if not isinstance(facts, dict):
        raise ConfigError(f"{where} must hold keys and values, not {type(facts).__name__}")
    return facts


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Read `key=value` texts, the values as YAML.

    Raises:
        ConfigError: A text has no `=`, or its value is not YAML.

    >>> parse_settings(["ema=0.999", "methods=[linear]", "backbone_options.width=0.35"])
    {'ema': 0.999, 'methods': ['linear'], 'backbone_options.width': 0.35}
    """
    out: dict[str, Any] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign:
            raise ConfigError(f"--set takes KEY=VALUE, such as ema=0.999; got {setting!r}")
        out[key.strip()] = parse_yaml(f"value: {value}", f"--set {setting}").get("value")
    return out


def preset_names() -> list[str]:
    """List the presets."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in _presets().iterdir()
        if entry.name.endswith(".yaml")
    )


def _presets() -> Any:
    return resources.files("blurgate.training") / "presets"


def _value(key: str, value: Any, kind: Any, where: str) -> Any:
    """Check one value; gives it in the type of its field."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        wanted = f"one of {', '.join(arguments)}"
        if isinstance(value, str) and value in arguments:
            return value
    elif origin is tuple:
        wanted = "a list"
        if isinstance(value, str) and arguments[0] is str:
            return (value,)  # one folder, one method: no need for a list
        if isinstance(value, list | tuple):
            return tuple(_value(key, entry, arguments[0], where) for entry in value)
    elif kind is float:
        wanted = "a number"
        number = _number(value)
        if number is not None:
            return number
    elif kind is int:
        wanted = "a whole number"
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind in (bool, str):
        wanted = "true or false" if kind is bool else "a text"
        if isinstance(value, kind):
            return value
    else:
        wanted = "keys and values"
        if isinstance(value, Mapping):
            return dict(value)
    raise ConfigError(f"{where}: {key} must be {wanted}, not {value!r}")


def _number(value: Any) -> float | None:
    """Give a finite number as float; YAML 1.1 reads 1e-3, without a dot, as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _plain(value: Any) -> Any:
    """Give a field's value as YAML and JSON know it: tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _yaml() -> Any:
    try:
        import yaml  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise EnvironmentLackError(
            "a configuration needs PyYAML, which is not installed; run: pip install "
            '"blurgate[train]"'
        ) from error
    return yaml
