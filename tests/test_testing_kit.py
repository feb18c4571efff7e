"""The contract kit: plugins that break one sentence each are caught at that sentence."""

from __future__ import annotations

import re
import threading
import unittest
from pathlib import Path

import numpy as np
import pytest

from blurgate.errors import ConfigError, ShapeError
from blurgate.hookspecs import hookimpl
from blurgate.interfaces import ModelInfo
from blurgate.testing import KINDS, ContractError, checks, common
from blurgate.types import BlurKind, Detections, check_array

COOKBOOK = Path(__file__).parent.parent / "docs" / "cookbook"


def page(kind):
    """The names defined by the plugin of a page of the cookbook."""
    text = (COOKBOOK / f"{kind}.md").read_text(encoding="utf-8")
    scope = {"__name__": kind}
    exec(re.search(r"```python\n# \w+\.py\n(.*?)```", text, re.DOTALL)[1], scope)
    return scope


def broken_at(kind, plugin, **facts):
    """The names of the checks that a plugin fails, with what they say."""
    found = {}
    for check in checks(kind, plugin, **facts):
        try:
            check()
        except ContractError as error:
            found[check.name] = str(error)
        except unittest.SkipTest:
            continue
    return found


def only(found, name, message):
    assert list(found) == [name], found
    assert re.search(message, found[name]), found[name]


def fails(kind, plugin, name, message):
    """One check alone, for kinds whose checks take their time."""
    (check,) = (check for check in checks(kind, plugin) if check.name == name)
    with pytest.raises(ContractError, match=message):
        check()


# --- scorers and embedders ------------------------------------------------------------------

Gradient = page("scorer")["Gradient"]


class NoInfo(Gradient):
    info = "gradient"


class NoThreshold(Gradient):
    threshold = None


class Doubles(Gradient):
    def __call__(self, crops):
        return super().__call__(crops).astype(np.float64)


class TooLarge(Gradient):
    def __call__(self, crops):
        return super().__call__(crops) * 2


class NeedsFaces(Gradient):
    def __call__(self, crops):
        degrees = super().__call__(crops)
        return degrees if len(degrees) else None


class Relative(Gradient):
    """Compares faces with the others of their batch."""

    def __call__(self, crops):
        degrees = super().__call__(crops)
        return degrees / max(degrees.max(initial=0), 0.1) if len(degrees) else degrees


class Remembers(Gradient):
    last = 0.0

    def __call__(self, crops):
        degrees = super().__call__(crops)
        self.last += 1e-3
        return np.clip(degrees + np.float32(self.last), 0, 1)


class OneThreadOnly(Gradient):
    """Keeps what it works on in itself, as many wrappers of libraries do."""

    home = threading.get_ident()

    def __call__(self, crops):
        if threading.get_ident() != self.home:
            raise RuntimeError("made in another thread")
        return super().__call__(crops)


class KeepsItsWork(Gradient):
    """Another thread's crops may lie in it by the time it looks again."""

    def __call__(self, crops):
        check_array("crops", crops, (None, 112, 112, 3), "uint8")
        self.work = crops.astype(np.float32)
        means = self.work.mean(axis=(1, 2, 3), keepdims=True)
        energy = ((self.work - means) ** 2).mean(axis=(1, 2, 3))
        return (1 / (1 + energy / 60)).astype(np.float32)


class TakesAnything(Gradient):
    def __call__(self, crops):
        return np.full(len(crops), 0.5, np.float32)


class Scribbles(Gradient):
    def __call__(self, crops):
        degrees = super().__call__(crops)
        if crops.flags.writeable:
            crops[:] = 0
        return degrees


