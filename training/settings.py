"""Configurations of any kind: plain values, from YAML and the command line, checked by a dataclass.

A configuration is YAML with the keys of a dataclass such as `blurgate.training.config.TrainConfig`,
all optional, and `base`: a preset's name or a path relative to the file, whose values hold where
the file says nothing. The presets in `training/presets` repeat the configurations of the original
system.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

from blurgate.errors import ConfigError, EnvironmentLackError, UnknownNameError, hint

__all__ = [
    "Config",
    "check_name",
    "check_ranges",
    "fill",
    "parse_settings",
    "parse_yaml",
    "preset_names",
    "read_config",
]

BASE: Final = "base"

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


_NAME_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
)
_NAME_MOST: Final = 200
"""Of the 255 that a file system allows; `.int8.onnx.tmp` and the like come behind a name."""


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


def fill(kind: type[T], layers: Iterable[Mapping[str, Any]], where: str) -> T:
    """Make a configuration of some kind of plain values; later layers win.

    Args:
        kind: A dataclass all of whose fields have defaults.
        layers: Key -> value, as YAML or JSON gives them. `outer.inner` is one key of a mapping,
            whose others stay as they are.
        where: Where they stand, for messages.

    Raises:
        ConfigError: A key is unknown (the nearest known one is named) or a value is wrong.

    >>> from blurgate.training.config import TrainConfig
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


def read_config(source: str, kind: type[Any]) -> dict[str, Any]:
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
        ConfigError: It is not YAML, no keys and values, or holds a date that does not exist or a
            value that its tag does not fit.
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
    except (LookupError, AttributeError) as error:  # what PyYAML makes of `!!int ""`, `!!bool x`
        raise ConfigError(
            f"{where}: a value is not what its tag says, as in !!int or !!bool; leave the tag out"
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
