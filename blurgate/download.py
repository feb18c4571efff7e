"""Fetching one file: over HTTPS, resumable, size-capped, checked before it gets its name.

Only `blurgate models pull` comes here. What arrives is kept in `<name>.part` and, beside it, what
the server said about the file; a later call goes on from there only when the server still has the
same file. The file gets its name when its size and SHA-256 are right.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, TypeAlias
from urllib.parse import urlsplit

from blurgate.errors import NO_ROOM, ChecksumError, ConfigError, MissingModelError

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes so far and, where known, in all."""

LARGEST: Final = 1 << 30
"""Bytes that a file without a promised size may have."""
_BLOCK: Final = 1 << 18
_TIMEOUT_S: Final = 30.0
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Promise:
    """What is known about a file before it is fetched."""

    bytes: int | None = None
    sha256: str = ""
    """Empty: whatever comes is taken, and the caller records its digest."""


@dataclass(frozen=True, slots=True)
class _Served:
    """What the server said about the file that `.part` is the beginning of."""

    address: str
    validator: str
    """Strong ETag or date of change, for If-Range; empty when a part cannot be continued."""
    bytes: int | None


class _ChangedError(Exception):
    """The server's file is not the one that the part is from."""


def fetch(
    address: str,
    target: Path,
    promise: Promise,
    *,
    named_by_user: bool = False,
    progress: Progress | None = None,
) -> str:
    """Fetch a file.

    Args:
        address: An HTTPS address. When the user named it, also a path on this machine, or plain
            HTTP where a promised SHA-256 or the loopback interface makes that safe.
        target: Where the file goes. Its folder exists.
        promise: Size and SHA-256 that the file has to have, as far as known.
        named_by_user: Whether the user gave the address.
        progress: Told how far it is.

    Returns:
        The file's SHA-256, hex.

    Raises:
        ConfigError: The address is of a kind that is not allowed.
        MissingModelError: The file cannot be had, or not yet in full; a later call goes on.
        ChecksumError: Size or SHA-256 are not the promised ones; nothing is kept.
    """
    part = target.with_name(target.name + ".part")
    is_address = "://" in address
    try:
        if is_address:
            _check_address(address, promise, named_by_user=named_by_user)
            _download(address, part, promise, progress)
        elif named_by_user:
            _copy(Path(address).expanduser(), part, promise, progress)
        else:
            raise ConfigError(f"{address!r} is not an HTTPS address")
        digest = _check(part, promise, public_form(address))
        part.replace(target)
    except BaseException as error:
        # A download that stopped is gone on with: no copy is, nor may a wrong beginning be.
        if isinstance(error, ChecksumError) or not is_address:
            with suppress(OSError):
                _forget(part)
        raise
    _forget(part)
    return digest