def scorer(kind):
    return lambda model, runtime: kind()


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (NoInfo, "says-who-it-is-and-its-threshold", "`info` must be a ModelInfo, got 'gradient'"),
        (NoThreshold, "says-who-it-is-and-its-threshold", "number in .0, 1., got None"),
        (Relative, "batch-of-one-equals-batch-of-many", "of a batch of one and of many: they diff"),
        (OneThreadOnly, "repeats-itself-also-in-threads", "from 4 threads at once failed"),
        (KeepsItsWork, "repeats-itself-also-in-threads", "several threads at once .keep nothing"),
        (Scribbles, "repeats-itself-also-in-threads", r"the second time|changed the crops"),
        (TakesAnything, "refuses-what-are-no-crops", "one crop without a batch must raise"),
    ],
)
def test_broken_scorers(kind, name, message):
    only(broken_at("scorer", scorer(kind)), name, message)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (Doubles, "gives-one-degree-per-crop", r"must be float32 of \(9,\), got float64"),
        (TooLarge, "gives-one-degree-per-crop", r"must lie in \[0, 1\]"),
        (NeedsFaces, "takes-no-crops", "must be a NumPy array, got NoneType"),
        (Remembers, "repeats-itself-also-in-threads", "the second time: they differ"),
    ],
)
def test_scorers_that_break_more_than_one_sentence(kind, name, message):
    assert re.search(message, broken_at("scorer", scorer(kind))[name])


def test_a_good_scorer_passes():
    assert broken_at("scorer", scorer(Gradient)) == {}


def test_scorers_that_tell_kinds():
    class Tells(Gradient):
        kinds = ("sharp", "motion")

        def with_kinds(self, crops):
            return self(crops), [BlurKind("sharp", None) for _ in crops]

    def changed(change):
        told = lambda self, crops: change(*Tells.with_kinds(self, crops))  # noqa: E731
        return scorer(type("Changed", (Tells,), {"with_kinds": told}))

    assert broken_at("scorer", scorer(Tells)) == {}
    odd = BlurKind("low", None)
    for factory, said in (
        (scorer(type("Silent", (Gradient,), {"kinds": Tells.kinds})), "kinds` and no `with_"),
        (changed(lambda degrees, kinds: (degrees[::-1], kinds)), "beside kinds and alone: they di"),
        (changed(lambda degrees, kinds: (degrees, kinds[1:])), "5 crops must give as many Blur"),
        (changed(lambda degrees, kinds: (degrees, [odd] * 5)), "the kind 'low', not one of"),
    ):
        only(broken_at("scorer", factory), "tells-one-kind-per-crop", said)


def test_broken_embedders():
    thumbnail = page("embedder")["Thumbnail"]

    class Longer(thumbnail):
        def __call__(self, crops):
            return super().__call__(crops) * np.float32(1.5)

    class Same(thumbnail):
        def __call__(self, crops):
            return np.broadcast_to(super().__call__(crops[:1])[:1], (len(crops), 2352 + 1)).copy()

    class Flat(thumbnail):
        def __call__(self, crops):
            vectors = super().__call__(crops)
            return vectors if len(vectors) else np.empty(0, np.float32)

    class NoLength(thumbnail):
        def __call__(self, crops):
            vectors = super().__call__(crops)[:, :-1]
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            return vectors / np.maximum(lengths, np.float32(1e-6))

    def made(kind):
        return lambda model, runtime: kind()

    assert broken_at("embedder", made(thumbnail)) == {}
    only(broken_at("embedder", made(Longer)), "gives-vectors-of-length-one", "length 1, got .1.5")
    only(broken_at("embedder", made(NoLength)), "gives-vectors-of-length-one", "length 1, got .* 0")
    only(broken_at("embedder", made(Flat)), "takes-no-crops", r"float32 of \(0, 2353\)")
    assert "tells-crops-apart" in broken_at("embedder", made(Same))


# --- detectors ------------------------------------------------------------------------------

Whole = page("detector")["WholePicture"]


class Reversed(Whole):
    def __call__(self, frames):
        return super().__call__(frames)[::-1]


class WidthHeight(Whole):
    def _find(self, frame):
        found = super()._find(frame)
        box = np.float32([[50, 50, 20, 20]])
        return Detections(frame, box, found.det_scores, found.kps)


class Rising(Whole):
    def _find(self, frame):
        found = super()._find(frame)
        boxes, kps = found.boxes.repeat(2, 0), found.kps.repeat(2, 0)
        return Detections(frame, boxes, np.float32([0.5, 0.9]), kps)


class FearsFlat(Whole):
    def _find(self, frame):
        if frame.image.std() == 0:
            raise ZeroDivisionError
        return super()._find(frame)


class Mirrored(Whole):
    """Says left and right as the person does."""

    def _find(self, frame):
        found = super()._find(frame)
        return Detections(frame, found.boxes, found.det_scores, found.kps[:, [1, 0, 2, 4, 3]])


