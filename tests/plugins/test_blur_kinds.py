"""The kind of blur, from a model's second output to the columns of faces.csv."""

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from blurgate import Gate
from blurgate.errors import ConfigError, WeightsError
from blurgate.interfaces import ModelFile, ModelInfo, Runtime
from blurgate.plugins.scorers.onnx import OnnxScorer
from blurgate.runtime import make_session

ROOT = Path(__file__).parents[2]
CPU = Runtime("cpu")
CARD = {
    "kind": "scorer",
    "threshold": 0.5,
    "input": {"color": "bgr", "mean": 0, "std": 255},
    "output": {"type": "degree", "tensor": "degree", "kinds": ["sharp", "motion", "defocus"]},
}


def model(path, *, outputs=("degree", "kind", "direction"), batch="n"):
    """Write a model: degree = mean blue; kinds = blue, green, red; direction = (green, red)."""
    pick = {
        "degree": np.array([[1], [0], [0]], np.float32),
        "kind": np.eye(3, dtype=np.float32),
        "direction": np.array([[0, 0], [1, 0], [0, 1]], np.float32),
    }
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0)]
    nodes += [helper.make_node("MatMul", ["m", f"w_{name}"], [name]) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 112, 112])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(pick[name], f"w_{name}") for name in outputs],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(whole.SerializeToString())
    return path


def scorer(path, card=CARD):
    return OnnxScorer(ModelFile(path, ModelInfo("m", "ab" * 32), card), CPU)


def flat(*colours):
    crops = np.zeros((len(colours), 112, 112, 3), np.uint8)
    crops[:] = np.array(colours, np.uint8).reshape(-1, 1, 1, 3)
    return crops


def test_kinds_and_angles_are_read_from_the_second_outputs(tmp_path):
    told = scorer(model(tmp_path / "m.onnx"))
    assert told.kinds == ("sharp", "motion", "defocus")
    # Blue is most: sharp. Green is most: motion; (cos, sin) of twice the angle = (green, red).
    crops = flat((250, 10, 0), (10, 200, 0), (0, 100, 99), (0, 10, 200))
    degrees, kinds = told.with_kinds(np.repeat(crops, 20, axis=0))
    np.testing.assert_allclose(degrees[::20], [250 / 255, 10 / 255, 0, 0], atol=2e-5)
    np.testing.assert_array_equal(degrees, told(np.repeat(crops, 20, axis=0)))
    assert [one.kind for one in kinds[::20]] == ["sharp", "motion", "motion", "defocus"]
    assert [one.angle for one in kinds[::20]] == [
        None,
        pytest.approx(0, abs=1e-3),
        pytest.approx(np.degrees(np.arctan2(99, 100)) / 2, abs=1e-3),
        None,
    ]
    nothing, none = told.with_kinds(crops[:0])
    assert (len(nothing), none) == (0, [])


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_a_fixed_batch_is_filled_up(tmp_path, count):
    crops = np.resize(flat((250, 10, 0), (10, 200, 0), (0, 10, 200)), (count, 112, 112, 3))
    degrees, kinds = scorer(model(tmp_path / "fixed.onnx", batch=4)).with_kinds(crops)
    wanted, others = scorer(model(tmp_path / "free.onnx")).with_kinds(crops)
    np.testing.assert_allclose(degrees, wanted, atol=1e-6)
    assert kinds == others
    assert len(kinds) == count


def test_the_usual_session_leaves_the_second_outputs_out(tmp_path):
    path = model(tmp_path / "m.onnx")
    told = scorer(path)
    assert [out.name for out in told._session.get_outputs()] == ["degree"]
    assert "_with_kinds" not in vars(told)  # opened when it is asked for
    every = [out.name for out in make_session(path, CPU).get_outputs()]
    assert every == ["degree", "kind", "direction"]
    kept = make_session(path, CPU, ["kind"])
    assert [out.name for out in kept.get_outputs()] == ["kind"]
    x = np.full((1, 3, 112, 112), 0.5, np.float32)
    np.testing.assert_allclose(kept.run(None, {"x": x})[0], [[0.5] * 3], rtol=1e-4)
    # The file without an output, and the node that gives it, is as the onnx package writes it.
    from blurgate.onnxfile import with_outputs

    edited = onnx.load_from_string(with_outputs(path.read_bytes(), ["degree", "direction"], path))
    wanted = onnx.load(path)
    del wanted.graph.output[1]
    (alone,) = [node for node in wanted.graph.node if "kind" in node.output]
    wanted.graph.node.remove(alone)
    assert edited == wanted
    with pytest.raises(WeightsError, match=r"m\.onnx has no output 'nothing'"):
        make_session(path, CPU, ["nothing"])


def test_a_card_that_promises_more_than_the_model_gives_is_an_error(tmp_path):
    card = {**CARD, "output": {**CARD["output"], "kinds": ["sharp", "motion"]}}
    told = scorer(model(tmp_path / "m.onnx"), card)
    with pytest.raises(WeightsError, match=r"gave kinds of \(1, 3\) and directions of \(1, 2\)"):
        told.with_kinds(flat((1, 2, 3)))
    with pytest.raises(WeightsError, match=r"output\.kinds must be a list of texts"):
        scorer(tmp_path / "m.onnx", {**CARD, "output": {**CARD["output"], "kinds": "motion"}})
    formula = {**CARD["output"], "kinds": ["sharp", '=HYPERLINK("http://x","y")']}
    with pytest.raises(WeightsError, match=r"output\.kinds must be names of small letters"):
        scorer(tmp_path / "m.onnx", {**CARD, "output": formula})


@pytest.mark.parametrize("name", ["kind", "direction"])
def test_kinds_that_are_not_numbers_are_an_error(tmp_path, name):
    whole = onnx.load(model(tmp_path / "m.onnx"))
    (weight,) = [w for w in whole.graph.initializer if w.name == f"w_{name}"]
    broken = np.full(list(weight.dims), np.nan, np.float32)
    weight.CopyFrom(numpy_helper.from_array(broken, weight.name))
    onnx.save(whole, tmp_path / "n.onnx")
    told = scorer(tmp_path / "n.onnx")
    with pytest.raises(WeightsError, match="kinds or directions that are not numbers"):
        told.with_kinds(flat((10, 200, 0)))


def test_a_gate_carries_the_kind(tmp_path):
    path = model(tmp_path / "m.onnx")
    (tmp_path / "m.json").write_text(json.dumps(CARD))
    gate = Gate(scorer=str(path), kinds=True)
    (verdict,) = gate.crops(flat((10, 200, 0)))
    assert verdict.blur_kind is not None
    assert verdict.blur_kind.kind == "motion"
    assert Gate(scorer=str(path)).crops(flat((1, 2, 3)))[0].blur_kind is None
    with pytest.raises(ConfigError, match="the scorer laplacian does not tell kinds of blur"):
        Gate(scorer="laplacian", kinds=True)


@pytest.mark.parametrize("command", ["filter", "score"])
def test_tables_gain_two_columns_when_asked(run, tmp_path, command):
    """Of the sample: sharp, shaken from side to side, out of focus, and sharp again."""
    if command == "filter":
        sample = ROOT / "examples/sample.mp4"
        ran = run("filter", sample, "--blur-kind", "--every", 5, "--out", tmp_path / "o")
        table = tmp_path / "o/faces.csv"
    else:
        table = tmp_path / "o.csv"
        crops = tmp_path / "crops"
        ran = run("filter", ROOT / "examples/sample.mp4", "--every", 5, "--out", crops)
        ran = run("score", crops, "--aligned", "--blur-kind", "--csv", table)
    assert ran.code == 0, ran.err
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-2:] == ["blur_kind", "blur_angle"]
    kinds = {row["blur_kind"] for row in rows}
    assert {"sharp", "motion"} <= kinds <= {"sharp", "motion", "defocus", "lowres"}
    for row in rows:
        assert (row["blur_angle"] != "") == (row["blur_kind"] == "motion")
