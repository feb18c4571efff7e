"""`Gate`: detector, aligner, scorer and rule as one object for use inside other programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from blurgate import zoo
from blurgate.interfaces import Detector, DetectorOptions, Runtime, Scorer
from blurgate.io.sources import expand, read_sources
from blurgate.stages import Rule, align_one, detect_one, find_faces, route, route_one, score
from blurgate.types import (
    F32,
    U8,
    FaceBatch,
    Frame,
    RoutedFaces,
    ScoredFaces,
    SourceEnd,
    Stream,
    Verdict,
)


class Gate:
    """Keeps the faces that a recogniser can use.

    Args:
        threshold: Blur degree in [0, 1] above which a face is rejected; None takes the one that
            the scorer's model card advises.
        review: Degrees within this width of the threshold go to review.
        min_face: Faces whose shorter box side is below this many pixels are rejected.
        detector: Name or ONNX path of a detector, or an object that is one; None for the default.
        scorer: Name or ONNX path of a scorer, or an object that is one; None for the default.
        device: auto, cpu, cuda or cuda:N.
        workers: Threads that detect; results do not depend on it.
        options: Detector input size and least confidence.

    Raises:
        ConfigError: A number is out of range, or the device is unknown.
        ModelError: A model is missing or cannot be used.
        UnknownNameError: Nobody offers a detector or scorer of that name.
        EnvironmentLackError: The runtime for a model is not installed.

    Any object that keeps the protocol can take a model's place:

    >>> import numpy as np
    >>> from blurgate.geometry import ARCFACE_TEMPLATE
    >>> from blurgate.interfaces import ModelInfo
    >>> from blurgate.types import Detections
    >>> class OneFace:
    ...     info = ModelInfo("one-face", "")
    ...     def __call__(self, frames):
    ...         box, one = np.float32([[8, 8, 120, 120]]), np.ones(1, np.float32)
    ...         return [Detections(f, box, one, ARCFACE_TEMPLATE[None] + 8) for f in frames]
    >>> gate = Gate(threshold=0.4, detector=OneFace(), scorer="laplacian")
    >>> (verdict,) = gate(np.zeros((128, 128, 3), np.uint8))       # flat: nothing to recognise
    >>> verdict.decision, verdict.reason, verdict.blur_degree, verdict.face_px
    ('reject', 'blur', 1.0, 112.0)
    """

    def __init__(
        self,
        threshold: float | None = None,
        *,
        review: float = 0.0,
        min_face: float = 0.0,
        detector: str | Detector | None = None,
        scorer: str | Scorer | None = None,
        device: str = "auto",
        workers: int = 1,
        options: DetectorOptions | None = None,
    ) -> None:
        runtime = Runtime(device)
        if isinstance(scorer, str) or scorer is None:
            scorer = zoo.open_scorer(scorer, runtime)
        if threshold is None:
            threshold = scorer.threshold
        self.rule = Rule(threshold, review, min_face)
        self.options = options or DetectorOptions()
        if isinstance(detector, str) or detector is None:
            detector = zoo.open_detector(detector, runtime, self.options)
        self.detector = detector
        self.scorer = scorer
        self.workers = workers

    def __call__(self, image: U8) -> list[Verdict]:
        """Decide about every face of one image.

        Args:
            image: (H, W, 3) uint8 BGR, upright.

        Returns:
            One verdict per face, highest detector score first.

        Raises:
            ShapeError: The image has another shape or dtype.
        """
        faces = align_one(detect_one(self.detector, Frame(image, "", 0, None)))
        scored = ScoredFaces(faces, self.scorer(faces.crops), str(self.scorer.info))
        return list(route_one(scored, self.rule).verdicts)

    def stream(self, source: str, *, every: int = 1) -> Iterator[Verdict]:
        """Decide about every face of a video, image, folder, glob, address or camera.

        Args:
            source: What `blurgate filter` takes as SOURCE.
            every: Look at frames 0, N, 2N, ... only.

        Yields:
            Verdicts in the order of frames, with bounded memory. Damaged input ends its source
            early and is logged as a warning; `run` gives it as a value.

        Raises:
            InputError: The source does not exist or holds nothing to read.
        """
        for item in self.run(read_sources(expand([source]), every=every, workers=self.workers)):
            if isinstance(item, RoutedFaces):
                yield from item.verdicts

    def run(self, frames: Iterable[Frame | SourceEnd]) -> Stream[RoutedFaces]:
        """Put a stream of frames through all stages.

        Yields:
            One `RoutedFaces` per frame, faces or not, and each source's `SourceEnd`, in order.
        """
        return self.decide(find_faces(frames, self.detector, workers=self.workers))

    def decide(self, faces: Iterable[FaceBatch | SourceEnd]) -> Stream[RoutedFaces]:
        """Score and route faces that are already aligned."""
        return route(score(faces, self.scorer), self.rule)


@lru_cache(maxsize=4)
def _scorer(model: str | None, device: str) -> Scorer:
    return zoo.open_scorer(model, Runtime(device))


def blur_degree(crops: U8, *, model: str | None = None, device: str = "auto") -> F32:
    """Measure how blurred aligned faces are.

    Args:
        crops: (n, 112, 112, 3) uint8 BGR on the ArcFace template; n may be 0.
        model: Name or ONNX path of a scorer; None for the default. Kept open for the next call.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        (n,) float32 in [0, 1]: 0 sharp, 1 unusable.

    Raises:
        ShapeError: The crops have another shape or dtype.
        ModelError: The model is missing or cannot be used.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), np.uint8)
    >>> bool(blur_degree(noise, model="laplacian")[0] < 0.01)
    True
    """
    return _scorer(model, device)(crops)
