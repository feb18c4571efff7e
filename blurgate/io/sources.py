"""From what the user typed to frames: finding files, telling their kind, reading them in order."""

from __future__ import annotations

import glob
import itertools
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from blurgate.errors import InputError
from blurgate.io import remote
from blurgate.io.address import VIDEO_SUFFIXES, is_live, masked
from blurgate.io.images import IMAGE_SUFFIXES, is_image
from blurgate.io.reduced import read_photo
from blurgate.io.remote import filesystem, is_remote
from blurgate.io.text import harmless, reason, shown
from blurgate.journal import JOURNAL
from blurgate.pipeline import ordered_map, prefetch
from blurgate.profiling import making, timed
from blurgate.types import Frame, SourceEnd, Stream

if TYPE_CHECKING:
    from blurgate.io.live import LiveOptions

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal["image", "video", "live"]

_SEPARATORS: Final = re.escape(os.sep + (os.altsep or ""))
_ANY_DEPTH: Final = re.compile(rf"(?<![^{_SEPARATORS}])(?:\*\*(?:[{_SEPARATORS}]+|$))+")
"""`**` as a whole part of a path, once or several times in a row."""

_AHEAD_FRAMES: Final = 4
"""Video frames that are decoded before they are asked for: 25 MB of full HD."""


@dataclass(frozen=True, slots=True)
class Source:
    """Something that frames can be read from."""

    name: str
    """The path or address, as the user gave it or as a folder or pattern led to it; user and
    password of a stream's are hidden, and of streams of one name all but the first are numbered."""
    kind: Kind
    address: str = field(default="", repr=False, compare=False)
    """Where a live source is read, if not at its name."""
    position: int | None = field(default=None, repr=False, compare=False)
    """Place in the whole list, from 0; known when a part of it is worked on."""


def expand(
    arguments: Sequence[str], *, stdin: Iterable[str] | None = None, listed: Kind | None = None
) -> Iterator[Source]:
    """Find the sources that command-line arguments stand for.

    An argument is, in this order: `-` for a list of paths on standard input; a network address; an
    fsspec address such as s3://bucket/folder, which may be a folder or pattern too; a file; a
    folder, searched with its subfolders for names that end like pictures and videos, hidden ones
    and results of `blurgate filter` left out; a camera index; a glob pattern (`**` for any depth,
    where a folder is walked in the same way).

    The list has one path per line; its paths are not patterns. What it names and is missing becomes
    a source all the same, whose reading fails: one lost file must not end a run of a million.

    Args:
        arguments: What the user typed.
        stdin: Lines of standard input, read as the sources are asked for.
        listed: What a file of the list is taken for, whatever it is: nothing that is named may get
            lost. None: what its name or its content tells.

    Returns:
        An iterator over the sources, in the order of the arguments; those of a folder or pattern
        are sorted by path. Folders are walked as it advances.

    Raises:
        InputError: At the call: an argument names nothing that exists, or a folder or pattern holds
            nothing that can be read. While iterating: the list on standard input is empty.
    """
    found = [_listed(stdin or (), listed) if w == "-" else _checked(w) for w in arguments]
    return _told_apart(itertools.chain.from_iterable(found))