class Unscaled(Whole):
    """Leaves boxes and landmarks in pixels of its own, larger input."""

    def _find(self, frame):
        found = super()._find(frame)
        return Detections(frame, found.boxes + 640, found.det_scores, found.kps + 640)


class Drifts(Whole):
    seen = 0

    def _find(self, frame):
        self.seen += 1
        found = super()._find(frame)
        return Detections(frame, found.boxes + self.seen, found.det_scores, found.kps)


class ReportsAll(Whole):
    """Does not look at the options."""

    def _find(self, frame):
        found = super()._find(frame)
        return Detections(frame, found.boxes, found.det_scores * np.float32(0.6), found.kps)


class KeepsFrames(Whole):
    def __call__(self, frames):
        self.frames = list(frames)
        return [self._find(self.frames[i]) for i in range(len(frames))]


def test_broken_detectors():
    def found(kind):
        picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        return broken_at("detector", lambda m, r, o: kind(), pictures=[picture])

    assert found(Whole) == {}
    assert "hold another frame" in found(Reversed)["gives-detections-of-each-frame-in-order"]
    assert "not x y w h" in found(WidthHeight)["gives-detections-of-each-frame-in-order"]
    assert "scores must fall" in found(Rising)["gives-detections-of-each-frame-in-order"]
    only(found(Mirrored), "finds-faces-where-there-are-some", "left to right as seen")
    only(found(Unscaled), "finds-faces-where-there-are-some", "outside of its picture of 64x64")
    assert {"batch-of-one-equals-batch-of-many", "repeats-itself-also-in-threads"} <= {
        *found(Drifts)
    }
    least = "reports-no-face-below-the-least-score"
    only(found(ReportsAll), least, "min_score is 0.99, and it gives a face of 0.6")
    only(found(KeepsFrames), "repeats-itself-also-in-threads", "in threads it gave Detections")
    with pytest.raises(ZeroDivisionError):  # an error of the plugin's own shows where it is
        found(FearsFlat)
    skipped = checks("detector", lambda m, r, o: Whole())[4]
    with pytest.raises(unittest.SkipTest, match="give `pictures`"):
        skipped()


# --- sinks ----------------------------------------------------------------------------------


def test_broken_sinks():
    tsv = page("sink")["TsvSink"]

    class Swallows(tsv):
        def __exit__(self, kind, error, trace):
            super().__exit__(kind, error, trace)
            return True

    class MarksNothing(tsv):
        def mark(self):
            return 0

    class Litters(tsv):
        def __enter__(self):
            self._path.with_suffix(".lock").touch()
            return super().__enter__()

    class Appends(tsv):
        def __init__(self, path, columns, mark):
            super().__init__(path, columns, path.stat().st_size if path.exists() else mark)

    class Empties(tsv):
        def write(self, row):
            super().write(row)
            if row["n"] == -3:
                row["x"] = None

    class NeverSyncs(tsv):
        def sync(self):
            pass

    class StartsAnew(tsv):
        def __init__(self, path, columns, mark):
            super().__init__(path, columns, None)

    def read(path):
        _head, *lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            name, n, x = line.split("\t")
            name = 'a,"b"\nc' if name == 'a,"b" c' else name
            yield {"name": name, "n": int(n) if n else None, "x": float(x) if x else None}

    def found(kind):
        return broken_at("sink", kind, read=read)

    assert found(tsv) == {}
    only(found(Litters), "writes-rows", r"besides the table it leaves \['t', 't.lock'\]")
    assert "4 rows were written, 6 are there" in found(Appends)["writes-rows"]
    assert "`write` changed its row from" in found(Empties)["writes-rows"]
    only(found(NeverSyncs), "what-was-synced-survives-a-crash", "`sync` must bring the rows to the")
    assert "swallowed" in found(Swallows)["an-error-leaves-what-was-written"]
    assert "4 rows were written, 3" in found(StartsAnew)["resumes-at-a-mark"]
    assert "raised nothing" in found(StartsAnew)["refuses-a-table-that-is-not-the-one"]
    assert {"resumes-at-a-mark", "a-complete-table-can-be-continued"} <= {*found(MarksNothing)}


# --- what is made of torch ------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason='it needs: pip install "blurgate[train]"')


