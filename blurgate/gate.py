"""`Gate`: detector, aligner, scorer and rule as one object for use inside other programs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cached_property, lru_cache
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING

from blurgate import zoo
from blurgate.errors import ConfigError, ShapeError
from blurgate.finding import DETECT_EVERY, align_one, check_detect_every, detect_one, find_faces
from blurgate.given import given_faces
from blurgate.interfaces import Detector, DetectorOptions, Runtime, Scorer
from blurgate.io.sources import expand, read_sources
from blurgate.profile import read_profile
from blurgate.stages import (
    Rule,
    check_kinds,
    degrees_of,
    let_go,
    ready_crops,
    route,
    route_one,
    score,
    score_faces,
)
from blurgate.tracking import link_faces
from blurgate.types import (
    CROP_SIZE,
    F32,
    U8,
    FaceBatch,
    Frame,
    RoutedFaces,
    SourceEnd,
    Stream,
    Verdict,
    check_array,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

logger = logging.getLogger(__name__)


class Gate:
    """Keeps the faces that a recogniser can use.

    Args:
        threshold: Blur degree in [0, 1] above which a face is rejected; None takes the one that
            the scorer's model card advises.
        review: Degrees within this width of the threshold go to review; None: the profile's, or 0.
        min_face: Faces whose shorter box side is below this many pixels are rejected; None: the
            profile's, or 0.
        profile: File of `blurgate calibrate` that gives the threshold for this scorer.
        detector: Name or ONNX path of a detector, or an object that is one; None for the default,
            which is looked for when the first picture needs it.
        scorer: Name or ONNX path of a scorer, or an object that is one; None for the default.
        device: auto, cpu, cuda or cuda:N. A GPU that is named decodes video files too.
        workers: Threads that read, detect and score streams; results do not depend on it.
        options: Detector input size and least confidence.
        detect_every: 1 searches every frame of a video; N at least every N-th, and follows faces
            in between (docs/throughput.md).
        kinds: Tell the kind of blur of each face too, which the scorer has to know.

    Raises:
        ConfigError: A number is out of range, the device is unknown, the profile is damaged or for
            another scorer, or the scorer tells no kinds of blur and `kinds` is set.
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
        review: float | None = None,
        min_face: float | None = None,
        profile: str | Path | None = None,
        detector: str | Detector | None = None,
        scorer: str | Scorer | None = None,
        device: str = "auto",
        workers: int = 1,
        options: DetectorOptions | None = None,
        detect_every: int = DETECT_EVERY,
        kinds: bool = False,
    ) -> None:
        if workers < 1:
            raise ConfigError(f"workers must be at least 1, got {workers}")
        check_detect_every(detect_every)
        self._runtime = runtime = Runtime(device)
        if isinstance(scorer, str) or scorer is None:
            scorer = zoo.open_scorer(scorer, runtime)
        self.profile = "" if profile is None else str(profile)
        if profile is not None:
            found = read_profile(Path(profile))
            found.check_model(scorer.info, self.profile)
            threshold, review, min_face = found.over(threshold, review, min_face, self.profile)
        if threshold is None:
            threshold = scorer.threshold
        self.rule = Rule(threshold, review or 0.0, min_face or 0.0)
        self.options = options or DetectorOptions()
        if isinstance(detector, str):
            detector = zoo.open_detector(detector, runtime, self.options)
        if detector is not None:
            self.detector = detector
        self.scorer = scorer
        self.workers = workers
        self.device = device
        self.detect_every = detect_every
        if kinds:
            check_kinds(scorer)
        self.kinds = kinds

    @cached_property
    def detector(self) -> Detector:
        """Finds the faces. The default one is opened here: faces that are given need none.

        Raises:
            MissingModelError: No detector is on this machine.
        """
        return zoo.open_detector(None, self._runtime, self.options)

    def __call__(
        self,
        image: U8,
        boxes: ArrayLike | EllipsisType | None = ...,
        kps: ArrayLike | None = None,
        scores: ArrayLike | None = None,
    ) -> list[Verdict]:
        """Decide about every face of one image.

        Args:
            image: (H, W, 3) uint8 BGR, upright.
            boxes: Faces that were found elsewhere, as `blurgate.given.given_faces` takes them: n
                boxes, or rows of OpenCV's FaceDetectorYN; None stands for no faces. Left out, the
                gate detects.
            kps: Their landmarks, (n, 5, 2).
            scores: Their confidences, (n,).

        Returns:
            One verdict per face, in the order in which they were given, or highest detector score
            first.

        Raises:
            ShapeError: An array has another shape or dtype, or the image no pixels.
            MissingModelError: The gate is to detect, and no detector is on this machine.
            PluginError: The detector or the scorer fails, or gives something impossible.
        """
        frame = Frame(image, "", 0, None)
        if not image.size:
            raise ShapeError(f"the image has no pixels: {image.shape}")
        if isinstance(boxes, EllipsisType):
            detections = detect_one(self.detector, frame)
        else:
            detections = given_faces(frame, boxes, kps, scores)
        (scored,) = score_faces([align_one(detections)], self.scorer, self.kinds)
        return list(route_one(scored, self.rule).verdicts)

    def crops(self, crops: U8 | Sequence[U8]) -> list[Verdict]:
        """Decide about faces that are already aligned; needs no detector.

        Args:
            crops: (n, 112, 112, 3) uint8 BGR on the ArcFace template, or n pictures of any size of
                which each is such a crop; those of another size are resized.

        Returns:
            One verdict per crop, in their order; `frame_index` is the position in it.

        Raises:
            ShapeError: A crop has another shape or dtype, or no pixels.
        """
        frames = (Frame(crop, "", i, None) for i, crop in enumerate(crops))
        routed = self.decide(ready_crops(frames))
        return [v for faces in routed if isinstance(faces, RoutedFaces) for v in faces.verdicts]

    def stream(self, source: str | os.PathLike[str], *, every: int = 1) -> Iterator[Verdict]:
        """Decide about every face of a video, image, folder, glob, address or camera.

        Args:
            source: What `blurgate filter` takes as SOURCE.
            every: Look at frames 0, N, 2N, ... only.

        Yields:
            Verdicts in the order of frames, with bounded memory. What cannot be read of a source is
            logged as a warning; `run` gives it as a value.

        Raises:
            InputError: The source does not exist or holds nothing to read.
        """
        frames = read_sources(
            expand([os.fsdecode(source)]), every=every, workers=self.workers, device=self.device
        )
        # After an error the threads and files of `frames` would wait for the traceback to go.
        with closing(frames), closing(self.run(frames, keep_pixels=False)) as stream:
            for item in stream:
                if isinstance(item, RoutedFaces):
                    yield from item.verdicts
                elif item.status != "ok":
                    logger.warning("%s", item.error)

    def run(
        self, frames: Iterable[Frame | SourceEnd], *, keep_pixels: bool = True
    ) -> Stream[RoutedFaces]:
        """Put a stream of frames through all stages.

        Args:
            frames: Frames and source ends, in order.
            keep_pixels: Whether the pixels of whole frames are still wanted of what is given;
                without them less memory is needed.

        Yields:
            One `RoutedFaces` per frame, faces or not, and each source's `SourceEnd`, in order.
        """
        faces = find_faces(
            frames, self.detector, workers=self.workers, detect_every=self.detect_every
        )
        linked = link_faces(faces)
        return self.decide(linked if keep_pixels else let_go(linked))

    def decide(self, faces: Iterable[FaceBatch | SourceEnd]) -> Stream[RoutedFaces]:
        """Score and route faces that are already aligned."""
        scored = score(faces, self.scorer, workers=self.workers, kinds=self.kinds)
        return route(scored, self.rule)


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
        ConfigError: The device is unknown.
        ModelError: The model is missing or cannot be used.
        UnknownNameError: Nobody offers a scorer of that name.
        PluginError: The scorer fails, or gives something impossible.
        EnvironmentLackError: The runtime or the device for a model is not there.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), np.uint8)
    >>> bool(blur_degree(noise, model="laplacian")[0] < 0.01)
    True
    """
    check_array("crops", crops, (None, CROP_SIZE, CROP_SIZE, 3), "uint8")
    return degrees_of(crops, _scorer(model, device))