def read_sources(
    sources: Iterable[Source],
    *,
    every: int,
    workers: int,
    live: LiveOptions | None = None,
    on_live: Callable[[Callable[[], SourceEnd]], None] = lambda end: None,
    device: str = "cpu",
) -> Stream[Frame]:
    """Read sources one after the other, each closed by its `SourceEnd`.

    Args:
        sources: Asked for as reading advances, at most `2 * workers` pictures ahead.
        every: Of videos, give each frame whose index is a multiple of this.
        workers: Threads that decode pictures.
        live: Limits in time and attempts of cameras and streams.
        on_live: Called, when the reading of a live source begins, with something that says how it
            would end if it ended now.
        device: What decodes video files, as `blurgate.runtime.video_decoder` takes it.

    Yields:
        Frames and ends, in the order of the sources. A source that cannot be read gives an end
        with the reason, and the others go on.
    """
    for still, group in itertools.groupby(sources, key=lambda source: source.kind == "image"):
        if still:
            with closing(ordered_map(_read_still, group, workers)) as stills:
                for items in stills:
                    yield from items
        else:
            # Not above: pictures need no PyAV, and a machine that trains on them may have none.
            from blurgate.io.live import read_live
            from blurgate.io.video import read_video

            for source in group:
                if source.kind == "live":
                    address = source.address or source.name
                    yield from read_live(
                        address, name=source.name, every=every, options=live, on_start=on_live
                    )
                    continue
                decoded = making("decode", read_video(source.name, every=every, device=device))
                yield from prefetch(decoded, _AHEAD_FRAMES, name="decoded frames")


def _read_still(source: Source) -> tuple[Frame | SourceEnd, ...]:
    try:
        with timed("decode"):
            frame = Frame(read_photo(source.name), source.name, 0, None)
    except InputError as error:
        return (SourceEnd(source.name, "failed", 0, 1, str(error)),)
    return frame, SourceEnd(source.name, "ok", 1, 0)


def _told_apart(sources: Iterable[Source]) -> Iterator[Source]:
    """Number streams of one name: what tells them apart may be hidden, or the time of reading.

    A digest of what is hidden would tell them apart too, and give a weak password to who guesses.
    """
    names: set[str] = set()
    for source in sources:
        if source.kind == "live":
            name, number = source.name, 1
            while name in names:
                number += 1
                name = f"{source.name}#{number}"
            names.add(name)
            yield replace(source, name=name)
        else:
            yield source


def _checked(argument: str) -> Iterator[Source]:
    """Find an argument's sources; raise now if there are none."""
    paths: list[str] | None = None
    if is_remote(argument) and glob.has_magic(argument):
        paths = remote.matching(argument)
    elif glob.has_magic(argument) and not is_live(argument) and not os.path.lexists(argument):
        paths = [path for path in sorted(set(_matching(argument))) if not _is_result(path)]
        if "**" in argument:  # it matches a folder's files as well as the folder
            paths = [path for path in paths if not Path(path).is_dir()]
    if paths is None:
        found = _at(argument)
    elif paths:
        found = itertools.chain.from_iterable(map(_at_or_failing, paths))
    else:
        raise InputError(f"nothing matches the pattern {shown(argument)}", source=argument)
    first = next(found, None)
    if first is None:
        raise InputError(
            f"{shown(argument)} holds no pictures or videos; "
            "a file with another ending is read when it is named itself",
            source=argument,
        )
    return itertools.chain((first,), found)


def _matching(pattern: str) -> Iterator[str]:
    """Give what matches a pattern; a folder's files, too, where `**` is its end."""
    deep = _ANY_DEPTH.search(pattern)
    if deep is None:
        yield from glob.iglob(pattern)  # noqa: PTH207 - keeps a leading "./"
        return
    above = os.path.dirname(pattern[: deep.start()])  # noqa: PTH120 - likewise
    for top in glob.iglob(above) if above else [""]:  # noqa: PTH207 - likewise
        for path, what in _walk(top):
            if what == "folder":
                rest = pattern[deep.end() :] or "*"
                yield from _matching(os.path.join(glob.escape(path), rest))  # noqa: PTH118


def _is_result(path: str) -> bool:
    """Tell whether a folder holds results of `blurgate filter`, and say that it is left out."""
    found = os.path.isfile(os.path.join(path, JOURNAL))  # noqa: PTH113, PTH118 - likewise
    if found:
        logger.warning("%s is left out: results of blurgate filter", shown(path))
    return found


