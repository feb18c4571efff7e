"""ONNX files, read and cut without the package that made them, which is the judge here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blurgate.interfaces import Runtime
from blurgate.onnxfile import has_external_data, identity_model, metadata, with_outputs
from blurgate.runtime import make_session

CPU = Runtime(device="cpu")


def identity(**properties: str) -> bytes:
    """A file as the onnx package writes it, with a weight to step over."""
    model = onnx.load_from_string(identity_model())
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(300, np.float32), "w"))
    onnx.helper.set_model_props(model, properties)
    return model.SerializeToString()


def test_the_identity_model_is_onnx_and_runs():
    model = onnx.load_from_string(identity_model())
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Identity"]
    assert model.opset_import[0].version == 13
    session = onnxruntime.InferenceSession(identity_model())
    assert session.get_inputs()[0].shape == [1]
    (result,) = session.run(None, {"x": np.array([2.5], np.float32)})
    assert result.tolist() == [2.5]


def test_metadata_is_what_the_onnx_package_wrote():
    data = identity(blurgate='{"kind": "scorer"}', other="ü" * 200)
    assert metadata(data) == {"blurgate": '{"kind": "scorer"}', "other": "ü" * 200}
    reference = {p.key: p.value for p in onnx.load_from_string(data).metadata_props}
    assert metadata(data) == reference
    assert metadata(identity()) == {}


@pytest.mark.parametrize("end", [1, 5, 700, -1])
def test_a_cut_off_file_has_no_metadata(end):
    assert metadata(identity(blurgate="{}")[:end]) == {}


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data):
    assert isinstance(metadata(data), dict)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


@pytest.mark.parametrize("location", [1, 1 << 32 | 1])
def test_a_location_in_an_odd_encoding_is_found(location: int) -> None:
    data = message(7, message(5, varint(14 << 3) + varint(location)))
    assert onnx.ModelProto.FromString(data).graph.initializer[0].data_location == 1
    assert has_external_data(data)


def test_a_field_number_in_an_odd_encoding_is_found() -> None:
    assert has_external_data(message(7, message(5, varint(14 << 3 | 1 << 32) + varint(1))))


def test_deep_nesting_does_not_exhaust_the_stack() -> None:
    data = b""
    for _ in range(3000):
        data = message(1, message(5, message(6, data)))  # node, attribute, graph
    assert not has_external_data(message(7, data))


@pytest.mark.parametrize("name", ["yolov5n_xx_relu.int8", "mobilenetv2_0.5", "yolov5n_xx"])
@pytest.mark.parametrize("outputs", [["degree"], ["kind"], ["degree", "direction"]])
def test_what_no_wanted_output_needs_is_left_out(name, outputs):
    """onnx's own extractor says what is needed."""
    path = Path(__file__).parents[1] / "models_zoo" / f"{name}.onnx"
    whole = onnx.load(path)
    extracted = onnx.utils.Extractor(whole).extract_model(["images"], outputs).graph
    cut = onnx.load_model_from_string(with_outputs(path.read_bytes(), outputs, path)).graph
    assert [node.name for node in cut.node] == [node.name for node in extracted.node]
    assert len(cut.node) < len(whole.graph.node)
    assert [output.name for output in cut.output] == outputs
    images = np.random.default_rng(0).normal(size=(2, 3, 112, 112)).astype(np.float32)
    few, all_ = make_session(path, CPU, outputs), make_session(path, CPU)
    for one, other in zip(
        few.run(outputs, {"images": images}), all_.run(outputs, {"images": images}), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)
