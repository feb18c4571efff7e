"""A folder of Parquet parts: what an engine writes, goes on with, and `blurgate merge` joins.

The sorted list of pictures is cut into stretches of a fixed number, and each becomes
`part-00000012.parquet`: rows in order, and in the file's metadata the settings and the digest of
its paths. A part appears whole, under a name that depends on its stretch alone. So a stretch that
is done twice, because a worker died, gives the same file again; and a run that goes on does the
stretches whose files are missing or of another list. `parts.json` says what the whole is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from blurgate.errors import ConfigError, DecodeError, InputError
from blurgate.files import are_plain, first_difference, is_count, parsed_object
from blurgate.io.remote import filesystem, is_remote
from blurgate.io.text import reason, shown
from blurgate.remote_output import put
from blurgate.rowfiles import Row, restored
from blurgate.spool import Names

MANIFEST: Final = "parts.json"
_KEY: Final = b"blurgate"


def stretches(names: Iterable[str], length: int) -> Iterator[list[str]]:
    """Cut a list.

    >>> list(stretches("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(names)
    while stretch := list(islice(iterator, length)):
        yield stretch


def part_name(index: int) -> str:
    """Give the file name of a part."""
    return f"part-{index:08d}.parquet"


def paths_digest(names: Sequence[str]) -> str:
    """Give what tells a stretch from any other."""
    joined = json.dumps(names, separators=(",", ":"))
    return hashlib.sha256(joined.encode("ascii")).hexdigest()


def manifest_of(names: Names, length: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give what `parts.json` says of a whole; walks through the list once.

    Args:
        names: The list.
        length: Files of a part.
        settings: Everything that the rows depend on, apart from the paths.
    """
    paths = hashlib.sha256()
    for stretch in stretches(names, length):
        paths.update(paths_digest(stretch).encode())
    return {
        "settings": dict(settings),
        "files": len(names),
        "parts": -(-len(names) // length),
        "length": length,
        "paths": paths.hexdigest(),
    }


class PartFolder:
    """A folder of parts, on this machine or at an fsspec address that all machines reach.

    Args:
        place: The folder.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        if is_remote(place):
            self._files, path = filesystem(place)
            self._path = path.rstrip("/")
        else:
            self._files, self._path = None, str(Path(place).absolute())

    def begin(self, manifest: Mapping[str, Any], *, resume: bool) -> None:
        """Make the folder, or look whether it can be gone on with.

        Args:
            manifest: What `manifest_of` gave.
            resume: Keep the parts that are there.

        Raises:
            ConfigError: The folder is in use, or was begun with other settings or another list.
        """
        found = self.manifest()
        if found is None and self._in_use():
            raise ConfigError(f"{self.place} is not empty and holds no parts of blurgate score")
        if found is not None and not resume:
            raise ConfigError(f"{self.place} holds parts: use --resume, or another folder")
        if found is not None:
            key = first_difference(found["settings"], manifest["settings"])
            if key is not None:
                raise ConfigError(
                    f"cannot resume {self.place}: it was begun with {key} = "
                    f"{found['settings'].get(key)!r}, now it is {manifest['settings'].get(key)!r}"
                )
            if found["length"] != manifest["length"]:
                raise ConfigError(
                    f"cannot resume {self.place}: its parts have {found['length']} files each"
                )
        self.write(MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())

    def manifest(self) -> dict[str, Any] | None:
        """Give what the whole is; None if there is no such folder."""
        data = self.read(MANIFEST)
        if data is None:
            return None
        found = _noted(data)
        if found is None or not all(is_count(found.get(k)) for k in ("files", "parts", "length")):
            raise ConfigError(f"{self.place}/{MANIFEST} is damaged; use another folder")
        return found

    def is_done(self, index: int, names: Sequence[str], settings: Mapping[str, Any]) -> bool:
        """Tell whether a part is there and is the one of these paths and settings."""
        note = self.note(index)
        return note == {
            "settings": dict(settings),
            "paths": paths_digest(names),
            "files": len(names),
        }

    def note(self, index: int) -> dict[str, Any] | None:
        """Give what a part says about itself; None if it is not there or damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self._open(part_name(index)) as file:
                metadata = pq.read_schema(file).metadata or {}
        except (OSError, pa.ArrowException, ValueError):
            return None
        note = _noted(metadata.get(_KEY, b""))
        return note if note is not None and is_count(note.get("files")) else None

    def write_part(
        self, index: int, names: Sequence[str], table: Any, settings: Mapping[str, Any]
    ) -> None:
        """Write a part; it appears whole."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        note = {"settings": dict(settings), "paths": paths_digest(names), "files": len(names)}
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata({_KEY: json.dumps(note).encode()}), sink)
        self.write(part_name(index), sink.getvalue().to_pybytes())

    def rows(self) -> Iterator[Row]:
        """Give the rows of all parts, in the order of the paths.

        Raises:
            ConfigError: A part is missing or was made with other settings, and is named; or the
                parts are of another list, which shows at the end.
            DecodeError: A part is damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        manifest = self.manifest()
        if manifest is None:
            raise ConfigError(f"{self.place} is not a folder of parts: it holds no {MANIFEST}")
        files, paths = 0, hashlib.sha256()
        again = "finish it with: blurgate score --engine ray --resume"
        for index in range(manifest["parts"]):
            note = self.note(index)
            if note is None:
                raise ConfigError(f"{self.place}/{part_name(index)} is missing; {again}")
            key = first_difference(note["settings"], manifest["settings"])
            if key is not None:
                raise ConfigError(
                    f"{self.place}/{part_name(index)} was made with another {key}; {again}"
                )
            files += note["files"]
            paths.update(str(note.get("paths")).encode())
            try:
                with self._open(part_name(index)) as file, pq.ParquetFile(file) as part:
                    for batch in part.iter_batches(batch_size=4096):
                        yield from map(restored, batch.to_pylist())
            except (OSError, pa.ArrowException) as error:
                name = f"{self.place}/{part_name(index)}"
                raise DecodeError(f"{shown(name)}: {reason(error)}", source=name) from error
        if files != manifest["files"]:
            raise ConfigError(f"{self.place} holds {files} of {manifest['files']} files; {again}")
        if paths.hexdigest() != manifest.get("paths"):
            raise ConfigError(f"{self.place} holds parts of another list of files; {again}")

    def _open(self, name: str) -> Any:
        if self._files is None:
            return (Path(self._path) / name).open("rb")
        return self._files.open(f"{self._path}/{name}", "rb")

    def read(self, name: str) -> bytes | None:
        """Read a small file; None if it is not there."""
        try:
            with self._open(name) as file:
                return bytes(file.read())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:
            raise InputError(f"{self.place}: {reason(error)}", source=self.place) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file; it appears whole."""
        import tempfile

        if self._files is None:
            folder = Path(self._path)
            folder.mkdir(parents=True, exist_ok=True)
            # A worker that was taken for dead may still be writing the same part.
            temporary = folder / f".{name}.{os.getpid()}.tmp"
            temporary.write_bytes(data)
            temporary.replace(folder / name)
            return
        with tempfile.TemporaryDirectory(prefix="blurgate-") as scratch:
            source = Path(scratch) / name
            source.write_bytes(data)
            self._files.makedirs(self._path, exist_ok=True)
            put(self._files, source, f"{self._path}/{name}")

    def _in_use(self) -> bool:
        """Tell whether it holds anything but what a kill left while the manifest was written."""
        paths: Iterable[str | Path] = ()
        if self._files is None and Path(self._path).is_dir():
            paths = Path(self._path).iterdir()
        elif self._files is not None and self._files.exists(self._path):
            paths = self._files.ls(self._path, detail=False)
        return any(not Path(path).name.startswith(f".{MANIFEST}.") for path in paths)


def _noted(data: bytes) -> dict[str, Any] | None:
    """Read what a file says about itself; None where it is damaged."""
    values = parsed_object(data)
    return values if values is not None and are_plain(values.get("settings")) else None


def is_part_folder(place: str) -> bool:
    """Tell whether an engine wrote a folder."""
    if not is_remote(place):
        return (Path(place) / MANIFEST).is_file()
    files, path = filesystem(place)
    return bool(files.exists(f"{path.rstrip('/')}/{MANIFEST}"))