def test_broken_backbones(torch):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self, *, width=8):
            super().__init__()
            self.first = nn.Conv2d(3, width, 8, 8)
            self.out_features = width

        def forward(self, images):
            return self.first(images).relu().mean((2, 3))

    class Wrong(Net):
        def __init__(self):
            super().__init__()
            self.out_features = 9

    class Idle(Net):
        def __init__(self):
            super().__init__()
            self.second = nn.Linear(2, 2)

    class OfItsBatch(Net):
        def forward(self, images):
            return super().forward(images - images.mean(0))

    class OwnSeed(Net):
        def __init__(self):
            super().__init__()
            nn.init.normal_(self.first.weight, generator=torch.Generator().manual_seed(0))
            nn.init.zeros_(self.first.bias)

    class Keeps(Net):
        """Draws something that is not in its state."""

        def __init__(self):
            super().__init__()
            self.shift = torch.randn(3, 1, 1)

        def forward(self, images):
            return super().forward(images + self.shift)

    class Unexportable(Net):
        def forward(self, images):
            if images.sum() > 1e9:
                return super().forward(images * 2)
            return super().forward(images)

    def positional(width=8):
        return Net(width=width)

    for check in checks("backbone", Net)[:-1]:
        check()
    for factory, name, message in (
        (positional, "takes-keywords-only", r"keyword-only: \(width=8\)"),
        (Wrong, "gives-features-of-the-promised-width", r"\(2, 9\), got torch.float32 of \(2, 8\)"),
        (Idle, "every-weight-learns", "second.weight has no gradient"),
        (OfItsBatch, "batch-of-one-equals-batch-of-many", "they differ"),
        (OwnSeed, "the-seed-decides-the-weights", "every seed gives the same weights"),
        (Keeps, "its-state-is-all-there-is", "after loading the weights"),
    ):
        fails("backbone", factory, name, message)
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason='it needs: pip install "blurgate[train,cpu]"')
    fails("backbone", Unexportable, "exports-to-onnx", "cannot be exported to ONNX")


def test_broken_losses(torch):
    good = page("loss")["LogCosh"]

    class Sums(good):
        def __call__(self, output, target_degree):
            return super().__call__(output, target_degree) * len(output)

    class Uphill(good):
        def __call__(self, output, target_degree):
            return -super().__call__(output, target_degree)

    class WrongGradient(good):
        def __call__(self, output, target_degree):
            value = super().__call__(output, target_degree)
            return value - 2 * (value - value.detach())

    class Shares(good):
        def __call__(self, output, target_degree):
            value = super().__call__(output, target_degree)
            return value + (output[:, 0] - target_degree).abs().div(target_degree).mean()

    class AnyHead(good):
        head = "regression"

        def __call__(self, output, target_degree):
            return ((output.float().mean(1) - target_degree) ** 2).mean()

    class NoHead(good):
        head = "classes"

    assert broken_at("loss", good) == {}
    only(broken_at("loss", Sums), "gives-one-number-per-batch", "not the mean over the batch")
    only(broken_at("loss", Uphill), "prefers-the-truth", "the right degrees cost -")
    only(broken_at("loss", WrongGradient), "goes-downhill", "a step against the gradient took it")
    only(broken_at("loss", Shares), "goes-downhill", "where the true degrees are 0 and 1")
    assert {"says-which-head-it-needs", "refuses-what-is-no-number"} == {
        *broken_at("loss", AnyHead)
    }
    fails("loss", NoHead, "says-which-head-it-needs", "'regression' or 'bins', got 'classes'")


# --- synthesizers ---------------------------------------------------------------------------


MESSAGES = {
    "an-image-does-not-depend-on-its-batch": "alone and in a batch: they differ",
    "severity-zero-is-no-blur": "before and after severity 0: they differ",
    "more-severity-never-sharpens": "blur must grow with severity",
    "flat-pictures-stay-flat": "a flat picture before and after: they differ",
    "rows-name-their-method-and-survive-json": "a row cannot be JSON",
    "keeps-shape-dtype-and-range": "must be uint8 of .*, got float32",
    "refuses-what-does-not-fit": "two streams must raise BlurgateError; it raised nothing",
}


