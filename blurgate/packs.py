"""Putting third-party models into the model folder: fetch a pack, check it, install its files.

A pack is a zip archive or a single model file. Members are found by the names that the manifest
gives and written under the manifest's own file names, so that no name from an archive ever becomes
a path. Nothing is installed unless everything that is to be installed is right.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from blurgate import catalogue, zoo
from blurgate.catalogue import Model, Pack
from blurgate.download import LARGEST, Progress, Promise, fetch, public_form
from blurgate.errors import (
    ChecksumError,
    ConfigError,
    MissingModelError,
    UnknownNameError,
    WeightsError,
)
from blurgate.files import write_atomically, written_whole
from blurgate.locking import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 18
_LOCK = ".models.pull.lock"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True)
class Installed:
    """One model that a pull has put into the model folder."""

    name: str
    kind: str
    path: Path
    sha256: str
    recorded: bool
    """Whether the SHA-256 was recorded at this pull because no public source states one."""


def pack_called(name: str) -> Pack:
    """Give the pack of a name: its own, or that of a model it holds.

    Raises:
        UnknownNameError: No pack has it.
        ConfigError: The model comes with blurgate and is not fetched.
    """
    packs = {pack.name: pack for pack in catalogue.get_manifest().packs}
    if name in packs:
        return packs[name]
    try:
        models = catalogue.models_called(name)
    except UnknownNameError:
        raise UnknownNameError("model pack", name, packs) from None
    pack = catalogue.get_manifest().pack_with(models[0].name)
    if pack is None:
        raise ConfigError(f"{models[0].name} comes with blurgate; there is nothing to pull")
    return pack


def is_installed(pack: Pack) -> bool:
    """Tell whether all of a pack's models are present with the promised SHA-256."""
    return all(found.state == "ok" for found in zoo.verify([pack.name]))


def pull(
    pack: Pack, source: str | None = None, progress: Progress | None = None
) -> list[Installed]:
    """Fetch a pack and install its models.

    Args:
        pack: What to fetch.
        source: Address or path to fetch it from instead of the manifest's address.
        progress: Told how far the transfer is.

    Raises:
        ConfigError: There is no address, or it is of a kind that is not allowed.
        MissingModelError: The pack cannot be had; a later call goes on where this one stopped.
        ChecksumError: Something is not what was promised; nothing is installed.
        WeightsError: The archive is damaged or lacks a model; nothing is installed.
    """
    address = source or pack.url
    if not address:
        raise ConfigError(
            f"{pack.name} has no lasting public address ({pack.note}); "
            f"run: blurgate models pull {pack.name} --from FILE_OR_ADDRESS"
        )
    folder = catalogue.models_folder()
    target = folder / f".{pack.file}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Two pulls at once would write into one part, and lose each other's records.
        with locked(folder.with_name(_LOCK)):
            promise = Promise(pack.bytes, catalogue.promised_sha256(pack))
            digest = fetch(
                address, target, promise, named_by_user=source is not None, progress=progress
            )
            try:
                return _install(pack, target, digest, public_form(address))
            finally:
                target.unlink(missing_ok=True)
    except OSError as error:
        raise MissingModelError(f"cannot write to the model folder {folder}: {error}") from error


def _install(pack: Pack, fetched: Path, digest: str, source: str) -> list[Installed]:
    models = catalogue.models_in(pack)
    digests: dict[str, str] = {}
    records: dict[str, dict[str, Any]] = {}
    if not pack.sha256:
        records[pack.file] = _record(fetched, digest, source)
    with ExitStack() as written:  # all files are right before the first one takes its place
        for model in models:
            own = written.enter_context(written_whole(model.path))
            digests[model.file] = _unpack(pack, fetched, model, own)
            if not model.sha256:
                records[model.file] = _record(own, digests[model.file], source)
        # The record comes first: a crash in between leaves a promise without a file, which the next
        # pull keeps; the other order would leave a file that nobody vouches for.
        if records:
            lock = json.dumps(catalogue.read_lock() | records, indent=2, sort_keys=True)
            write_atomically(catalogue.models_folder() / catalogue.LOCK_NAME, [lock + "\n"])
    _sync_folder(catalogue.models_folder())
    return [
        Installed(model.name, model.kind, model.path, digests[model.file], model.file in records)
        for model in models
    ]


def _record(path: Path, digest: str, source: str) -> dict[str, Any]:
    return {"sha256": digest, "bytes": path.stat().st_size, "source": source}


def _unpack(pack: Pack, fetched: Path, model: Model, target: Path) -> str:
    """Write one model's bytes to a file, checked; gives its SHA-256."""
    promised = catalogue.promised_sha256(model)
    largest = LARGEST if model.bytes is None else model.bytes
    sha256, size = hashlib.sha256(), 0
    with _open_member(pack, fetched, model) as stream, target.open("wb") as file:
        while block := stream.read(_BLOCK):
            size += len(block)
            if size > largest:
                raise ChecksumError(f"{model.file} in {pack.file} has over {largest} bytes")
            sha256.update(block)
            file.write(block)
    digest = sha256.hexdigest()
    if promised and digest != promised:
        raise ChecksumError(
            f"{model.file} in {pack.file} has the SHA-256 {digest}, not {promised}: "
            "it was changed; nothing was installed"
        )
    return digest


@contextmanager
def _open_member(pack: Pack, fetched: Path, model: Model) -> Iterator[Any]:
    if not pack.file.endswith(".zip"):
        with fetched.open("rb") as stream:
            yield stream
        return
    try:
        with zipfile.ZipFile(fetched) as archive:
            members = [
                member
                for member in archive.infolist()
                if PurePosixPath(member.filename).name == model.file and not member.is_dir()
            ]
            if len(members) != 1:
                raise WeightsError(
                    f"{pack.file} holds {len(members)} files called {model.file} and not one; "
                    "nothing was installed"
                )
            if members[0].flag_bits & 1 or members[0].compress_type not in _METHODS:
                raise WeightsError(f"{pack.file} is encrypted or packed in an unusual way")
            with archive.open(members[0]) as stream:
                yield stream
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise WeightsError(f"{pack.file} is not a usable zip archive: {error}") from error


def _sync_folder(folder: Path) -> None:
    """Bring the renames to the disk; Windows has no such call for folders."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
