"""The insightface hook, on a stand-in that keeps to what 0.7 and 2.1 share, and on the real one."""

from __future__ import annotations

import threading
import warnings
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from blurgate import Gate
from blurgate.errors import ConfigError, ShapeError, UnknownNameError
from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.hooks.insightface import attach, detach

SIDE = 140


class Face(dict):
    """As insightface's: attributes and items are the same, and what is not there is None."""

    def __getattr__(self, name):
        return None

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        super().__setitem__(name, value)


class Model:
    def __init__(self, taskname):
        self.taskname = taskname
        self.calls = []
        self.prepared = []

    def prepare(self, ctx_id, **options):
        self.prepared.append(ctx_id)

    def get(self, img, face):
        self.calls.append(face)
        setattr(face, {"recognition": "embedding"}.get(self.taskname, self.taskname), 1)


class Detection(Model):
    kps = True

    def detect(self, img, max_num=0, metric="default"):
        boxes, points = [], []
        for x in (10, 200)[: max_num or None]:
            boxes.append([x, 40, x + SIDE, 40 + SIDE, 0.5 + x / 1000])
            points.append(ARCFACE_TEMPLATE * (SIDE / 112) + [x, 40])
        return np.float32(boxes), np.float32(points) if self.kps else None


class FaceAnalysis:
    """What `FaceAnalysis` of 0.7 does."""

    def __init__(self, *tasks):
        self.models = {task: Model(task) for task in tasks}
        self.models["detection"] = self.det_model = Detection("detection")

    def prepare(self, ctx_id):
        for model in self.models.values():
            model.prepare(ctx_id)

    def get(self, img, max_num=0):
        bboxes, kpss = self.det_model.detect(img, max_num=max_num)
        faces = []
        for i, row in enumerate(bboxes):
            face = Face()
            face.bbox, face.det_score = row[:4], row[4]
            face.kps = None if kpss is None else kpss[i]
            for task, model in self.models.items():
                if task != "detection":
                    model.get(img, face)
            faces.append(face)
        return faces


