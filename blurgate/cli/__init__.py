"""The command line: makes the application out of plugins, and ends it properly."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import logging
import os
import signal
import sys
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

from blurgate.errors import NO_ROOM, BlurgateError, is_no_memory

if TYPE_CHECKING:
    from types import FrameType

    import typer

EXIT_OK = 0
EXIT_DEFECT = 1
EXIT_NOTHING = 3
EXIT_SOME_FAILED = 4
EXIT_ENVIRONMENT = 5
EXIT_INTERRUPTED = 130
EXIT_NO_READER = 141

_NO_MEMORY = (
    "out of memory; use fewer --workers, a smaller --det-size or --batch, or smaller pictures"
)


def make_app() -> typer.Typer:
    """Build the application from what the plugins register."""
    import typer

    from blurgate.host import get_host

    app = typer.Typer(
        name="blurgate",
        help="Keep the faces that a recogniser can use.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(value: bool) -> None:
        if value:
            from importlib.metadata import version

            typer.echo(f"blurgate {version('blurgate')}")
            raise typer.Exit

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Print the version."
        ),
        verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what happens to stderr."),
    ) -> None:
        del version
        # A damaged picture is told of in our own words; Pillow's remarks on its tags help nobody.
        warnings.filterwarnings("ignore", module="PIL")
        handler = logging.StreamHandler(sys.stderr)
        if not verbose:  # our warnings say what was left out; those of libraries help nobody
            handler.addFilter(lambda r: r.levelno >= logging.ERROR or r.name.startswith("blurgate"))
        level = logging.INFO if verbose else logging.WARNING
        logging.basicConfig(level=level, handlers=[handler], format="%(name)s: %(message)s")

    get_host().register_commands(app)
    return app


def program() -> NoReturn:
    """Run the command line as a process of its own.

    A camera that keeps silent holds up the thread that reads it (`blurgate.pipeline.newest`), in
    FFmpeg. If FFmpeg lets go of it while the interpreter ends, the process dies of a bad address
    and not with its exit code; so it does if Ctrl-C came while a library started threads of its
    own. So the end of the interpreter is left out then; all is written by now.
    """
    # At its end Python looks for cycles in all that is still there, which goes with the process.
    atexit.register(gc.freeze)
    try:
        main()
    except SystemExit as end:
        ours = (one for one in threading.enumerate() if one.name.startswith("blurgate-"))
        is_held_up = any(one.daemon for one in ours)
        if not isinstance(end.code, int) or not (is_held_up or end.code == EXIT_INTERRUPTED):
            raise
        if not is_held_up:
            atexit._run_exitfuncs()  # as in a process of `multiprocessing`, which ends likewise
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, or there is none
                stream.flush()
        os._exit(end.code)


def main() -> NoReturn:
    """Run the command line; every error of ours becomes one line and a documented exit code."""
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        _mend_streams()
        # On Windows typer would resolve patterns before the commands do, and otherwise: it takes
        # clip1.mp4 for a clip[1].mp4 that is there, and what is below photos/** several times.
        make_app()(windows_expand_args=False)
    except SystemExit as end:
        # Like `head`, the reader of stdout has enough; typer has made a 1 of that.
        if isinstance(end.__context__, BrokenPipeError):
            _drop_unwritten()
            sys.exit(EXIT_NO_READER)
        raise
    except KeyboardInterrupt:  # of the start; typer has seen to that of a command
        sys.exit(EXIT_INTERRUPTED)
    except BlurgateError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        _drop_unwritten()
        if _has_left(error):
            sys.exit(EXIT_NO_READER)
        # Disk full, no permission: the machine lacks something that only its user can give.
        full = error.errno in NO_ROOM
        way_out = "; make room, then run it again, with --resume where it can go on"
        fail(f"{error}{way_out if full else ''}", EXIT_ENVIRONMENT)
    except ImportError as error:
        # A library of the system, such as libGL, or a package that is broken.
        logging.getLogger(__name__).info("where it happened", exc_info=True)
        fail(f"{error}; `blurgate doctor` says what is missing", EXIT_ENVIRONMENT)
    except Exception as error:
        if is_no_memory(error):
            fail(_NO_MEMORY, EXIT_ENVIRONMENT)
        logging.getLogger(__name__).info("where it happened", exc_info=True)
        fail(
            f"{type(error).__name__}: {error}; this is a defect of blurgate or of a plugin: "
            "`blurgate -v ...` shows where",
            EXIT_DEFECT,
        )
    sys.exit(EXIT_OK)


class _Stderr:
    """Lets a run go on where stderr is full, or nobody reads it: what is said there is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Bring out what can be brought out."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _mend_streams() -> None:
    """Open what the caller has closed: a file would take its number, and get what is printed.

    On Windows a pipe is read and written in a code page that lacks most letters.
    """
    if sys.stdin is None:
        sys.stdin = _null(os.O_RDONLY, "r")
    if sys.stdout is None:
        sys.stdout = _null(os.O_RDONLY, "w")  # takes nothing: a table must not go nowhere unsaid
    if sys.stderr is None:
        sys.stderr = _null(os.O_WRONLY, "w")
    sys.stderr = cast(TextIO, _Stderr(sys.stderr))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: names hold all letters
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Names of files may be any bytes, and are UTF-8 on Windows too, as `report` saves them.
        sys.stdin.reconfigure(encoding=sys.getfilesystemencoding(), errors="surrogateescape")


def _null(access: int, mode: str) -> TextIO:
    return cast(TextIO, os.fdopen(os.open(os.devnull, access), mode))


def _has_left(error: OSError) -> bool:
    """Tell on Windows whether the reader of stdout has left: its C library has no EPIPE for that.

    Errors of Windows itself have a `winerror`, and those of files name them.
    """
    of_stdout = error.filename in (None, "stdout") and getattr(error, "winerror", None) is None
    return sys.platform == "win32" and error.errno == errno.EINVAL and of_stdout


def _drop_unwritten() -> None:
    """Forget what stdout did not take: Python would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    """End on SIGTERM as on Ctrl-C: outputs are completed, the exit code says interrupted."""
    raise KeyboardInterrupt


def warn(message: str) -> None:
    """Print one line to stderr; whatever the message holds, it stays one line."""
    line = " ".join(message.split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    sys.stderr.write(f"blurgate: {line}\n")


def fail(message: str, code: int) -> NoReturn:
    """Print one line to stderr and leave."""
    warn(f"error: {message}")
    sys.exit(code)