def test_broken_synthesizers():
    box = page("synthesizer")["box"]

    def changed(**methods):
        def make(*, max_side=41.0):
            plain = box(max_side=max_side)
            own = {name: method(plain) for name, method in methods.items()}
            return type("Changed", (type(plain),), own)()

        return make

    cases = {
        # in the batch: every image as much as the first
        "an-image-does-not-depend-on-its-batch": changed(
            raw_kernels=lambda plain: (
                lambda self, params, px, arrays: plain.raw_kernels(
                    [params[0]] * len(params), px, arrays
                )
            )
        ),
        "severity-zero-is-no-blur": changed(
            sample=lambda plain: (
                lambda self, streams, severity=None, /: plain.sample(
                    streams,
                    None if severity is None else severity * np.float32(0.5) + np.float32(0.5),
                )
            )
        ),
        "more-severity-never-sharpens": changed(
            sample=lambda plain: lambda self, streams, severity=None, /: plain.sample(streams)
        ),
        "flat-pictures-stay-flat": changed(
            blur_numpy=lambda plain: (
                lambda self, images, params, px: (
                    plain.blur_numpy(images, params, px) * np.float32(0.9)
                )
            )
        ),
        "rows-name-their-method-and-survive-json": changed(
            sample=lambda plain: (
                lambda self, streams, severity=None, /: [
                    {**row, "side_px": np.float32(row["side_px"])}
                    for row in plain.sample(streams, severity)
                ]
            )
        ),
        "keeps-shape-dtype-and-range": changed(
            apply=lambda plain: (
                lambda self, images, params, /, *, px: (
                    (plain.apply(images, params, px=px) if len(images) else images).astype(
                        np.float32
                    )
                    if isinstance(images, np.ndarray)
                    else plain.apply(images, params, px=px)
                )
            )
        ),
        "refuses-what-does-not-fit": changed(
            sample=lambda plain: (
                lambda self, streams, severity=None, /: plain.sample(
                    streams,
                    severity
                    if severity is None or len(severity) != len(streams)
                    else np.clip(severity, 0, 1),
                )
            )
        ),
    }
    for name, factory in cases.items():
        fails("synthesizer", factory, name, MESSAGES[name])


def test_rows_of_another_name_are_found():
    box = page("synthesizer")["box"]

    def make():
        plain = box()

        class Other(type(plain)):
            def sample(self, streams, severity=None, /):
                return [{**row, "method": "squares"} for row in plain.sample(streams, severity)]

        return Other()

    said = "must be the synthesizer's name, 'box', got 'squares'"
    fails("synthesizer", make, "rows-name-their-method-and-survive-json", said)


def test_torch_that_disagrees_is_found(torch):
    box = page("synthesizer")["box"]

    def make():
        plain = box()

        class Other(type(plain)):
            def blur_torch(self, images, params, px):
                return plain.blur_torch(images, params, px * 1.1)

        return Other()

    fails("synthesizer", make, "torch-agrees-with-numpy", "at 112 px: they differ by up to")


def test_a_tensor_that_is_written_into_is_found(torch):
    box = page("synthesizer")["box"]

    def make():
        plain = box()

        class Scribbles(type(plain)):
            def blur_torch(self, images, params, px):
                blurred = super().blur_torch(images, params, px)
                images.zero_()
                return blurred

        return Scribbles()

    fails("synthesizer", make, "torch-agrees-with-numpy", "changed its input, a tensor")


# --- commands and modules -------------------------------------------------------------------


class Module:
    __name__ = "no_such_module"

    def __init__(self, *functions, **named):
        for function in functions:
            setattr(self, function.__name__, function)
        for name, function in named.items():
            setattr(self, name, function)


def commands(name, function, epilog=""):
    return Module(register_commands=lambda app: app.command(name, epilog=epilog)(function))


def silent():
    pass


def talks():
    """Say something."""


def test_broken_commands():
    example = "blurgate shout"
    assert broken_at("command", commands("shout", talks, example)) == {}
    only(
        broken_at("command", Module(register_commands=lambda app: None)),
        "adds-commands-with-names-of-their-own",
        "added no command",
    )
    only(
        broken_at("command", commands("filter", talks, "blurgate filter")),
        "adds-commands-with-names-of-their-own",
        "blurgate has a command 'filter' of its own",
    )
    only(
        broken_at("command", commands("Shout", talks, "blurgate Shout")),
        "adds-commands-with-names-of-their-own",
        "lower-case words",
    )
    only(
        broken_at("command", commands("shout", silent, example)),
        "help-says-what-and-shows-an-example",
        "give the function a docstring",
    )
    only(
        broken_at("command", commands("shout", talks)),
        "help-says-what-and-shows-an-example",
        "shows no example",
    )


def test_broken_modules(tmp_path, monkeypatch):
    @hookimpl
    def register_scorers(register):
        register("laplacian", silent)

    @hookimpl
    def register_skorers(register):
        pass

    found = broken_at("plugin", Module(register_scorers))
    assert (
        "already registered by blurgate.plugins.scorers.laplacian"
        in (found["registers-names-that-are-free"])
    )
    found = broken_at("plugin", Module(register_skorers))
    assert "register_skorers" in found["hooks-are-those-that-exist"]
    found = broken_at("plugin", Module())
    assert "registers nothing at all" in found["registers-names-that-are-free"]
    (tmp_path / "heavy_plugin.py").write_text("import cv2\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = broken_at("plugin", "heavy_plugin")
    assert "heavy_plugin and calling its hooks imports cv2" in found["is-cheap-to-import"]
    assert "no installed distribution" in found["an-installed-distribution-names-it"]


def test_commands_are_registered_too():
    def registers(app):
        app.command("shout")(talks)

    def takes(app):
        app.command("filter")(talks)

    def raises(app):
        raise KeyError("shout")

    for hook, said in (
        (registers, "registers nothing at all; every hook carries `blurgate.hookimpl`"),
        (hookimpl(takes), "the command 'filter' of plugin under test is already registered"),
        (hookimpl(raises), "KeyError: 'shout'"),
    ):
        name = "registers-names-that-are-free"
        fails("plugin", Module(register_commands=hook), name, said)
    assert "registers-names-that-are-free" not in broken_at(
        "plugin", Module(register_commands=hookimpl(registers))
    )


def test_hooks_that_import_what_is_heavy(tmp_path, monkeypatch):
    code = "from blurgate import hookimpl\n@hookimpl\ndef register_{}:\n    import cv2\n"
    for name, hook in (("heavy_hook", "scorers(register)"), ("heavy_command", "commands(app)")):
        (tmp_path / f"{name}.py").write_text(code.format(hook))
        monkeypatch.syspath_prepend(tmp_path)
        fails("plugin", name, "is-cheap-to-import", "calling its hooks imports cv2; import them in")


# --- the kit itself -------------------------------------------------------------------------


def test_wrong_questions():
    with pytest.raises(ConfigError, match="no contract for the kind 'scores'; there are backbone"):
        checks("scores", "laplacian")
    with pytest.raises(ConfigError, match=r"a scorer takes no such fact: .*'pictures'"):
        checks("scorer", "laplacian", pictures=[])


def test_checks_have_the_names_of_sentences():
    for kind in KINDS:
        subject = "blurgate.cli.plugins" if kind in ("command", "plugin") else "some-name"
        names = [str(check) for check in checks(kind, subject)]
        assert len(names) == len(set(names)) >= 3
        assert all(name.startswith(f"{subject}-") for name in names)


def test_errors_of_another_type_are_not_a_refusal():
    with (
        pytest.raises(ContractError, match=r"a thing must raise ShapeError; it raised KeyError"),
        common.refused("a thing", ShapeError),
    ):
        raise KeyError("x")
    with (
        pytest.raises(ContractError, match="has no message"),
        common.refused("a thing", ShapeError),
    ):
        raise ShapeError("")


def test_neither_pytest_nor_torch_is_needed(printed):
    code = (
        "import sys; sys.modules['pytest'] = sys.modules['torch'] = None\n"
        "from blurgate.testing import checks\n"
        "for check in checks('scorer', 'laplacian'): check()\n"
        "print('passed')\n"
    )
    assert printed(code).strip() == "passed"


def test_info_has_a_checksum_or_none():
    class Model:
        info = ModelInfo("x", "abc")

    with pytest.raises(ContractError, match="64 hex digits, got 'abc'"):
        common.check_info(Model())
    check_array("degrees", np.zeros(1, np.float32), (None,), "float32")