@pytest.fixture
def image():
    """A sharp face on the left, a blurred one on the right."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    image = cv2.resize(noise, (400, 240), interpolation=cv2.INTER_NEAREST)
    image[:, 190:] = cv2.GaussianBlur(image[:, 190:], (0, 0), 9)
    return image


@pytest.fixture
def app():
    return FaceAnalysis("recognition", "genderage")


def attached(app, **options):
    return attach(app, 0.4, model="laplacian", **options)


def test_faces_carry_the_gates_numbers_and_are_all_embedded(app, image):
    blur = attached(app)
    faces = app.get(image)
    assert app.models["blur"] is blur
    gate = Gate(0.4, scorer="laplacian")
    expected = gate(image, [f.bbox for f in faces], [f.kps for f in faces])
    assert [f.blur_degree for f in faces] == [v.blur_degree for v in expected]
    assert [(f.blur_decision, f.blur_reason) for f in faces] == [("keep", ""), ("reject", "blur")]
    assert [f.embedding for f in faces] == [1, 1]
    assert faces[1]["blur_degree"] > 0.4  # the dict's items too


def test_marked_faces_come_back_without_an_embedding(app, image):
    attached(app, rejected="mark")
    sharp, soft = app.get(image)
    assert (sharp.embedding, soft.embedding) == (1, None)
    assert (sharp.genderage, soft.genderage) == (1, 1)
    assert soft.blur_decision == "reject"
    assert len(app.models["recognition"].calls) == 1  # the door gives the model's own attributes


def test_dropped_faces_cost_no_model_anything(app, image):
    attached(app, rejected="drop")
    assert [f.blur_decision for f in app.get(image)] == ["keep"]
    assert [len(app.models[name].calls) for name in ("recognition", "genderage")] == [1, 1]
    assert len(app.get(image, max_num=1)) == 1  # arguments pass


def test_review_is_embedded_and_small_faces_are_rejected(app, image):
    attached(app, rejected="mark", review=0.6)
    assert [(f.blur_decision, f.embedding) for f in app.get(image)] == [("review", 1)] * 2
    attached(app, rejected="mark", min_face=SIDE + 1)
    assert [(f.blur_reason, f.embedding) for f in app.get(image)] == [("too_small", None)] * 2


def test_blur_runs_before_recognition_whatever_the_order_was(app):
    models = app.models
    attached(app, rejected="mark")
    assert app.models is models
    assert list(models) == ["detection", "blur", "recognition", "genderage"]


@pytest.mark.parametrize("rejected", ["keep", "mark", "drop"])
def test_detach_leaves_no_trace(app, image, rejected):
    before = dict(app.models)
    attached(app, rejected=rejected)
    attached(app, rejected=rejected)  # again: replaces
    assert len(app.models) == 4
    detach(app)
    assert app.models == before
    assert "get" not in vars(app)
    assert [f.blur_degree for f in app.get(image)] == [None, None]
    assert [f.embedding for f in app.get(image)] == [1, 1]
    with pytest.raises(ConfigError, match="no blur model is attached"):
        detach(app)


def test_a_wrapper_around_ours_or_under_it_survives(app, image):
    own = app.get
    app.get = lambda *args, **options: own(*args, **options)
    under = app.get
    attached(app, rejected="drop")
    detach(app)
    assert app.get is under
    attached(app, rejected="drop")
    ours = app.get
    app.get = over = lambda *args: ours(*args)
    detach(app)
    assert app.get is over
    assert len(app.get(image)) == 2


def test_prepare_reaches_the_models_behind(app):
    attached(app, rejected="mark")
    app.prepare(0)
    detach(app)
    assert [m.prepared for m in app.models.values()] == [[0]] * 3


def test_a_door_takes_faces_that_were_not_measured(app, image):
    attached(app, rejected="mark")
    face = SimpleNamespace(kps=None, bbox=None)
    app.models["recognition"].get(image, face)
    assert face.embedding == 1


def test_what_is_set_on_a_door_is_set_on_the_model(app, image):
    attached(app, rejected="mark")
    door = app.models["recognition"]
    door.input_mean = 0.5
    assert door.input_mean == 0.5
    plain, seen = door.get, []
    door.get = lambda img, face: (seen.append(face), plain(img, face))
    app.get(image)
    assert len(seen) == 2
    detach(app)
    assert app.models["recognition"].input_mean == 0.5
    app.get(image)
    assert len(seen) == 2


def test_what_cannot_work_is_said(app, image):
    with pytest.raises(ConfigError, match="'keep', 'mark' or 'drop', not 'skip'"):
        attached(app, rejected="skip")
    with pytest.raises(ConfigError, match="dict is not an insightface FaceAnalysis"):
        attach({}, model="laplacian")
    with pytest.raises(ConfigError, match="threshold must lie"):
        attach(app, 1.5, model="laplacian")
    with pytest.raises(UnknownNameError, match="no scorer is called 'nowhere'"):
        attach(app, model="nowhere")
    assert "blur" not in app.models
    app.det_model.kps = False
    attached(app)
    with pytest.raises(ShapeError, match="gives no landmarks"):
        app.get(image)


def test_threads_share_one_application(app, image):
    attached(app, rejected="drop")
    wanted = [f.blur_degree for f in app.get(image)]
    got = []
    threads = [
        threading.Thread(target=lambda: got.append([f.blur_degree for f in app.get(image)]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [wanted] * 8


def test_insightface_is_not_imported(printed):
    code = (
        "import sys; sys.modules['insightface'] = None\n"
        "import blurgate.hooks.insightface, blurgate.hooks.torchdata, blurgate.hooks.fiftyone\n"
        "print(sorted({'torch', 'fiftyone'} & set(sys.modules)))"
    )
    assert printed(code).strip() == "[]"


# --- the real package -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """`FaceAnalysis` of the installed insightface on the development weights."""
    pytest.importorskip("insightface", reason='it needs: pip install "blurgate[insightface]"')
    root = tmp_path_factory.mktemp("insightface")
    pack = root / "models" / "pack"
    pack.mkdir(parents=True)
    for name in ("scrfd_500m_bnkps.onnx", "arcface.onnx"):
        (pack / name).write_bytes((shared / "data" / "weights" / name).read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from insightface.app import FaceAnalysis
        from insightface.data import get_image

        app = FaceAnalysis(name="pack", root=str(root), providers=["CPUExecutionProvider"])
        app.prepare(ctx_id=-1, det_size=(640, 640))
        image = get_image("t1")
    image = image.copy()
    image[:, 640:] = cv2.GaussianBlur(image, (0, 0), 5)[:, 640:]  # blurs the faces on the right
    return app, image


def real_get(app, image):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its alignment uses deprecated functions
        return app.get(image)


@pytest.mark.shared
@pytest.mark.parametrize("rejected", ["keep", "mark", "drop"])
def test_the_real_package(real, rejected):
    app, image = real
    plain = real_get(app, image)
    before = dict(app.models)
    attach(app, 0.4, rejected=rejected, model="laplacian")
    faces = real_get(app, image)
    detach(app)
    assert dict(app.models) == before
    assert len(plain) == 6
    gate = Gate(0.4, scorer="laplacian")
    verdicts = gate(image, [f.bbox for f in plain], [f.kps for f in plain])
    kept = [v.decision == "keep" for v in verdicts]
    assert 1 <= sum(kept) <= 5
    assert all(ok == (v.box[0] < 600) for ok, v in zip(kept, verdicts, strict=True))
    shown = [f for f, ok in zip(plain, kept, strict=True) if ok or rejected != "drop"]
    assert len(faces) == len(shown)
    embedded = 0
    for face, same in zip(faces, shown, strict=True):
        np.testing.assert_array_equal(face.bbox, same.bbox)
        if face.embedding is not None:
            np.testing.assert_array_equal(face.embedding, same.embedding)
            embedded += 1
        assert (face.embedding is None) == (rejected == "mark" and face.blur_decision == "reject")
    assert embedded == (6 if rejected == "keep" else sum(kept))
    wanted = [v for v, ok in zip(verdicts, kept, strict=True) if ok or rejected != "drop"]
    assert [f.blur_degree for f in faces] == [v.blur_degree for v in wanted]
    assert plain[0].blur_degree is None
