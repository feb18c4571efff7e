"""What the contracts share: looking plugins up, pictures to try them on, comparing."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import threading
import time
import unittest
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from blurgate.errors import BlurgateError
from blurgate.host import get_host
from blurgate.interfaces import ModelInfo, Runtime
from blurgate.testing import ContractError
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blurgate.interfaces import ModelFile
    from blurgate.types import U8

T = TypeVar("T")

_THREADS = 4
_LEAST_CALLS, _MOST_CALLS = 3, 200  # of each thread
_SECONDS = 0.2
_TOLERANCE = 1e-4


class ModelSubject:
    """A model to check: a registered name or a factory, and what to make it with."""

    kind: ClassVar[str]
    more: ClassVar[tuple[Any, ...]] = ()
    """What the factories of the kind take besides."""
    gives: ClassVar[str]
    """What is given of crops, one row for each."""

    def __init__(
        self, plugin: Any, *, model: ModelFile | None = None, runtime: Runtime | None = None
    ) -> None:
        self.plugin, self.model, self.runtime = plugin, model, runtime or Runtime("cpu")

    @cached_property
    def made(self) -> Any:
        """The model."""
        return factory_of(self.kind, self.plugin)(self.model, self.runtime, *self.more)


class FactorySubject:
    """A factory of training to check, by itself or by its registered name, and its arguments."""

    kind: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    """What every check needs."""

    def __init__(self, plugin: Any, *, options: dict[str, Any] | None = None) -> None:
        self.plugin, self.options = plugin, options or {}

    def make(self) -> Any:
        """Make what the factory makes."""
        return factory_of(self.kind, self.plugin)(**self.options)


def takes_keywords_only(subject: FactorySubject) -> None:
    """The factory's arguments are keyword-only; one that it does not know is a TypeError."""
    factory = factory_of(subject.kind, subject.plugin)
    kinds = {p.kind for p in inspect.signature(factory).parameters.values()}
    allowed = {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
    require(kinds <= allowed, f"arguments must be keyword-only: {inspect.signature(factory)}")
    with refused("an option that does not exist", TypeError):
        factory(**subject.options, no_factory_has_this=1)


def factory_of(kind: str, plugin: Any) -> Callable[..., Any]:
    """Give a plugin's factory: its own, or that of a registered name."""
    if not isinstance(plugin, str):
        return plugin  # type: ignore[no-any-return]
    factory: Callable[..., Any] = get_host().registry(kind)[plugin].factory
    return factory


def require(holds: object, message: str) -> None:
    """Raise `ContractError` unless something holds."""
    if not holds:
        raise ContractError(message)


def need(*modules: str) -> None:
    """Skip a check unless packages are installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise unittest.SkipTest(f"this check needs {module}, which is not installed")


@contextmanager
def refused(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Require that a block raises one of some errors, with a message."""
    wanted = " or ".join(error.__name__ for error in errors)
    try:
        yield
    except errors as error:
        require(str(error).strip(), f"{what}: {type(error).__name__} has no message")
    except Exception as error:
        raise ContractError(f"{what} must raise {wanted}; it raised {error!r}") from error
    else:
        raise ContractError(f"{what} must raise {wanted}; it raised nothing")


def noisy_patches(n: int, side: int = CROP_SIZE, seed: int = 0) -> U8:
    """Draw (n, side, side, 3) uint8: patches of colour under noise, of another fineness each."""
    rng = np.random.default_rng(seed)
    out = np.empty((n, side, side, 3), np.uint8)
    for i, picture in enumerate(out):
        cells = (2, 4, 7, 14, 28)[i % 5]
        coarse = rng.uniform(30, 225, (cells, cells, 3))
        grid = np.arange(side) * cells // side
        noise = rng.normal(0, 2 + 4 * (i % 3), (side, side, 3))
        picture[:] = (coarse[grid][:, grid] + noise).clip(0, 255)
    return out


def check_info(model: Any) -> None:
    """Require a `ModelInfo` with a name and a checksum or none."""
    info = getattr(model, "info", None)
    require(isinstance(info, ModelInfo), f"`info` must be a ModelInfo, got {info!r}")
    assert isinstance(info, ModelInfo)
    require(info.name, "`info.name` is empty")
    digits = info.sha256
    fits = not digits or (len(digits) == 64 and set(digits) <= set("0123456789abcdef"))
    require(fits, f"`info.sha256` must be empty or 64 hex digits, got {digits!r}")


def says_who_it_is(subject: ModelSubject) -> None:
    """`info` is a ModelInfo."""
    check_info(subject.made)


def check_array(what: str, got: Any, shape: tuple[int, ...], dtype: str = "float32") -> None:
    """Require a NumPy array of a shape and dtype, all finite; -1 stands for any length."""
    require(isinstance(got, np.ndarray), f"{what} must be a NumPy array, got {type(got).__name__}")
    fits = len(got.shape) == len(shape) and all(
        want in (-1, have) for want, have in zip(shape, got.shape, strict=True)
    )
    require(
        fits and str(got.dtype) == dtype,
        f"{what} must be {dtype} of {shape}, got {got.dtype} of {got.shape}",
    )
    require(np.isfinite(got).all(), f"{what} holds values that are not finite")


def same(what: str, got: Any, wanted: Any, tolerance: float) -> None:
    """Require that two arrays agree."""
    require(got.shape == wanted.shape, f"{what}: shapes {got.shape} and {wanted.shape}")
    worst = float(np.abs(np.subtract(got, wanted, dtype=np.float64)).max(initial=0))
    require(
        worst <= tolerance, f"{what}: they differ by up to {worst:.3g}, {tolerance:g} is allowed"
    )


def in_threads(call: Callable[[Any], T], given: Sequence[Any]) -> list[tuple[T, T]]:
    """Call something from several threads at the same moment; an error is raised again.

    Args:
        call: What is called.
        given: What each thread calls it with. What is another for each finds state that they share.

    Returns:
        What came, and what comes of the same alone.
    """
    alone = [call(one) for one in given]
    results: list[tuple[T, T]] = []
    errors: list[BaseException] = []
    gate = threading.Barrier(len(given))

    def work(one: Any, wanted: T) -> None:
        try:
            gate.wait()
            end = time.monotonic() + _SECONDS  # quick calls would be over before others begin
            for n in range(_MOST_CALLS):
                if n >= _LEAST_CALLS and time.monotonic() > end:
                    break
                results.append((call(one), wanted))
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=pair, daemon=True)
        for pair in zip(given, alone, strict=True)
    ]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places in the midst of short calls too
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise ContractError(f"calling it from {len(given)} threads at once failed: {errors[0]!r}")
    return results


