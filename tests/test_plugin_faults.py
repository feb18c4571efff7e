"""Plugins that are broken once they are used: one line that names them, exit code 5."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

import blurgate.gate
from blurgate import Gate, blur_degree, zoo
from blurgate.errors import PluginError
from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.hookspecs import hookimpl
from blurgate.host import get_host
from blurgate.interfaces import ModelInfo, Runtime
from blurgate.tables import SCORE_COLUMNS, open_table
from blurgate.types import BlurKind, Detections, Frame, SourceEnd

INFO = ModelInfo("bad", "")
ZERO = np.zeros(1, np.float32)


@pytest.fixture
def bad() -> Iterator[Callable[[str, Any], None]]:
    """Register a factory as `bad` of some kind, in the place of the one before."""
    host, names = get_host(), []

    def register(kind: str, factory: Any) -> None:
        if names:
            host.remove(names[-1])
        hook = hookimpl(lambda register: register("bad", factory))
        hooks = {f"register_{kind}{'e' if kind == 'loss' else ''}s": staticmethod(hook)}
        names.append(f"bad-{kind}")
        host.add(type("Plugin", (), hooks), names[-1])

    yield register
    if names:  # a test that was skipped has registered nothing
        host.remove(names[-1])


def raising(*arguments: Any, **options: Any) -> Any:
    raise KeyError("two\nlines")


def scorer(call: Any = None, **attributes: Any) -> Any:
    """A factory of a scorer."""
    body = {"info": INFO, "threshold": 0.5, **attributes, "__call__": call}
    kept = {name: value for name, value in body.items() if value is not ...}
    return lambda model, runtime: type("Scorer", (), kept)()


def lost_weights(self: Any, crops: Any) -> Any:
    raise FileNotFoundError(2, "No such file or directory", "/nowhere/weights.bin")


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        (raising, "failed: KeyError: 'two\\nlines'"),
        (lambda model, runtime: None, "failed: AttributeError: 'NoneType' object has no"),
        (lambda: None, "failed: TypeError: "),
        (scorer(info=...), "failed: AttributeError: 'Scorer' object has no attribute 'info'"),
        (scorer(info="me"), "failed: TypeError: its info is 'me', not a ModelInfo"),
        (scorer(threshold=...), "failed: AttributeError: 'Scorer' object has no"),
        (scorer(threshold=None), "failed: ValueError: its threshold is None, not a number in"),
        (scorer(threshold=1.5), "failed: ValueError: its threshold is 1.5, not a number in"),
        (scorer(lost_weights), "failed: FileNotFoundError: [Errno 2] No such file or directory"),
        (
            scorer(lambda self, crops: np.zeros(2 * len(crops), np.float32)),
            "gave something impossible: blur_degree must be float32 of shape (1), got float32 of (",
        ),
    ],
)
def test_a_scorer(bad, run, marker, tmp_path, monkeypatch, factory, why):
    monkeypatch.chdir(tmp_path)
    image = np.full((160, 320, 3), 60, np.uint8)
    marker.draw(image, 10, 20, 120, sharp=True, seed=1)
    assert cv2.imwrite("a.png", image)
    bad("scorer", factory)
    ran = run("filter", "a.png", "--detector", "marker", "--model", "bad", "--out", "o")
    assert (ran.code, ran.err.count("\n")) == (5, 1), ran.err
    assert ran.err.startswith(f"blurgate: error: the scorer bad {why}")


IMPOSSIBLE = pytest.mark.parametrize(
    ("call", "why"),
    [
        (raising, "failed: KeyError: 'two\\nlines'"),
        (
            lambda self, crops: np.full(len(crops), 2, np.float32),
            "gave something impossible: bad gave blur degrees outside [0, 1]: [2.]",
        ),
        (
            lambda self, crops: np.full(len(crops), np.nan, np.float32),
            "gave something impossible: bad gave blur degrees outside [0, 1]: [nan]",
        ),
        (
            lambda self, crops: np.zeros(len(crops)),
            "gave something impossible: blur_degree must be float32 of shape (1), got float64 of (",
        ),
    ],
)


@IMPOSSIBLE
def test_a_scorer_in_python(bad, monkeypatch, call, why):
    # It keeps scorers by name, and another test's would answer.
    monkeypatch.setattr(blurgate.gate, "_scorer", blurgate.gate._scorer.__wrapped__)
    bad("scorer", scorer(call))
    with pytest.raises(PluginError) as caught:
        blur_degree(np.zeros((1, 112, 112, 3), np.uint8), model="bad")
    assert str(caught.value).startswith(f"the scorer bad {why}")


@IMPOSSIBLE
def test_a_scorer_that_is_measured(bad, run, tiny, tiny_plugin, tmp_path, monkeypatch, call, why):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cv2, "setNumThreads", lambda n: None)  # it is the whole process's
    for i in range(30):
        assert cv2.imwrite(f"p{i // 2:02}_{i % 2:04}.png", tiny.draw(112, i))
    bad("scorer", scorer(call))
    of = ("*.png", "--model", "bad", "--embedder", "tiny", "--quiet")
    parts = [
        ("evaluate", *of, "--part", "fidelity", "--family", "sharp"),
        *(("evaluate", *of, "--part", part) for part in ("original", "leaks", "utility")),
        ("calibrate", *of, "--keep-rate", 0.8),
        ("bench", "bad", "--batch", 1, "--rounds", 1, "--quiet"),
    ]
    why = why.split("[2")[0].split("[n")[0].split("(1)")[0]  # they differ in how many at once
    for command in parts:
        ran = run(*command)
        assert (ran.code, ran.err.count("\n")) == (5, 1), (command, ran.err)
        assert ran.err.startswith(f"blurgate: error: the scorer bad {why}"), command
    assert not (tmp_path / "profile.json").exists()


SHARP = BlurKind("sharp", None)


@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        ([], "0 kinds of blur for 1 faces"),
        ([SHARP] * 2, "2 kinds of blur for 1 faces"),
        (["sharp"], "str and not BlurKind for a face"),
        ([BlurKind("motion", float("nan"))], "an angle of nan; None where there is none"),
    ],
)
def test_a_scorer_that_tells_kinds(bad, kinds, why):
    told = {"kinds": ("sharp", "motion"), "with_kinds": lambda self, crops: (ZERO, kinds)}
    bad("scorer", scorer(**told))
    gate = Gate(scorer="bad", kinds=True)
    with pytest.raises(PluginError) as caught:
        gate.crops(np.zeros((1, 112, 112, 3), np.uint8))
    assert str(caught.value) == f"the scorer bad gave something impossible: {why}"


def test_a_detector_that_gives_no_detections(bad, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cv2.imwrite("a.png", np.zeros((64, 64, 3), np.uint8))
    detector = type("Detector", (), {"info": INFO, "__call__": lambda self, frames: [{}]})
    bad("detector", lambda model, runtime, options: detector())
    ran = run("filter", "a.png", "--detector", "bad", "--model", "laplacian", "--out", "o")
    assert ran.code == 5
    assert ran.err == (
        "blurgate: error: the detector bad gave something impossible: "
        "dict and not Detections for a frame\n"
    )


@pytest.mark.parametrize("detect_every", [1, 8])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"boxes": np.float32([[90, 90, 90, 90]])}, ""),
        ({"frame": None}, "Detections of another frame; they must hold the one that was given"),
        ({"det_scores": ZERO - 3}, "det_scores outside [0, 1]: [-3.]"),
        ({"det_scores": ZERO + 1.7}, "det_scores outside [0, 1]: [1.7]"),
        (
            {"boxes": np.float32([[90, 10, 10, 90]])},
            "boxes whose ends lie before their beginnings; they are x1 y1 x2 y2",
        ),
    ],
)
def test_a_detector_that_gives_what_cannot_be(change, why, detect_every):
    def detect(self: Any, frames: Any) -> list[Detections]:
        box = np.float32([[10, 10, 90, 90]])
        own = [Detections(f, box, ZERO + 1, ARCFACE_TEMPLATE[None]) for f in frames]
        other = {"frame": Frame(frames[0].image, "", 0, None)} if "frame" in change else {}
        return [replace(found, **{**change, **other}) for found in own]

    detector = type("Detector", (), {"info": INFO, "__call__": detect})()
    gate = Gate(0.5, detector=detector, scorer="laplacian", detect_every=detect_every)
    image = np.zeros((99, 99, 3), np.uint8)
    if not why:
        assert len(gate(image)) == 1
        return
    said = f"^the detector bad gave something impossible: {re.escape(why)}$"
    with pytest.raises(PluginError, match=said):
        gate(image)
    with pytest.raises(PluginError, match=said):
        list(gate.run([Frame(image, "v", 0, 0.0), SourceEnd("v", "ok", 1, 0)]))


def test_an_embedder(bad):
    from blurgate.training.labels import Labeller

    bad("embedder", raising)
    with pytest.raises(PluginError, match=r"^the embedder bad failed: KeyError"):
        zoo.open_embedder("bad", Runtime("cpu"))
    embedder: Any = type("Embedder", (), {"info": INFO, "__call__": raising})()
    with pytest.raises(PluginError, match=r"^the embedder bad failed: KeyError"):
        Labeller(embedder).embed(np.zeros((1, 112, 112, 3), np.uint8))


def no_context(path: Any, columns: Any, mark: Any) -> Any:
    return SimpleNamespace(write=print)


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        (raising, "KeyError: "),
        (lambda path, columns, mark: None, "TypeError: it made NoneType, which is not a sink"),
        (no_context, "TypeError: it made SimpleNamespace, which is not a sink"),
    ],
)
def test_a_sink(bad, tmp_path, factory, why):
    bad("sink", factory)
    with pytest.raises(PluginError, match=f"^the sink bad failed: {why}") as caught:
        open_table("bad", tmp_path / "o", SCORE_COLUMNS, None)
    assert (caught.value.plugin, caught.value.exit_code) == ("bad", 5)


class Lines:
    """A sink that works."""

    def __init__(self, path: Any, columns: Any, mark: Any) -> None:
        self.path = path

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def write(self, row: Any) -> None:
        with self.path.open("a") as file:  # no method may leave it open by failing
            file.write(row["source"] + "\n")

    def mark(self) -> int:
        return 0

    def sync(self) -> None:
        pass


def no_space(*arguments: Any) -> Any:
    raise OSError(28, "No space left on device", "o/faces.bad")


@pytest.mark.parametrize("method", ["__enter__", "write", "mark", "sync", "__exit__"])
def test_a_sink_that_fails_later(bad, run, marker, tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    image = np.full((160, 320, 3), 60, np.uint8)
    marker.draw(image, 10, 20, 120, sharp=True, seed=1)
    assert cv2.imwrite("a.png", image)
    command = ("filter", "a.png", "--detector", "marker", "--model", "laplacian", "--table", "bad")
    bad("sink", Lines)
    assert run(*command, "--out", "well", "--quiet").code == 0
    assert (tmp_path / "well/faces.bad").read_text() == "a.png\n"
    bad("sink", type("Broken", (Lines,), {method: raising}))
    ran = run(*command, "--out", "o", "--quiet")
    assert (ran.code, ran.out) == (5, "")
    assert ran.err == "blurgate: error: the sink bad failed: KeyError: 'two\\nlines'\n"
    bad("sink", type("Full", (Lines,), {method: no_space}))
    ran = run(*command, "--out", "p", "--quiet")
    assert (ran.code, "No space left on device: 'o/faces.bad'; make room" in ran.err) == (5, True)


@pytest.mark.parametrize("mark", [None, -1, 7.0, np.int64(7), True])
def test_a_sink_whose_mark_is_no_whole_number(bad, tmp_path, mark):
    bad("sink", type("Odd", (Lines,), {"mark": lambda self: mark}))
    said = f"the sink bad failed: TypeError: its mark is {mark!r}, not an int from 0 on"
    with (
        open_table("bad", tmp_path / "o", SCORE_COLUMNS, None) as sink,
        pytest.raises(PluginError, match=re.escape(said)),
    ):
        sink.mark()


def test_a_synthesizer(bad):
    from blurgate.training.pairs import make_chain
    from blurgate.training.streams import Streams

    def chain(**methods: Any) -> Any:
        made = type("Synthesizer", (), {"name": "bad", **methods})
        bad("synthesizer", lambda: made())
        return make_chain("bad", noise=False, compression=False)

    crops, streams = np.zeros((2, 112, 112, 3), np.uint8), Streams(0, range(2))
    bad("synthesizer", raising)
    with pytest.raises(PluginError, match=r"^the synthesizer bad failed: KeyError"):
        make_chain("bad")
    with pytest.raises(PluginError, match=r"^the synthesizer bad failed: KeyError"):
        chain(sample=raising).sample(streams)
    with pytest.raises(PluginError, match=r"synthesizer bad gave .*: 0 rows for 2 images"):
        chain(sample=lambda self, streams, severity: []).sample(streams)
    rows: Any = [{"method": "bad"}, {"method": "bad"}]
    blind = chain(
        sample=lambda self, streams, severity: rows,
        apply=lambda self, images, params, px: images[:, 1:],
    )
    params = blind.sample(streams)
    with pytest.raises(PluginError, match=r"\(2, 111, 112, 3\) for images of \(2, 112, 112, 3\)"):
        blind.apply(crops, params)
    for odd, said in (
        (lambda images: images * np.float32("nan"), "values from nan to nan, outside [0, 1]"),
        (lambda images: images + np.float32(4), "values from 4 to 4, outside [0, 1]"),
        (lambda images: (255 * images).astype(np.uint8), "uint8 for images of float32"),
    ):
        blind = chain(
            sample=lambda self, streams, severity: rows,
            apply=lambda self, images, params, px, odd=odd: odd(images),
        )
        with pytest.raises(PluginError) as caught:
            blind.apply(crops, params)
        assert str(caught.value) == f"the synthesizer bad gave something impossible: {said}"


def test_a_synthesizer_whose_rows_are_no_json(bad, run, tiny, tiny_plugin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cv2.imwrite("a.png", tiny.draw(112, 0))
    rows = [{"method": "bad", "side": ZERO[0]}]
    methods = {
        "name": "bad",
        "sample": lambda self, streams, severity: rows * len(streams),
        "apply": lambda self, images, params, px: images,
    }
    bad("synthesizer", lambda: type("Synthesizer", (), methods)())
    of = ("--aligned", "--blur", "bad", "--embedder", "tiny", "--quiet")
    ran = run("synth", "a.png", *of, "--per-image", 1, "--out", "o")
    assert (ran.code, ran.err.count("\n")) == (5, 1), ran.err
    assert ran.err.startswith("blurgate: error: the synthesizer bad failed: TypeError: Object of ")


def test_a_loss(bad):
    from blurgate.training.loss_sums import parse_loss

    class Bad:
        head = "regression"

        def __call__(self, output: Any, target_degree: Any) -> Any:
            return output / target_degree

    bad("loss", raising)
    with pytest.raises(PluginError, match=r"^the loss bad failed: KeyError"):
        parse_loss("0.5*bad")
    for head, said in (("classes", "ValueError: its head is 'classes', not"), (None, "ValueErr")):
        bad("loss", type("Odd", (Bad,), {"head": head}))
        with pytest.raises(PluginError, match=rf"^the loss bad failed: {said}"):
            parse_loss("bad")
    bad("loss", object)
    with pytest.raises(PluginError, match=r"^the loss bad failed: AttributeError: .* 'head'"):
        parse_loss("bad")
    bad("loss", Bad)
    loss: Any = parse_loss("0.5*bad")
    assert loss(np.float64(3), np.float64(2)) == 0.75
    with pytest.raises(PluginError, match=r"^the loss 0\.5\*bad gave .*: \(2,\) and not one"):
        loss(np.ones(2), 2)
    with pytest.raises(PluginError, match=r"^the loss 0\.5\*bad failed: TypeError"):
        loss("a", "b")


def test_a_backbone(bad):
    torch = pytest.importorskip("torch")
    from blurgate.training.heads import make_head
    from blurgate.training.model import build_model

    class Mean(torch.nn.Module):
        out_features = 3

        def forward(self, images: Any) -> Any:
            assert not self.training
            torch.rand(1)
            return images.mean((2, 3))

    bad("backbone", raising)
    with pytest.raises(PluginError, match=r"^the backbone bad failed: KeyError"):
        build_model("bad")
    bad("backbone", Mean)
    torch.manual_seed(0)
    model: Any = build_model("bad")
    after = torch.rand(1)
    torch.manual_seed(0)
    make_head("regression", in_features=3)
    assert (model.backbone.training, after) == (True, torch.rand(1))  # a trial leaves no trace
    bad("backbone", type("Wide", (Mean,), {"out_features": 4}))
    with pytest.raises(PluginError) as caught:
        build_model("bad")
    assert str(caught.value) == (
        "the backbone bad gave something impossible: (2, 3) for 2 pictures, and its out_features "
        "is 4"
    )
    bad("backbone", type("Flat", (Mean,), {"forward": lambda self, images: images}))
    with pytest.raises(PluginError, match=r"impossible: \(2, 3, 112, 112\) for 2 pictures"):
        build_model("bad")
    bad("backbone", type("Broken", (Mean,), {"forward": raising}))
    with pytest.raises(PluginError, match=r"^the backbone bad failed: KeyError"):
        build_model("bad")
