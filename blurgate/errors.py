"""Every error that blurgate raises on purpose.

    BlurgateError
    ├── InputError            (ValueError)    what the user gave cannot be used
    │   ├── DecodeError                       a file, stream or frame cannot be decoded
    │   └── ShapeError                        an array has the wrong shape, dtype or range
    ├── ConfigError           (ValueError)    options that contradict each other or what is on disk
    ├── PluginError           (RuntimeError)  a plugin is broken
    │   ├── UnknownNameError  (LookupError)   no plugin or model has that name
    │   └── DuplicateNameError                two plugins claim one name
    ├── ModelError            (RuntimeError)  a model cannot be loaded or run
    │   ├── WeightsError                      the file is not a usable model
    │   ├── ChecksumError                     the file is not the one that was promised
    │   └── MissingModelError (LookupError)   the model is known and not on this machine
    └── EnvironmentLackError  (RuntimeError)  a package or device that is needed is missing

Messages say what to do next; the facts are attributes too. Only the command line turns an error
into one line and an exit code (`exit_code`, listed in docs/cli.md).
"""

from __future__ import annotations

import difflib
import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

__all__ = [
    "BlurgateError",
    "ChecksumError",
    "ConfigError",
    "DecodeError",
    "DuplicateNameError",
    "EnvironmentLackError",
    "InputError",
    "MissingModelError",
    "ModelError",
    "PluginError",
    "ShapeError",
    "UnknownNameError",
    "WeightsError",
]

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
"""What the system calls a full disk."""
_NO_MEMORY: Final = (
    "can't start new thread",  # for want of memory, says pthread_create(3)
    "can't allocate memory",  # torch, on a CPU
    "CUDA error: out of memory",
    "Insufficient memory",  # OpenCV
    "Maximum allowed dimension exceeded",  # NumPy, of an array that no machine could hold
    "array is too big",
)


class BlurgateError(Exception):
    """Base of every error that blurgate raises on purpose."""

    exit_code: ClassVar[int] = 2


class InputError(BlurgateError, ValueError):
    """What the user gave cannot be used.

    Attributes:
        source: The file, address or argument at fault; empty when there is none.
    """

    exit_code = 3

    def __init__(self, message: str, *, source: str = "") -> None:
        super().__init__(message)
        self.source = source


class DecodeError(InputError):
    """A file, stream or frame cannot be decoded."""


class ShapeError(InputError):
    """An array has the wrong shape, dtype or range."""


class ConfigError(BlurgateError, ValueError):
    """Options that contradict each other, or the files that an earlier run left."""


class PluginError(BlurgateError, RuntimeError):
    """A plugin is broken.

    Attributes:
        plugin: The distribution or module that is at fault; empty when unknown.
    """

    exit_code = 5

    def __init__(self, message: str, *, plugin: str = "") -> None:
        super().__init__(message)
        self.plugin = plugin


class UnknownNameError(PluginError, LookupError):
    """No plugin or model has that name.

    Attributes:
        kind: What was looked for, such as "detector".
        name: The name that nobody has.
        near: Names that are close to it.
    """

    exit_code = 2

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        self.kind = kind
        self.name = name
        self.near = _near(name, names, n=3)
        super().__init__(f"no {kind} is called {name!r}; {hint(name, names, n=3)}")


class DuplicateNameError(PluginError):
    """Two plugins claim one name."""


class ModelError(BlurgateError, RuntimeError):
    """A model cannot be loaded or run.

    Attributes:
        path: The model file; empty when there is none.
    """

    exit_code = 5

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class WeightsError(ModelError):
    """The file is not a model that can be used here."""


class ChecksumError(ModelError):
    """The file is not the one that was promised: its SHA-256 differs."""


class MissingModelError(ModelError, LookupError):
    """The model is known, but its file is not on this machine."""


class EnvironmentLackError(BlurgateError, RuntimeError):
    """A package or device is missing; the message holds the command that mends it."""

    exit_code = 5


def hint(name: str, known: Collection[str], n: int = 1) -> str:
    """Say which names were perhaps meant by an unknown one, n at most, or else which there are.

    >>> hint("treshold", ["threshold", "name"]), hint("x", ["threshold", "name"])
    ("did you mean 'threshold'?", 'known: threshold, name')
    """
    near = _near(name, known, n)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known: {', '.join(known) or 'none'}"


def _near(name: str, known: Collection[str], n: int) -> tuple[str, ...]:
    return tuple(difflib.get_close_matches(name, known, n=n, cutoff=0.5))


def is_no_memory(error: BaseException) -> bool:
    """Say whether the machine or its GPU has no memory left: libraries have no type for it.

    >>> is_no_memory(RuntimeError("can't start new thread"))
    True
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    return any(said in str(error) for said in _NO_MEMORY)


@contextmanager
def blamed(kind: str, name: str) -> Iterator[None]:
    """Turn what a plugin's code raises into a `PluginError` that names the plugin.

    Left alone are errors that already say what is wrong, and those of the machine: no memory, no
    room on the disk.

    >>> with blamed("detector", "mine"):
    ...     [][0]
    Traceback (most recent call last):
        ...
    blurgate.errors.PluginError: the detector mine failed: IndexError: list index out of range
    """
    try:
        yield
    except ShapeError as error:
        message = f"the {kind} {name} gave something impossible: {error}"
        raise PluginError(message, plugin=name) from error
    except BlurgateError:
        raise
    except (Exception, SystemExit) as error:
        if is_no_memory(error) or (isinstance(error, OSError) and error.errno in NO_ROOM):
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"the {kind} {name} failed: {what}", plugin=name) from error


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Let what the system says of writing name the file: by itself it does so for opening only.

    >>> with naming("a.csv"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
        ...
    OSError: [Errno 28] No space left on device: 'a.csv'
    """
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise
