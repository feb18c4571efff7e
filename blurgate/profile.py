"""Profiles: the thresholds that `blurgate calibrate` chose, for `blurgate filter --profile`.

A profile is a JSON object. It belongs to one scorer, whose name and SHA-256 it holds, and is
refused for any other: blur degrees of two models are not on one scale. A key that is unknown or has
a wrong value is an error, as in model cards.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, NoReturn

from blurgate.errors import ConfigError, InputError, hint
from blurgate.files import write_json
from blurgate.interfaces import ModelInfo
from blurgate.io.text import reason

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Profile:
    """A checked profile."""

    model: ModelInfo
    """The scorer that the threshold is for."""
    threshold: float
    """The blur degree above which a face is rejected, in [0, 1]."""
    ci: tuple[float, float]
    """The threshold's confidence interval."""
    target: Mapping[str, Any]
    """What was asked for: `kind`, and numbers that depend on it."""
    schema: int = SCHEMA
    confidence: float = 0.95
    review: float | None = None
    """Width for `--review`; None: not part of the profile."""
    min_face: float | None = None
    """Pixels for `--min-face`; None: not part of the profile."""
    reached: Mapping[str, Any] = field(default_factory=dict)
    """What the threshold does on the material that it was chosen on."""
    n: Mapping[str, int] = field(default_factory=dict)
    """How many faces, identities, comparisons and replicates it was chosen on."""
    embedder: ModelInfo | None = None
    """The recogniser of targets that need one."""
    material: Mapping[str, Any] = field(default_factory=dict)
    """Where the faces and comparisons came from, and what was done to them."""
    seed: int = 0
    version: str = ""
    """The blurgate that wrote it."""
    created: str = ""
    """When, as ISO 8601."""

    def facts(self) -> dict[str, Any]:
        """Give the profile as JSON would."""
        facts = asdict(self)
        return {"schema": facts.pop("schema"), **facts}

    def over(
        self, threshold: float | None, review: float | None, min_face: float | None, where: str
    ) -> tuple[float, float | None, float | None]:
        """Fill in what a user left open.

        Raises:
            ConfigError: The user gave a threshold too.
        """
        if threshold is not None:
            raise ConfigError(
                f"the profile {where} gives a threshold, and so does --threshold; name one"
            )
        return (
            self.threshold,
            self.review if review is None else review,
            self.min_face if min_face is None else min_face,
        )

    def check_model(self, info: ModelInfo, where: str) -> None:
        """Refuse a scorer that the profile is not for.

        Files are told apart by their SHA-256, whatever their names; models without a file by name.

        Raises:
            ConfigError: It is another one.
        """
        if self.model.sha256:
            same = self.model.sha256 == info.sha256
        else:
            same = not info.sha256 and self.model.name == info.name
        if not same:
            raise ConfigError(
                f"the profile {where} was made for the model {self.model}, and this run uses "
                f"{info}; choose that model with --model, or make a "
                "profile for this one with: blurgate calibrate"
            )


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile; the file is there whole or not at all."""
    write_json(path, profile.facts())


def read_profile(path: Path) -> Profile:
    """Read and check a profile.

    Raises:
        InputError: The file cannot be read.
        ConfigError: It is no profile, has another schema, an unknown key (the nearest known one is
            named) or a wrong value.
    """
    facts = _facts(path)
    if facts["schema"] != SCHEMA or isinstance(facts["schema"], bool):
        raise ConfigError(
            f"the profile {path} has the schema {facts['schema']!r}, and this blurgate reads "
            f"{SCHEMA}; make it again with: blurgate calibrate"
        )
    return _checked(facts, str(path))


def check_replaceable(path: Path) -> None:
    """Refuse to write a profile over a file that is none; one of another schema may go.

    Raises:
        ConfigError: The file is no profile.
    """
    try:
        _facts(path)
    except (InputError, ConfigError) as error:
        raise ConfigError(f"{error}; choose another --out") from error


def _facts(path: Path) -> dict[str, Any]:
    """What a profile of any schema holds."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the profile {path}: {reason(error)}", source=str(path)
        ) from error
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the profile {path} is not JSON: {reason(error)}") from error
    if not isinstance(facts, dict) or "schema" not in facts:
        raise ConfigError(f"{path} is not a profile of blurgate calibrate: it has no 'schema'")
    return facts


def _checked(facts: Mapping[str, Any], where: str) -> Profile:
    known = [entry.name for entry in fields(Profile)]
    for key in facts:
        if key not in known:
            raise ConfigError(f"the profile {where} has an unknown key {key!r}; {hint(key, known)}")
    for key in ("model", "threshold", "ci", "target"):
        if key not in facts:
            raise ConfigError(f"the profile {where} has no {key!r}")
    values = dict(facts)
    values["model"] = _who(facts["model"], "model", where)
    if facts.get("embedder") is not None:
        values["embedder"] = _who(facts["embedder"], "embedder", where)
    values["threshold"] = _number(facts["threshold"], "threshold", 0, 1, where)
    ci = facts["ci"]
    if not isinstance(ci, list) or len(ci) != 2:
        _fail("ci", ci, "two numbers", where)
    values["ci"] = tuple(_number(end, "ci", 0, 1, where) for end in ci)
    for key, high in (("confidence", 1), ("review", 1), ("min_face", math.inf)):
        if facts.get(key) is not None:
            values[key] = _number(facts[key], key, 0, high, where)
    for key in ("target", "reached", "n", "material"):
        if not isinstance(facts.get(key, {}), dict):
            _fail(key, facts[key], "an object", where)
    for key in ("version", "created"):
        if not isinstance(facts.get(key, ""), str):
            _fail(key, facts[key], "a text", where)
    if not isinstance(facts.get("seed", 0), int):
        _fail("seed", facts["seed"], "a whole number", where)
    return Profile(**values)


def _who(value: object, key: str, where: str) -> ModelInfo:
    if (
        not isinstance(value, dict)
        or not {"name"} <= value.keys() <= {"name", "sha256"}
        or not all(isinstance(text, str) for text in value.values())
    ):
        _fail(key, value, 'an object {"name": ..., "sha256": ...}', where)
    return ModelInfo(**{"sha256": "", **value})


def _number(value: object, key: str, low: float, high: float, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        span = f"[{low:g}, {high:g}]" if high < math.inf else f"{low:g} or more"
        _fail(key, value, f"a number in {span}", where)
    if not abs(value) <= sys.float_info.max:  # an integer may be too large for math.isfinite
        _fail(key, value, "a finite number", where)
    return float(value)


def _fail(key: str, value: object, wanted: str, where: str) -> NoReturn:
    got = json.dumps(value, default=repr)
    raise ConfigError(f"the profile {where}: {key} must be {wanted}, not {got}")
