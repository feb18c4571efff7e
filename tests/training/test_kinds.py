"""The head that tells kinds of blur."""

import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from blurgate import zoo  # noqa: E402
from blurgate.errors import ConfigError  # noqa: E402
from blurgate.interfaces import Runtime  # noqa: E402
from blurgate.training import kinds  # noqa: E402
from blurgate.training.export import card_facts, export  # noqa: E402
from blurgate.training.faces import FaceReader, list_faces  # noqa: E402
from blurgate.training.labels import Labeller  # noqa: E402
from blurgate.training.layout import read_rows  # noqa: E402
from blurgate.training.loop import prepare  # noqa: E402
from blurgate.training.making import Recipe  # noqa: E402
from blurgate.training.model import build_model  # noqa: E402
from blurgate.training.synth import run_synth  # noqa: E402


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("yolov5n_xx").eval()


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    for i in range(12):
        path = root / "in" / f"p{i}" / "a.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), tiny.draw(112, i))
    run_synth(
        list_faces([str(root / "in")], val=0.25),
        Recipe(("linear", "lowres", "random"), per_image=3),
        root / "set",
        reader=FaceReader(112),
        labeller=Labeller(tiny.TinyEmbedder()),
    )
    return root / "set"


def test_the_numbers_that_describe_a_map_are_its_moments():
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 5, 7)))
    got = kinds.pooled([maps]).numpy()
    for n in range(2):
        for c in range(3):
            values = maps[n, c].numpy()
            wanted = [
                values.mean(),
                values.std(),
                np.abs(np.diff(values, axis=1)).mean(),
                np.abs(np.diff(values, axis=0)).mean(),
            ]
            np.testing.assert_allclose(got[n, c::3], wanted, rtol=1e-9)


def test_taps_are_the_first_layers_and_leave_the_features_alone(model):
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        features, seen = kinds.taps(model.backbone, images)
        assert torch.equal(features, model.backbone(images))
        x = images
        for layer, tap in zip(list(model.backbone.layers), seen, strict=False):
            x = layer(x)
            assert torch.equal(x, tap)
    assert len(seen) == kinds.TAPS
    with pytest.raises(ConfigError, match=r"needs a backbone with an nn\.Sequential of at least 5"):
        kinds.taps(torch.nn.Sequential(torch.nn.Linear(3, 3)), images)


def test_truth_is_what_the_synthesizers_wrote_down(folder):
    rows = kinds.read_kinds(folder, "train")
    assert len(rows.files) == 9 * 9  # 9 of 12 people, 3 methods of 3 pictures
    written = {
        row["file"]: json.loads(row["parameters"])["blur"]
        for method in ("linear", "lowres", "random")
        for row in read_rows(folder, method)
    }
    by = {file: blur.get("method", file.split("/")[0][5:]) for file, blur in written.items()}
    assert {by[file] for file in rows.files} == {
        "linear",
        "deblurgan",
        "defocus",
        "gaussian",
        "lowres",
    }
    for i, file in enumerate(rows.files):
        # The angle of a shake is no direction of a motion: its path bends.
        if by[file] == "linear":
            assert rows.angle[i] == np.float32(written[file]["angle_deg"])
        else:
            assert np.isnan(rows.angle[i])
        name = kinds.KINDS[rows.kind[i]]
        if rows.degree[i] < kinds.SHARP_BELOW:
            assert name == "sharp"
        elif file.startswith("blur_linear/"):
            assert (name, np.isnan(rows.angle[i])) == ("motion", False)
        elif file.startswith("blur_lowres/"):
            assert (name, np.isnan(rows.angle[i])) == ("lowres", True)
    assert len(kinds.read_kinds(folder, "val").files) == 3 * 9