def rotations(items: Any) -> list[Any]:
    """Give as many orders of some crops or frames as there are threads."""
    if isinstance(items, np.ndarray):
        return [np.roll(items, k, axis=0) for k in range(_THREADS)]
    return [[*items[k % len(items) :], *items[: k % len(items)]] for k in range(_THREADS)]


def batch_of_one_equals_batch_of_many(subject: ModelSubject) -> None:
    """What is given of a crop does not depend on its batch, nor on how the array lies in memory."""
    name, call = subject.gives, subject.made
    crops = noisy_patches(7)
    crops.setflags(write=False)
    many = call(crops)
    alone = np.concatenate([call(crops[i : i + 1]) for i in range(len(crops))])
    same(f"{name} of a batch of one and of many", alone, many, _TOLERANCE)
    views = {
        "every other crop of an array": (crops[::2], many[::2]),
        "crops in reverse": (crops[::-1], many[::-1]),
        "crops cut out of larger pictures": (
            np.pad(crops, ((0, 0), (5, 5), (5, 5), (0, 0)))[:, 5:-5, 5:-5],
            many,
        ),
    }
    for what, (view, wanted) in views.items():
        same(f"{name} of {what} (a view that is not contiguous)", call(view), wanted, _TOLERANCE)


def repeats_itself_also_in_threads(subject: ModelSubject) -> None:
    """The same crops give the same numbers, also from several threads, and stay as they are."""
    name, call = subject.gives, subject.made
    crops = noisy_patches(6, seed=1)
    before = crops.copy()
    wanted = call(crops)
    same(f"{name} of the same crops, the second time", call(crops), wanted, 0)
    for got, wanted in in_threads(call, rotations(crops)):
        same(f"{name} in several threads at once (keep nothing in the object)", got, wanted, 1e-6)
    require(np.array_equal(crops, before), f"taking {name} changed the crops")


def refuses_what_are_no_crops(subject: ModelSubject) -> None:
    """Arrays of another shape or dtype raise a `BlurgateError`, such as `ShapeError`."""
    crops: U8 = noisy_patches(2)
    wrong: Mapping[str, Any] = {
        "one crop without a batch": crops[0],
        "crops of 100 px": crops[:, :100, :100],
        "grey crops": crops[..., 0],
        "float crops": crops.astype(np.float32),
    }
    for what, value in wrong.items():
        with refused(what, BlurgateError):
            subject.made(value)