def _check_address(address: str, promise: Promise, *, named_by_user: bool) -> None:
    try:
        parts = urlsplit(address)
        login, _ = "@" in parts.netloc, parts.port  # a wrong port is a ValueError
    except ValueError:  # what it says may quote a password
        raise ConfigError(f"{public_form(address)} is not an address") from None
    if login:
        raise ConfigError(
            f"cannot fetch {public_form(address)}: no user or password is sent; fetch the file by "
            "other means and name it with --from"
        )
    if parts.hostname and parts.scheme == "https":
        return
    if parts.hostname and parts.scheme == "http" and named_by_user:
        if promise.sha256 or parts.hostname in _LOOPBACK:
            return
        raise ConfigError(
            f"{public_form(address)} is plain HTTP and nobody has promised this file's SHA-256, so "
            "anyone on the way could change it; use HTTPS"
        )
    allowed = "https://, http:// or a path" if named_by_user else "https://"
    raise ConfigError(f"cannot fetch {public_form(address)}: the address must be {allowed}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTPS, and from plain HTTP to plain HTTP; GitHub's releases redirect.

    Without a promised SHA-256 plain HTTP stays on the loopback interface.
    """

    def __init__(self, *, promised: bool = False) -> None:
        self._promised = promised

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        new = urlsplit(newurl)
        plain = new.scheme == "http" and req.type == "http"
        if new.scheme != "https" and not (plain and (self._promised or new.hostname in _LOOPBACK)):
            raise ConfigError(
                f"{public_form(req.full_url)} redirects to {public_form(newurl)}: refused"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(*, promised: bool = False) -> urllib.request.OpenerDirector:
    """An opener for HTTP alone: the usual one also opens file:, ftp: and data: addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(promised=promised),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _download(address: str, part: Path, promise: Promise, progress: Progress | None) -> None:
    served = _read_state(part, address)
    have = part.stat().st_size if served is not None else 0
    if served is not None and have == served.bytes:
        return  # it had all arrived; only the check is left
    try:
        _transfer(address, part, have, served, promise, progress)
    except _ChangedError:
        _forget(part)
        _transfer(address, part, 0, None, promise, progress)


def _transfer(
    address: str,
    part: Path,
    have: int,
    served: _Served | None,
    promise: Promise,
    progress: Progress | None,
) -> None:
    """Ask for the file from byte `have` on, and append what comes to the part."""
    shown = public_form(address)
    headers = {"User-Agent": "blurgate", "Accept-Encoding": "identity"}
    if served is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": served.validator}
    # The address was checked: HTTPS, or plain HTTP that the user named.
    request = urllib.request.Request(address, headers=headers)  # noqa: S310
    try:
        with _opener(promised=bool(promise.sha256)).open(request, timeout=_TIMEOUT_S) as response:
            if served is not None and response.status == 206:
                total = _check_continued(response.headers, have, served)
            elif response.status == 200:  # also a server that knows no ranges, or a changed file
                have, total = 0, _number(response.headers.get("Content-Length"))
                _forget(part)  # before the new state is written, or it would vouch for an old part
                state = _Served(shown, _validator(response.headers), total)
                _state_file(part).write_text(json.dumps(asdict(state)), encoding="utf-8")
            else:
                raise MissingModelError(f"{shown}: the server answers {response.status}")
            _check_size(total, promise, shown)
            _pour(response, part, have, total, promise, shown, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416 and served is not None:
            raise _ChangedError from error
        raise MissingModelError(
            f"{shown}: the server answers {error.code} {error.reason}"
        ) from error
    except urllib.error.URLError as error:
        raise MissingModelError(f"cannot reach {shown}: {error.reason}") from error
    except (http.client.IncompleteRead, OSError) as error:
        raise MissingModelError(
            f"{shown}: the transfer stopped ({error}); run the command again to go on"
        ) from error
    except ConfigError:
        raise
    except (http.client.InvalidURL, ValueError):  # they quote it, with what may be secret
        raise MissingModelError(
            f"cannot ask for {shown}: it, or what it redirects to, is not an address; blanks and "
            "letters outside ASCII are written as %20 and the like"
        ) from None
    except http.client.HTTPException as error:
        raise MissingModelError(f"cannot talk to {shown}: {error!r}") from error


def _pour(
    stream: Any,
    part: Path,
    have: int,
    total: int | None,
    promise: Promise,
    shown: str,
    progress: Progress | None,
) -> None:
    cap = LARGEST if promise.bytes is None else promise.bytes
    try:
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            while block := stream.read(_BLOCK):
                have += len(block)
                if have > cap:
                    raise ChecksumError(f"{shown} is larger than {cap} bytes; nothing was kept")
                file.write(block)
                if progress is not None:
                    progress(have, total)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in NO_ROOM:
            raise MissingModelError(
                f"cannot write {part}: {error.strerror}; make room and run the command again"
            ) from error
        raise
    if total is not None and have < total:
        raise MissingModelError(
            f"{shown}: the transfer stopped at {have} of {total} bytes; "
            "run the command again to go on"
        )


def _copy(source: Path, part: Path, promise: Promise, progress: Progress | None) -> None:
    try:
        with source.open("rb") as stream:
            total = os.fstat(stream.fileno()).st_size
            _check_size(total, promise, str(source))
            _forget(part)  # what vouches for an earlier part knows nothing of this one
            _pour(stream, part, 0, total, promise, str(source), progress)
    except OSError as error:
        raise MissingModelError(f"cannot copy {source}: {error}") from error


def _check_size(total: int | None, promise: Promise, shown: str) -> None:
    """Refuse a file of the wrong size before it is fetched."""
    if total is None:
        return
    if promise.bytes is not None and total != promise.bytes:
        raise ChecksumError(
            f"{shown} has {total} bytes and not {promise.bytes}; it was not fetched"
        )
    if total > LARGEST:
        raise ChecksumError(f"{shown} has {total} bytes, more than the {LARGEST} allowed")


def _check(part: Path, promise: Promise, shown: str) -> str:
    """Compare a complete file with the promise; gives its SHA-256."""
    size = part.stat().st_size
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if promise.bytes is not None and size != promise.bytes:
        raise ChecksumError(f"{shown} gave {size} bytes and not {promise.bytes}; nothing was kept")
    if promise.sha256 and digest != promise.sha256:
        raise ChecksumError(
            f"{shown} gave a file whose SHA-256 is {digest}, not {promise.sha256}: it was changed; "
            "nothing was kept"
        )
    return digest


def _check_continued(headers: http.client.HTTPMessage, have: int, served: _Served) -> int | None:
    """Check that a 206 answer continues the part; gives the file's full size."""
    span, _, total = (headers.get("Content-Range") or "").removeprefix("bytes ").partition("/")
    validator = _validator(headers)
    if (
        span.partition("-")[0] != str(have)
        or (validator and validator != served.validator)
        or (served.bytes is not None and total != str(served.bytes))
    ):
        raise _ChangedError
    return _number(total)


def _validator(headers: http.client.HTTPMessage) -> str:
    tag = str(headers.get("ETag") or "")
    if tag and not tag.startswith("W/"):  # a weak tag does not promise equal bytes
        return tag
    return str(headers.get("Last-Modified") or "")


def _read_state(part: Path, address: str) -> _Served | None:
    """What the part is the beginning of; None when it cannot be continued."""
    try:
        state = _Served(**json.loads(_state_file(part).read_text(encoding="utf-8")))
        state.validator.encode("latin-1")  # it becomes a header
        usable = (
            state.address == public_form(address)
            and bool(state.validator)
            and state.validator.isprintable()
            and 0 < part.stat().st_size <= (state.bytes or LARGEST)
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return state if usable else None


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def public_form(address: str) -> str:
    """The address without what may be secret: a mirror's login or signed query."""
    if "://" not in address:
        return address
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        scheme, _, rest = address.partition("://")
        return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