def test_a_head_learns_and_its_accuracy_is_counted_on_other_people(model, folder):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = kinds.fit_kinds(model, [folder], seed=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    rows = kinds.read_kinds(folder, "val")
    pictures = np.stack([cv2.imread(str(folder / file)) for file in rows.files])
    with torch.no_grad():
        tensor = prepare(torch.from_numpy(pictures).permute(0, 3, 1, 2))
        chance, direction = found.head(kinds.pooled(kinds.taps(model.backbone, tensor)[1]))
    told = chance.argmax(1).numpy()
    counted = rows.degree > 0.2
    facts = found.facts
    assert facts["pictures"] == counted.sum() > 5
    assert facts["accuracy"] == pytest.approx((told == rows.kind)[counted].mean())
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, (rows.kind[counted], told[counted]), 1)
    assert facts["confusion"] == confusion.tolist()
    np.testing.assert_allclose(chance.sum(1).numpy(), 1, rtol=1e-5)
    straight = counted & ~np.isnan(rows.angle)
    cosine, sine = direction.numpy().T
    angle = np.degrees(np.arctan2(sine, cosine)) / 2
    off = np.abs((angle - rows.angle + 90) % 180 - 90)[straight]
    assert facts["angle_median_error_deg"] == pytest.approx(np.sort(off)[(len(off) - 1) // 2])
    again = kinds.fit_kinds(model, [folder], seed=1)
    assert again.facts == facts


def test_the_exported_file_tells_what_the_head_tells(model, folder, tmp_path):
    found = kinds.fit_kinds(model, [folder])
    path = tmp_path / "m.onnx"
    card = card_facts("m", threshold=0.4, kinds=kinds.KINDS)
    assert export(model, path, card, kinds=found.head) <= 1e-4
    scorer = zoo.open_scorer(str(path), Runtime("cpu"))
    rows = kinds.read_kinds(folder, "val")
    pictures = np.stack([cv2.imread(str(folder / file)) for file in rows.files])
    degrees, told = scorer.with_kinds(pictures)
    np.testing.assert_allclose(degrees, scorer(pictures), atol=1e-6)
    with torch.no_grad():
        tensor = prepare(torch.from_numpy(pictures).permute(0, 3, 1, 2))
        chance, _ = found.head(kinds.pooled(kinds.taps(model.backbone, tensor)[1]))
    assert [one.kind for one in told] == [kinds.KINDS[i] for i in chance.argmax(1)]


def test_a_head_that_is_wrong_too_often_is_not_good():
    head = kinds.KindHead(4)
    assert not kinds.Kinds(head, {"accuracy": 0.85, "missing": []}).good
    assert kinds.Kinds(head, {"accuracy": 0.8501, "missing": []}).good
    assert not kinds.Kinds(head, {"accuracy": 1.0, "missing": ["lowres"]}).good


def test_a_head_that_has_not_met_every_kind_is_not_good(model, folder, monkeypatch):
    assert kinds.fit_kinds(model, [folder]).facts["missing"] == []
    read = kinds.read_kinds

    def read_less(where, split):
        """Of one kind there is nothing to learn from, of another nothing to be validated on."""
        rows = read(where, split)
        kept = rows.kind != kinds.KINDS.index("lowres" if split == "train" else "motion")
        files = [file for file, is_kept in zip(rows.files, kept, strict=True) if is_kept]
        numbers = (rows.kind[kept], rows.angle[kept], rows.degree[kept])
        return kinds.KindRows(where, files, *numbers)

    monkeypatch.setattr(kinds, "read_kinds", read_less)
    found = kinds.fit_kinds(model, [folder])
    assert found.facts["missing"] == ["motion", "lowres"]
    assert found.facts["angle_median_error_deg"] is None
    assert not found.good


@pytest.mark.parametrize("method", ["random", "linear"])
def test_data_without_known_kinds_is_refused(model, tiny, tmp_path, method):
    for i in range(4):
        path = tmp_path / "in" / f"p{i}" / "a.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), tiny.draw(112, i))
    run_synth(
        list_faces([str(tmp_path / "in")], val=0.5),
        Recipe((method,), iterative=2),  # several blurs at once have no one kind
        tmp_path / "set",
        reader=FaceReader(112),
        labeller=Labeller(tiny.TinyEmbedder()),
    )
    assert kinds.read_kinds(tmp_path / "set", "train").files == []
    with pytest.raises(ConfigError, match="no pictures of known kinds of blur"):
        kinds.fit_kinds(model, [tmp_path / "set"])


def test_a_convolution_and_what_follows_it_are_one_layer():
    torch.manual_seed(0)
    backbone = build_model("mobilenetv2_0.5").eval().backbone
    _, maps = kinds.taps(backbone, torch.randn(2, 3, 112, 112))
    assert [m.shape[1:] for m in maps] == [
        (16, 56, 56), (8, 56, 56), (16, 28, 28), (16, 28, 28), (16, 14, 14)
    ]  # fmt: skip
    assert maps[0].min() >= 0  # after the activation
    assert maps[1].min() < 0  # a bottleneck has none
