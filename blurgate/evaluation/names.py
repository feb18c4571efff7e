"""What models are called side by side: their own names, or names that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from blurgate.errors import ConfigError
from blurgate.interfaces import ModelInfo

if TYPE_CHECKING:
    from blurgate.interfaces import Scorer

COLUMNS: Final[Mapping[str, type]] = {
    "file": str,
    "identity": str,
    "family": str,
    "held_out": int,
    "side_px": float,
    "label": float,
    "label_judge": float,
}
"""Columns of the table of pictures, beside those of the groups and of the models."""


def distinct_names(models: Sequence[ModelInfo]) -> list[str]:
    """Give models names that differ: their own, with a piece of the checksum where two are alike.

    Raises:
        ConfigError: A model is named twice.

    >>> distinct_names([ModelInfo("a", "12" * 32), ModelInfo("a", "34" * 32), ModelInfo("b", "")])
    ['a@121212', 'a@343434', 'b']
    """
    own = [info.name for info in models]
    out: list[str] = []
    for info in models:
        full = f"{info.name}@{info.sha256[:6]}" if own.count(info.name) > 1 else info.name
        if full in out:
            raise ConfigError(f"the model {info.name} is named twice")
        out.append(full)
    return out


def name_models(scorers: Sequence[Scorer]) -> dict[str, Scorer]:
    """Give scorers their `distinct_names`.

    Raises:
        ConfigError: A model is named twice, or like a column that the tables have anyway.
    """
    names = distinct_names([scorer.info for scorer in scorers])
    for name in names:
        if name in COLUMNS or name == "group" or name.startswith("group_"):
            raise ConfigError(f"a model cannot be called {name}, as a column is; rename its file")
    return dict(zip(names, scorers, strict=True))
