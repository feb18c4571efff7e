"""Whether a run puts people aside of whom the weights that it begins with have learnt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blurgate.errors import BlurgateError
from blurgate.training import checkpoints, layout
from blurgate.training.config import TrainConfig, make_config
from blurgate.training.dataset import Dataset
from blurgate.training.exported import is_exported
from blurgate.training.faces import list_faces
from blurgate.training.runs import checkpoint_of

if TYPE_CHECKING:
    from blurgate.training.dataset import Split

__all__ = ["learnt_before"]


def learnt_before(run: str, config: TrainConfig, data: Mapping[str, Any]) -> str:
    """Say who of a validation part was in the training part of an earlier run.

    Args:
        run: The earlier run's folder or checkpoint. What an ONNX file was trained on is not told:
            its card does not say who was put aside.
        config: Of the run that begins with it.
        data: The facts of that run's feed.

    Returns:
        A line; empty if nobody was, or if the earlier run's data is not there any more.
    """
    if is_exported(run):
        return ""
    _, facts = checkpoints.load(checkpoint_of(run))
    if facts.get("data", {}).get("sha256") == data["sha256"]:
        return ""
    try:
        earlier = make_config(facts.get("config", {}))
        learnt, aside = _who(earlier, "train"), _who(config, "val")
    except BlurgateError:  # its data is gone, or it is a run of another version
        return ""
    for what, before, now in zip(("people", "pictures"), learnt, aside, strict=True):
        if both := before & now:
            both_live = bool(earlier.faces and config.faces)
            keys = ("data", "faces", *(("identity", "val", "seed") if both_live else ()))
            old, new = earlier.facts(), config.facts()
            differ = (f"{key} {old[key]}, now {new[key]}" for key in keys if old[key] != new[key])
            return (
                f"{run} has learnt from {len(both)} of the {len(now)} {what} that are put aside "
                f"here, such as {min(both)!r}, so that the errors will look too small "
                f"({'; '.join(differ) or 'its pictures have changed'}); put the same people aside: "
                "give the same paths and the same "
                + ("--identity, --val and --val-seed" if config.data else "identity, val and seed")
            )
    return ""


def _who(config: TrainConfig, part: Split) -> tuple[set[str], set[str]]:
    """Give the people and the pictures of a part, these by the names of their clean twins."""
    if config.data:
        made = [Dataset(Path(folder), split=part) for folder in config.data]
        people = {person for folder in made for person in folder.identities}
        return people, {file for folder in made for file in folder.clean_files}
    found = list_faces(config.faces, identity=config.identity, val=config.val, seed=config.seed)
    chosen = [face for face in found if face.is_val == (part == "val")]
    return {f.identity for f in chosen}, {layout.clean_file(f.name) for f in chosen}
