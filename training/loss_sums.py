"""Weighted sums of losses, as they are written on the command line: `0.7*huber+0.3*l1`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from blurgate.errors import ConfigError, ShapeError, blamed
from blurgate.host import get_host

if TYPE_CHECKING:
    from torch import Tensor

    from blurgate.training.heads import Head, HeadKind
    from blurgate.training.interfaces import Loss

__all__ = ["WeightedSum", "check_head", "parse_loss"]

_NUMBER: Final = r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?"
_TERM: Final = re.compile(
    rf"\s*(?:(?P<weight>{_NUMBER})\s*\*\s*)?(?P<name>[a-z0-9][a-z0-9._-]*)"
    r"\s*(?:\((?P<options>[^()]*)\))?\s*"
)
_OPTION: Final = re.compile(rf"\s*(?P<key>[a-z_]+)\s*=\s*(?P<value>{_NUMBER})\s*")


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """A sum of losses over one output."""

    terms: tuple[tuple[float, Loss], ...]
    """Weights above 0 and losses, all for the same kind of head."""
    text: str
    """How it was written."""

    def __post_init__(self) -> None:
        """Refuse losses for different heads."""
        if len({loss.head for _, loss in self.terms}) != 1:
            needs = ", ".join(f"{loss} needs {loss.head}" for _, loss in self.terms)
            raise ConfigError(f"{self.text!r} adds losses for different heads: {needs}")

    @property
    def head(self) -> HeadKind:
        """The kind of head that all terms need."""
        return self.terms[0][1].head

    def __call__(self, output: Tensor, target_degree: Tensor) -> Tensor:
        """Give the weighted sum; arguments and result as for every `Loss`."""
        with blamed("loss", self.text):
            weight, loss = self.terms[0]
            total = weight * loss(output, target_degree)
            for weight, loss in self.terms[1:]:
                total = total + weight * loss(output, target_degree)
            if total.ndim:
                raise ShapeError(f"{tuple(total.shape)} and not one number for a batch")
        return total

    def __str__(self) -> str:
        return self.text


def parse_loss(text: str) -> WeightedSum:
    """Read a weighted sum of losses.

    Args:
        text: Terms `[weight*]name[(option=number, ...)]` joined by `+`.

    Raises:
        ConfigError: The text cannot be read, a weight is not above 0, a loss does not take an
            option or refuses its value, or the losses need different heads.
        UnknownNameError: There is no such loss.
        PluginError: A loss cannot be made, or says no head that there is.
        EnvironmentLackError: The `train` extra is not installed.

    >>> parse_loss("0.7*huber(delta=0.05) + 0.3*l1").terms
    ((0.7, Huber(delta=0.05)), (0.3, L1()))
    """
    registry = get_host().registry("loss")
    terms: list[tuple[float, Loss]] = []
    position = 0
    while True:
        term = _TERM.match(text, position)
        if term is None or text[term.end() : term.end() + 1] not in {"", "+"}:
            raise ConfigError(
                f"cannot read the loss {text!r} from {text[position:]!r} on; "
                "write for example 0.7*huber+0.3*l1 or huber(delta=0.05)"
            )
        weight = float(term["weight"] or 1)
        if not (weight > 0 and math.isfinite(weight)):
            raise ConfigError(f"the loss {text!r}: a weight must be above 0, got {term['weight']}")
        entry = registry[term["name"]]
        loss = entry.make(**_options(text, term["options"] or ""))
        with blamed("loss", entry.name):
            if loss.head not in ("regression", "bins"):
                raise ValueError(f"its head is {loss.head!r}, not 'regression' or 'bins'")
        terms.append((weight, loss))
        if term.end() == len(text):
            return WeightedSum(tuple(terms), text)
        position = term.end() + 1


def _options(text: str, written: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for part in written.split(",") if written.strip() else ():
        option = _OPTION.fullmatch(part)
        if option is None:
            raise ConfigError(
                f"cannot read {part.strip()!r} in the loss {text!r}; write for example delta=0.05"
            )
        if option["key"] in options:
            raise ConfigError(f"the loss {text!r} sets {option['key']} twice")
        options[option["key"]] = float(option["value"])
    return options


def check_head(loss: Loss, head: Head) -> None:
    """Refuse a loss that cannot be taken of a head's output.

    Raises:
        ConfigError: Their kinds differ.
    """
    if loss.head != head.kind:
        ways = "bins20 or bins40" if loss.head == "bins" else "regression or complex"
        raise ConfigError(f"the loss {loss} needs a {loss.head} head: use --head {ways}")
