"""Files behind fsspec addresses: s3://, gs://, hdfs://, memory://, file:// and what else it knows.

fsspec (the `remote` extra) and the package of a protocol are imported when an address is met.
Network streams (http, https, rtsp and the like) are none of these: they stay with FFmpeg.
Credentials and endpoints come from fsspec's own configuration and the environment, never from an
address, because addresses stand in tables.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from blurgate.errors import DecodeError, EnvironmentLackError, InputError
from blurgate.io.address import ADDRESS, NETWORK, holds_secret
from blurgate.io.text import reason, shown

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 1 << 30
"""The largest picture file that is fetched."""
_PACKAGES: Final = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hdfs": "pyarrow",
    "abfs": "adlfs", "az": "adlfs", "sftp": "paramiko", "ssh": "paramiko",
}  # fmt: skip


def is_remote(name: str) -> bool:
    """Tell whether a name is an fsspec address; looks at the name only.

    >>> is_remote("s3://bucket/a.jpg"), is_remote("rtsp://door/1"), is_remote("a/b.jpg")
    (True, False, False)
    """
    return ADDRESS.match(name) is not None and NETWORK.match(name) is None


def filesystem(address: str) -> tuple[Any, str]:
    """Give the file system of an address, and the path in it.

    fsspec keeps one object per protocol and configuration, so that this is cheap.

    Raises:
        EnvironmentLackError: fsspec or the protocol's package is not installed.
        InputError: fsspec does not know the protocol, or the address holds a password or token.
    """
    protocol = address.partition("://")[0].lower()
    if holds_secret(address):
        raise InputError(
            f"an address of {protocol}:// holds a password or token, which tables would show; "
            "give it through the environment or fsspec's configuration",
            source=protocol,
        )
    try:
        import fsspec
    except ImportError:
        raise EnvironmentLackError(
            f'{protocol}:// needs fsspec; run: pip install "blurgate[remote]"'
        ) from None
    try:
        found, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        way_out = f"run: pip install {package}" if package else reason(error)
        raise EnvironmentLackError(f"{protocol}:// needs another package; {way_out}") from error
    except ValueError as error:
        raise InputError(
            f"{shown(address)} is not an address that fsspec knows: {reason(error)}", source=address
        ) from error
    return found, path


def fetch(address: str, *, most: int = MOST_BYTES) -> bytes:
    """Read a whole file, in one request.

    Args:
        address: The file.
        most: Refuse larger ones; no more than this is fetched.

    Raises:
        DecodeError: It cannot be read or is too large; one line that names it.
        EnvironmentLackError: As `filesystem` does.
    """
    data = fetch_head(address, most + 1)
    if len(data) > most:
        raise DecodeError(f"{shown(address)} is larger than {most >> 20} MiB", source=address)
    return data


def fetch_head(address: str, size: int) -> bytes:
    """Read the first bytes of a file; raises as `fetch` does."""
    with _told(address):
        files, path = filesystem(address)
        return bytes(files.cat_file(path, end=size))


@contextmanager
def opened(address: str) -> Iterator[IO[bytes]]:
    """Open a file for reading with jumps; only what is read is fetched, in blocks.

    Raises:
        DecodeError: It cannot be opened; one line that names it. Errors of reading are those of the
            file system, mostly OSError.
        EnvironmentLackError: As `filesystem` does.
    """
    with _told(address):
        files, path = filesystem(address)
        file: IO[bytes] = files.open(path, "rb")
    with file:
        yield file


def kind_of(address: str) -> str:
    """Say what is at an address: file or directory.

    Raises:
        InputError: Nothing is there, or it cannot be looked at.
    """
    try:
        files, path = filesystem(address)
        return "directory" if files.info(path)["type"] == "directory" else "file"
    except (InputError, EnvironmentLackError):
        raise
    except Exception as error:
        raise InputError(f"{shown(address)}: {_why(error)}", source=address) from error


def files_below(folder: str) -> Iterator[str]:
    """Walk a folder in the order of the addresses, as `expand` walks one on the disk.

    Names that begin with a dot are left out. One folder's listing is held at a time. A folder that
    cannot be listed is left out with a warning.
    """
    files, root = filesystem(folder)
    root = root.rstrip("/")
    start = folder.rstrip("/")
    todo = [(root, True)]
    while todo:
        path, is_folder = todo.pop()
        if not is_folder:
            yield start + path[len(root) :]
            continue
        try:
            listed = files.ls(path, detail=True)
        except Exception as error:  # noqa: BLE001 - every file system has errors of its own
            logger.warning("%s is left out: %s", shown(start + path[len(root) :]), _why(error))
            continue
        inside = []
        for entry in listed:
            name = entry["name"].rstrip("/")
            is_folder = entry["type"] == "directory"
            # Object stores list a folder's own marker among what it holds; links may lead back.
            own = name == path or (is_folder and entry.get("islink"))
            if not own and not name.rpartition("/")[2].startswith("."):
                inside.append((name, is_folder))
        del listed
        files.invalidate_cache(path)
        inside.sort(key=lambda item: item[0] + "/" if item[1] else item[0], reverse=True)
        todo += inside


def matching(pattern: str) -> list[str]:
    """Give the addresses that match a pattern, sorted; `**` for any depth."""
    with _told(pattern):
        files, path = filesystem(pattern)
        listed = files.glob(path, detail=True)
        deep = "**" in pattern  # it matches a folder's files as well as the folder
        found = [n for n, entry in listed.items() if not deep or entry["type"] != "directory"]
        magic = re.search(r"[*?\[]", pattern)
        typed = pattern[: pattern.rindex("/", 0, magic.start() if magic else None) + 1]
        base = filesystem(typed)[1].rstrip("/") + "/"
    if base == "/" and not all(name.startswith("/") for name in found):
        base = ""  # object stores begin with the bucket
    rest = (name.removeprefix(base) for name in found)
    if "/." not in pattern.partition("://")[2]:  # as glob has it: a star is no leading dot
        rest = (name for name in rest if not name.startswith(".") and "/." not in name)
    return sorted(typed + name for name in rest)


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Turn whatever a file system raises into one line that names the address."""
    try:
        yield
    except (InputError, EnvironmentLackError):
        raise
    except Exception as error:
        raise DecodeError(
            f"{shown(address)} cannot be read: {_why(error)}", source=address
        ) from error


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "No such file or directory"
    if isinstance(error, PermissionError):
        return f"permission denied ({reason(error)})"
    return reason(error)
