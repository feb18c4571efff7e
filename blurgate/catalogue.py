"""The manifest: which models blurgate knows, where their files belong, what they must be.

`models_zoo/manifest.json` lists blurgate's own weights, which come inside the package, and
third-party ones, which `blurgate models pull` puts into the model folder. A file whose SHA-256 no
public source states gets the one that was recorded at its first pull, in a lock file beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

from blurgate.cards import MODEL_KINDS, ModelKind
from blurgate.errors import ChecksumError, UnknownNameError

HOME_VARIABLE: Final = "BLURGATE_HOME"
LOCK_NAME: Final = "models.lock.json"
_REINSTALL: Final = "run: pip install --force-reinstall --no-deps blurgate"


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the manifest; the keys after `aliases` that a card has are its card."""

    name: str
    kind: ModelKind
    runner: str
    origin: str
    """blurgate (inside the package when it has a file) or the maker (in the model folder)."""
    licence: str
    file: str = ""
    """Name of the weight file, without a folder; empty for a plugin that has no weights."""
    bytes: int | None = None
    sha256: str = ""
    """Hex digest; empty where no public source states one."""
    aliases: Sequence[str] = ()
    source: str = ""
    threshold: float | None = None
    input: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def card(self) -> dict[str, Any]:
        """The card as JSON would give it."""
        keys = ("kind", "runner", "name", "threshold", "licence", "source")
        card = {key: getattr(self, key) for key in (*keys, "input", "output", "about")}
        return {key: value for key, value in card.items() if value not in (None, "", {})}

    @property
    def path(self) -> Path:
        """Where the file is, or would be."""
        if self.origin == "blurgate":
            return Path(str(files("blurgate.models_zoo").joinpath(self.file)))
        return models_folder() / self.file

    @property
    def present(self) -> bool:
        """Whether it can be used without a pull."""
        return not self.file or self.path.is_file()


@dataclass(frozen=True, slots=True)
class Pack:
    """What one `blurgate models pull NAME` fetches: a zip archive or a single model file."""

    name: str
    file: str
    """Name of what is fetched; ends with .zip for an archive."""
    models: Sequence[str]
    """Models that it holds; their `file` is the member's name."""
    url: str = ""
    """HTTPS address; empty where there is no lasting one and the user has to name it."""
    bytes: int | None = None
    sha256: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the manifest lists."""

    defaults: Mapping[str, Sequence[str]]
    """Kind -> names, most wanted first; the first that is present is the default."""
    models: Sequence[Model]
    packs: Sequence[Pack]

    def find(self, kind: str, name: str) -> Model | None:
        """Look a model up by its name or an alias, which are unique within a kind."""
        for model in self.models:
            if model.kind == kind and (name == model.name or name in model.aliases):
                return model
        return None

    def pack_with(self, model: str) -> Pack | None:
        """Give the first pack that holds a model."""
        return next((pack for pack in self.packs if model in pack.models), None)


@cache
def get_manifest() -> Manifest:
    """Give the manifest that comes with the package.

    Raises:
        ChecksumError: The file is damaged or gone.
    """
    path = files("blurgate.models_zoo").joinpath("manifest.json")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(
            defaults=data["defaults"],
            models=tuple(Model(**entry) for entry in data["models"]),
            packs=tuple(Pack(**entry) for entry in data["packs"]),
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ChecksumError(
            f"{path} is not the list of models that came with blurgate ({error!r}); {_REINSTALL}",
            path=str(path),
        ) from error


def models_folder() -> Path:
    """Give the folder of fetched models: BLURGATE_HOME/models, or the user's data folder."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named).expanduser() / "models"
    from platformdirs import user_data_path

    return user_data_path("blurgate", appauthor=False) / "models"


def read_lock() -> dict[str, dict[str, Any]]:
    """Give what was recorded at first pulls: file name -> {sha256, bytes, source}.

    Raises:
        ChecksumError: The file is damaged, so that nothing can be compared with it.
    """
    path = models_folder() / LOCK_NAME
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(entry["sha256"], str) for entry in lock.values()):
            raise TypeError("an entry has no sha256")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ChecksumError(
            f"cannot read the recorded checksums in {path}: {error}; "
            "delete the file to trust the next pull anew",
            path=str(path),
        ) from error
    return cast("dict[str, dict[str, Any]]", lock)


def promised_sha256(entry: Model | Pack) -> str:
    """Give the SHA-256 that a file must have; empty when nobody has promised one yet."""
    return entry.sha256 or str(read_lock().get(entry.file, {}).get("sha256", ""))


def mending(model: Model) -> str:
    """Say what brings a model's file (back) onto this machine."""
    if model.origin == "blurgate":
        return _REINSTALL
    pack = get_manifest().pack_with(model.name)
    if pack is None:
        return f"put the file at {model.path}"
    return f"run: blurgate models pull {pack.name}{'' if pack.url else ' --from FILE_OR_ADDRESS'}"


def models_in(pack: Pack) -> list[Model]:
    """Give the models that a pack holds."""
    return [model for model in get_manifest().models if model.name in pack.models]


def models_called(name: str) -> list[Model]:
    """Give the models that a name stands for: of a model, an alias, or a pack.

    Raises:
        UnknownNameError: It stands for none.
    """
    pack = next((pack for pack in get_manifest().packs if pack.name == name), None)
    if pack is not None:
        return models_in(pack)
    found = [m for kind in MODEL_KINDS if (m := get_manifest().find(kind, name)) is not None]
    if not found:
        known = {alias for m in get_manifest().models for alias in (m.name, *m.aliases)}
        raise UnknownNameError("model", name, known | {pack.name for pack in get_manifest().packs})
    return found
