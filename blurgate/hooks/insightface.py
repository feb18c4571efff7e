"""Blur degrees in insightface: `attach(app)`, and `app.get(image)` gives faces that carry them.

`FaceAnalysis.get` calls the `get(image, face)` of every model in its dict `models`, in order. The
blur model is one more of them, put before the others; a model that rejected faces are to be kept
from is put behind a door in the same dict. Nothing else of the application is touched, apart from
`get` itself where rejected faces are to be dropped. All that is relied on - the dict, its order,
`get` and `prepare` of its members, and a face's `bbox`, `kps` and `det_score` - is the same from
insightface 0.7 to 2.1. insightface is not imported.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from blurgate.errors import ConfigError, ShapeError
from blurgate.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from blurgate.interfaces import Scorer
    from blurgate.types import U8

__all__ = ["BlurModel", "Rejected", "attach", "detach"]

Rejected: TypeAlias = Literal["keep", "mark", "drop"]
"""What becomes of rejected faces: embedded as ever, returned without an embedding, not returned."""

TASK: Final = "blur"
"""The blur model's name in `FaceAnalysis.models`."""
_DETECTION: Final = "detection"
_RECOGNITION: Final = "recognition"


class BlurModel:
    """A member of `FaceAnalysis.models`: writes `blur_degree` and the decision into a face.

    Attributes:
        gate: Scores and decides.
        rejected: What becomes of rejected faces.
    """

    taskname = TASK

    def __init__(self, gate: Gate, rejected: Rejected) -> None:
        self.gate = gate
        self.rejected = rejected
        self.restore: Callable[[], None] = lambda: None
        """Undoes what was changed in the application besides its dict of models."""

    def prepare(self, ctx_id: int, **options: Any) -> None:
        """Do nothing: the device was chosen when the model was opened."""

    def get(self, image: U8, face: Any) -> float:
        """Score a face; called by `FaceAnalysis.get`.

        Args:
            image: (H, W, 3) uint8 BGR.
            face: Has `bbox`, `kps` and `det_score`; given `blur_degree` (float in [0, 1]),
                `blur_decision` (keep, review or reject) and `blur_reason`.

        Returns:
            The blur degree.

        Raises:
            ShapeError: The face has no five landmarks.
        """
        if face.kps is None:
            raise ShapeError(
                "the detector of this FaceAnalysis gives no landmarks, and a face cannot be "
                "aligned without; use a pack whose detector does (its file is called *_kps)"
            )
        box = np.asarray(face.bbox, np.float32).reshape(1, -1)[:, :4]
        score = 1.0 if face.det_score is None else float(face.det_score)
        (verdict,) = self.gate(image, box, np.asarray(face.kps, np.float32)[None], [score])
        face.blur_degree = verdict.blur_degree
        face.blur_decision = verdict.decision
        face.blur_reason = verdict.reason
        return verdict.blur_degree


class _Door:
    """Keeps rejected faces from a model; for everything else it is the model."""

    def __init__(self, model: Any) -> None:
        self.behind = model

    def get(self, image: U8, face: Any, *args: Any, **options: Any) -> Any:
        # A face of somebody else's, given to this model alone, was not measured.
        if getattr(face, "blur_decision", None) == "reject":
            return None
        return self.behind.get(image, face, *args, **options)

    def __getattr__(self, name: str) -> Any:
        if name == "behind":  # of a copy that has no state yet
            raise AttributeError(name)
        return getattr(self.behind, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("behind", "get"):  # a `get` around this one would call itself from behind it
            super().__setattr__(name, value)
        else:
            setattr(self.behind, name, value)


def attach(
    app: Any,
    threshold: float | None = None,
    *,
    rejected: Rejected = "keep",
    review: float = 0.0,
    min_face: float = 0.0,
    model: str | Scorer | None = None,
    device: str = "auto",
) -> BlurModel:
    """Let a `FaceAnalysis` measure blur.

    Faces of `app.get(image)` then have `blur_degree`, `blur_decision` and `blur_reason`. Attaching
    again replaces what was attached.

    Args:
        app: A `FaceAnalysis`, before or after `prepare`.
        threshold: Blur degree above which a face is rejected; None takes the model's own.
        rejected: "keep": rejected faces are embedded like the others. "mark": they come back
            without an embedding, which saves its time; age, landmarks and the like still run.
            "drop": no other model sees them and `get` does not return them.
        review: Degrees within this width of the threshold go to review; such faces are embedded.
        min_face: Faces whose shorter box side is below this many pixels are rejected.
        model: Name or ONNX path of a scorer, or an object that is one; None for the default.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The blur model, which is `app.models["blur"]`.

    Raises:
        ConfigError: `app` is not a `FaceAnalysis`, or `rejected` is not one of the three.
        ModelError: The scorer is missing or cannot be used.
    """
    models = _models(app)
    if rejected not in ("keep", "mark", "drop"):
        raise ConfigError(f"rejected must be 'keep', 'mark' or 'drop', not {rejected!r}")
    gate = Gate(threshold, review=review, min_face=min_face, scorer=model, device=device)
    if TASK in models:
        detach(app)
    blur = BlurModel(gate, rejected)
    closed = {"keep": (), "mark": (_RECOGNITION,), "drop": tuple(models)}[rejected]
    others = {
        name: _Door(member) if name in closed and name != _DETECTION else member
        for name, member in models.items()
    }
    detector = others.pop(_DETECTION)
    _refill(models, {_DETECTION: detector, TASK: blur, **others})
    if rejected == "drop":
        blur.restore = _drop_rejected(app)
    return blur


def detach(app: Any) -> None:
    """Take the blur model out again; the application is as it was before `attach`.

    Raises:
        ConfigError: `app` is not a `FaceAnalysis`, or has no blur model.
    """
    models = _models(app)
    if TASK not in models:
        raise ConfigError("no blur model is attached to this FaceAnalysis")
    models.pop(TASK).restore()
    plain = {name: m.behind if isinstance(m, _Door) else m for name, m in models.items()}
    _refill(models, plain)


def _drop_rejected(app: Any) -> Callable[[], None]:
    """Let `get` leave rejected faces out; give a function that undoes it."""
    plain = app.get
    was_own = "get" in vars(app)

    @wraps(plain)
    def get(*args: Any, **options: Any) -> list[Any]:
        return [face for face in plain(*args, **options) if face.blur_decision != "reject"]

    def restore() -> None:
        if vars(app).get("get") is not get:
            return  # wrapped by somebody else since; without a blur model ours lets all pass
        if was_own:
            app.get = plain
        else:
            del app.get  # the class's own shows again

    app.get = get
    return restore


def _models(app: Any) -> dict[str, Any]:
    models = getattr(app, "models", None)
    if not isinstance(models, dict) or _DETECTION not in models:
        raise ConfigError(
            f"{type(app).__name__} is not an insightface FaceAnalysis with its models loaded"
        )
    return models


def _refill(models: dict[str, Any], members: dict[str, Any]) -> None:
    """Change a dict in place, order included: others may hold it."""
    models.clear()
    models.update(members)
