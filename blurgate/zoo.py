"""How a model's name or a path to a model file becomes a running model.

A file of the manifest is used only when its SHA-256 is the promised one. A file that the user names
is used as it is. Nothing here uses the network.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blurgate import catalogue
from blurgate.cards import facts_of, read_card
from blurgate.catalogue import Model
from blurgate.errors import (
    ChecksumError,
    MissingModelError,
    ModelError,
    UnknownNameError,
    WeightsError,
    blamed,
)
from blurgate.host import get_host
from blurgate.interfaces import ModelFile, ModelInfo, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from blurgate.interfaces import Detector, DetectorOptions, Embedder, Scorer

logger = logging.getLogger(__name__)

RUNNERS: Final[Mapping[str, str]] = {"detector": "scrfd", "scorer": "onnx", "embedder": "arcface"}
"""Kind -> the plugin that runs an ONNX file whose card names no other."""
_OPTIONS: Final[Mapping[str, str]] = {
    "detector": "--detector",
    "scorer": "--model",
    "embedder": "--embedder",
}


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of `blurgate models`."""

    name: str
    kind: str
    origin: str
    present: bool
    default: bool
    """Whether a run that names no model of the kind uses this one now."""
    bytes: int | None
    sha256: str
    licence: str
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify` found about one model."""

    name: str
    kind: str
    path: Path
    state: str
    """ok, changed, missing, or unrecorded (present, and nobody promised a checksum)."""
    detail: str = ""
    """The SHA-256, or how it differs; empty for a missing file."""
    mend: str = ""
    """What brings the promised file here; empty where nothing is wrong."""


def resolve(kind: str, name: str) -> ModelFile | None:
    """Find the file behind a model name, and take its checksum.

    Args:
        kind: detector, scorer or embedder.
        name: A name or alias of the manifest, the name of a registered plugin, the stem of an ONNX
            file in the model folder, or a path to an ONNX file. What holds a separator or ends with
            `.onnx` is a path; any other name is looked up in this order and a path last.

    Returns:
        The file, or None for a plugin that has no weights.

    Raises:
        UnknownNameError: Nothing has that name; near names are given.
        MissingModelError: The model is known and its file is not here.
        ChecksumError: The file is not the promised one.
        WeightsError: The path is not a file, or its card is wrong or of another kind.
    """
    if name.endswith(".onnx") or "/" in name or os.sep in name:
        return _from_path(kind, Path(name))
    manifest = catalogue.get_manifest()
    model = manifest.find(kind, name)
    if model is not None:
        return _from_manifest(model) if model.file else None
    registry = get_host().registry(kind)
    if name in registry:
        return None
    placed = {path.stem: path for path in _placed_files()}
    if name in placed:
        return _from_path(kind, placed[name])
    if Path(name).is_file():
        return _from_path(kind, Path(name))
    known = {alias for entry in registry for alias in (entry.name, *entry.aliases)}
    known |= {alias for m in manifest.models if m.kind == kind for alias in (m.name, *m.aliases)}
    raise UnknownNameError(kind, name, known | placed.keys())


def default_name(kind: str) -> str:
    """Give the model that is used when none is named: the first of the defaults that is present.

    Raises:
        MissingModelError: None is; the message holds the commands that mend it.
    """
    manifest = catalogue.get_manifest()
    names = manifest.defaults.get(kind, ())
    for name in names:
        model = manifest.find(kind, name)
        if model is not None and model.present:
            return name
    packs = [pack.name for pack in manifest.packs if pack.url and {*pack.models} & {*names}]
    pull = f"run `blurgate models pull {packs[0]}`, or " if packs else ""
    raise MissingModelError(
        f"no {kind} model is on this machine; {pull}"
        f"name a file: {_OPTIONS[kind]} path/to/{RUNNERS[kind]}.onnx"
    )


def open_detector(name: str | None, runtime: Runtime, options: DetectorOptions) -> Detector:
    """Make the detector of a name or path; None means the default. Raises as `resolve` does."""
    detector: Detector = _open("detector", name, runtime, options)
    return detector


def open_scorer(name: str | None, runtime: Runtime) -> Scorer:
    """Make the scorer of a name or path; None means the default. Raises as `resolve` does."""
    scorer: Scorer = _open("scorer", name, runtime)
    return scorer


def open_embedder(name: str | None, runtime: Runtime) -> Embedder:
    """Make the embedder of a name or path; None means the default. Raises as `resolve` does."""
    embedder: Embedder = _open("embedder", name, runtime)
    return embedder


def _open(kind: str, name: str | None, *arguments: object) -> Any:
    name = default_name(kind) if name is None else name
    model = resolve(kind, name)
    if model is not None:
        runner = model.card.get("runner") or RUNNERS[kind]
    else:
        listed = catalogue.get_manifest().find(kind, name)
        runner = listed.runner if listed is not None else name
    entry = get_host().registry(kind)[runner]
    made = entry.make(model, *arguments)
    with blamed(kind, entry.name):
        if not isinstance(made.info, ModelInfo):
            raise TypeError(f"its info is {made.info!r}, not a ModelInfo")
        if kind == "scorer" and (made.threshold is None or not 0 <= made.threshold <= 1):
            raise ValueError(f"its threshold is {made.threshold!r}, not a number in [0, 1]")
    return made


def _from_manifest(model: Model) -> ModelFile:
    path = model.path
    if not path.is_file():
        raise MissingModelError(
            f"the {model.kind} {model.name} is not on this machine; {catalogue.mending(model)}",
            path=str(path),
        )
    promised = catalogue.promised_sha256(model)
    digest = _sha256(path)
    if promised and digest != promised:
        raise ChecksumError(
            f"{path} is not {model.name}: its SHA-256 is {digest}, not {promised}; "
            f"{catalogue.mending(model)}",
            path=str(path),
        )
    return ModelFile(path, ModelInfo(model.name, digest), model.card)


def _from_path(kind: str, path: Path) -> ModelFile:
    if not path.is_file():
        raise WeightsError(f"the {kind} file {path} does not exist", path=str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the model {path}: {error}", path=str(path)) from error
    facts = facts_of(path, data)
    card = read_card(facts, str(path))
    if card.kind not in (None, kind):
        raise WeightsError(
            f"{path} is a {card.kind} by its card, and a {kind} is needed", path=str(path)
        )
    digest = hashlib.sha256(data).hexdigest()
    return ModelFile(path, ModelInfo(card.name or path.stem, digest), facts)


def models() -> list[ModelRow]:
    """List the manifest's models, then the user's own ONNX files in the model folder.

    An own file counts when its card states its kind.
    """
    rows = [_row(model) for model in catalogue.get_manifest().models]
    for path in _placed_files():
        try:
            data = path.read_bytes()
            card = read_card(facts_of(path, data), str(path))
        except (OSError, ModelError) as error:
            logger.warning("%s is left out: %s", path, error)
            continue
        if card.kind is not None:
            digest = hashlib.sha256(data).hexdigest()
            facts = (len(data), digest, card.licence or "unknown", card.threshold)
            rows.append(ModelRow(path.stem, card.kind, "file", True, False, *facts))
    return rows


def _row(model: Model) -> ModelRow:
    threshold = model.threshold
    if not model.file and model.kind == "scorer":
        threshold = open_scorer(model.name, Runtime(device="cpu")).threshold
    size = model.bytes
    if size is None:
        size = model.path.stat().st_size if model.file and model.present else None
    return ModelRow(
        name=model.name,
        kind=model.kind,
        origin=model.origin,
        present=model.present,
        default=_is_default(model),
        bytes=size if model.file else 0,
        sha256=catalogue.promised_sha256(model),
        licence=model.licence,
        threshold=threshold,
    )


def _is_default(model: Model) -> bool:
    try:
        return default_name(model.kind) == model.name
    except MissingModelError:
        return False


def verify(names: Sequence[str] = ()) -> Iterator[Verified]:
    """Recompute the SHA-256 of model files.

    Args:
        names: Models, aliases or packs; empty for every model that is present.

    Yields:
        One finding per model that has a file.

    Raises:
        UnknownNameError: No model and no pack has one of the names.
    """
    every = [model for model in catalogue.get_manifest().models if model.file]
    chosen = [model for model in every if model.present] if not names else []
    for name in names:
        found = catalogue.models_called(name)
        chosen += [model for model in found if model.file and model not in chosen]
    for model in chosen:
        yield _verify(model)


def _verify(model: Model) -> Verified:
    finding = partial(Verified, model.name, model.kind, model.path)
    if not model.path.is_file():
        return finding("missing", mend=catalogue.mending(model))
    digest = _sha256(model.path)
    promised = catalogue.promised_sha256(model)
    if not promised:
        return finding("unrecorded", digest)
    if digest == promised:
        return finding("ok", digest)
    return finding("changed", f"SHA-256 is {digest}, not {promised}", catalogue.mending(model))


def _placed_files() -> list[Path]:
    """The user's own ONNX files in the model folder."""
    listed = {model.file for model in catalogue.get_manifest().models}
    return sorted(
        path for path in catalogue.models_folder().glob("[!.]*.onnx") if path.name not in listed
    )


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read the model {path}: {error}", path=str(path)) from error