def _listed(lines: Iterable[str], kind: Kind | None) -> Iterator[Source]:
    whole = iter(lines)
    head = next(whole, "").removeprefix("\ufeff")  # a mark that editors put first
    names = filter(None, (line.rstrip("\r\n") for line in itertools.chain((head,), whole)))
    paths = itertools.chain.from_iterable(_at_or_failing(name, kind) for name in names)
    first = next(paths, None)
    if first is None:
        raise InputError("standard input holds no paths", source="-")
    yield first
    yield from paths


def _at_or_failing(name: str, kind: Kind | None = None) -> Iterator[Source]:
    """Give the sources at a path; one that is missing stays a source, whose reading will fail.

    What is no folder is of the given kind, if one is.
    """
    named = Source(harmless(masked(name), os.sep), kind or _kind_by_name(name) or "video")
    if kind is not None and not is_remote(name) and not Path(name).is_dir():
        yield named
        return
    try:
        yield from _at(name)
    except InputError:
        yield named


def _at(name: str) -> Iterator[Source]:
    """Give the sources at an address or path that is no pattern."""
    if is_live(name):
        yield Source(masked(name), "live", name)
        return
    if is_remote(name):
        yield from _at_address(name)
        return
    name = harmless(name, os.sep)
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116 - Path("") would be the current folder
    except (OSError, ValueError) as error:
        raise InputError(
            f"{shown(name) or 'an empty name'}: {reason(error)}", source=name
        ) from error
    if stat.S_ISDIR(mode):
        yield from _in_folder(name)
        return
    kind = _kind_by_name(name)
    if kind is None:
        # A pipe can be read only once, so that it cannot be looked into.
        kind = "image" if stat.S_ISREG(mode) and is_image(name) else "video"
    yield Source(name, kind)


def _at_address(address: str) -> Iterator[Source]:
    """Give the sources at an fsspec address.

    One that ends like a picture or video is not looked at before it is read: in a list of a
    million that would be a million requests.
    """
    filesystem(address)  # a package that lacks is an error now
    kind = _kind_by_name(address)
    if kind is None and remote.kind_of(address) == "directory":
        for name in remote.files_below(address):
            inside = _kind_by_name(name)
            if inside is not None:
                yield Source(name, inside)
        return
    yield Source(address, kind or ("image" if is_image(address) else "video"))


def _in_folder(folder: str) -> Iterator[Source]:
    """Give the sources below a folder; a folder that cannot be opened fails when it is read."""
    for path, what in _walk(folder):
        kind = "image" if what == "shut" else _kind_by_name(path)
        if what != "folder" and kind is not None:
            yield Source(path, kind)


def _walk(folder: str) -> Iterator[tuple[str, Literal["folder", "file", "shut"]]]:
    """Walk a folder in the order of the paths, as strings, and say what is at each.

    A folder that is reached twice, through links, is walked once; "shut" is one that cannot be
    opened. Results of `blurgate filter` are left out with a warning, unless they are named
    themselves: a run below whose folder it writes would take its own pictures for new ones.
    """
    seen: set[tuple[int, int]] = set()
    todo = [(folder, True)]
    while todo:
        path, is_folder = todo.pop()
        if not is_folder:
            yield path, "file"
            continue
        here = path or os.curdir
        try:
            status = os.stat(here)  # noqa: PTH116 - one style in a function that keeps paths as str
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if path != folder and _is_result(path):
                continue
            with os.scandir(here) as entries:
                inside = [(e.name, _is_folder(e)) for e in entries if not e.name.startswith(".")]
        except OSError:
            yield path, "shut"
            continue
        yield path, "folder"
        # "a-1.jpg" stands before "a/1.jpg", as it does among the finished paths.
        inside.sort(key=lambda item: item[0] + os.sep if item[1] else item[0], reverse=True)
        todo += [(os.path.join(path, name), sub) for name, sub in inside]  # noqa: PTH118


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _kind_by_name(name: str) -> Kind | None:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a million names
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None
