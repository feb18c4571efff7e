from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import pytest
from onnx import TensorProto, helper, numpy_helper

from blurgate import runtime
from blurgate.errors import ConfigError, EnvironmentLackError, ModelError, WeightsError
from blurgate.interfaces import Runtime
from blurgate.onnxfile import has_external_data
from blurgate.runtime import make_session, providers, run

CPU = Runtime(device="cpu")
WEIGHTS = np.arange(100, dtype=np.float32)

# A guess at what an NVIDIA build lists; here only the list is made up, never a provider.
CUDA_LISTED = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def adder(**changes: Any) -> onnx.ModelProto:
    """y = x + (0, 1, ..., 99)."""
    graph = helper.make_graph(
        changes.get("nodes") or [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [100])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [100])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    imports = changes.get("imports") or [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def saved(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def outside(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """Say that a tensor's values lie in the file weights.bin."""
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


# --- sessions ---


def test_ctrl_c_within_the_import_of_onnxruntime_is_ctrl_c(monkeypatch, tmp_path):
    # What pybind11 makes of an exception in a module's own C++ code.
    text = "raise ImportError('initialization failed') from {}"
    monkeypatch.syspath_prepend(tmp_path)
    for cause, wanted in (("KeyboardInterrupt()", KeyboardInterrupt), ("OSError()", ImportError)):
        (tmp_path / "onnxruntime.py").write_text(text.format(cause))
        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
        importlib.invalidate_caches()
        with pytest.raises(wanted):
            runtime.onnxruntime()
        (tmp_path / "onnxruntime.py").unlink()


def test_a_session_computes_on_the_cpu(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "adder.onnx", adder())
    with caplog.at_level(logging.INFO, logger="blurgate.runtime"):
        session = make_session(path, CPU)
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert "adder.onnx runs on CPUExecutionProvider" in caplog.text
    (result,) = run(session, {"x": np.ones(100, np.float32)}, "adder")
    np.testing.assert_array_equal(result, WEIGHTS + 1)
    assert capfd.readouterr() == ("", "")


def test_a_session_has_the_threads_that_were_asked_for_and_does_not_spin(tmp_path: Path) -> None:
    path = saved(tmp_path / "adder.onnx", adder())
    options = make_session(path, Runtime(device="cpu", threads=3)).get_session_options()
    assert options.intra_op_num_threads == 3
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("threads", [0, -1, 3_000_000_000])
def test_a_session_has_one_to_1024_threads(tmp_path: Path, threads: int) -> None:
    with pytest.raises(ConfigError, match=f"1 to 1024 threads, not {threads}"):
        make_session(tmp_path / "any.onnx", Runtime(device="cpu", threads=threads))


def test_a_session_runs_in_several_threads_at_once(tmp_path: Path) -> None:
    session = make_session(saved(tmp_path / "adder.onnx", adder()), CPU)
    wrong: list[int] = []

    def work(value: int) -> None:
        for _ in range(200):
            (result,) = run(session, {"x": np.full(100, value, np.float32)}, "adder")
            if not np.array_equal(result, WEIGHTS + value):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_inputs_that_do_not_fit_are_one_clear_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    session = make_session(saved(tmp_path / "adder.onnx", adder()), CPU)
    with pytest.raises(ModelError, match=r"^adder does not run: Got invalid dimensions.*$"):
        run(session, {"x": np.ones(7, np.float32)}, "adder")
    assert capfd.readouterr() == ("", "")


def test_an_operator_that_fails_prints_nothing_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = adder(nodes=[helper.make_node("Reshape", ["x", "s"], ["y"])])
    model.graph.initializer.append(numpy_helper.from_array(np.array([7, 5]), "s"))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    session = make_session(saved(tmp_path / "reshape.onnx", model), CPU)
    with pytest.raises(ModelError, match=r"^net does not run: .*cannot be reshaped.*$") as caught:
        run(session, {"x": np.ones(34, np.float32)}, "net")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


# --- files that are refused ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"not an ONNX file, or is cut short \(0 bytes\)"),
        (b"\0" * 64, "not an ONNX file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n",
            "not an ONNX file",
        ),
        (b"<!DOCTYPE html><html><body>404</body></html>", "not an ONNX file"),
        (b"PK\x03\x04" + b"zip" * 50, "not an ONNX file"),
        (bytes(range(256)) * 9, "not an ONNX file"),
        (b"\x20\x00\x00\x00ORTM" + b"\0" * 64, "not an ONNX file"),
        (b"\x08\x08", "not an ONNX file"),  # a model without a graph
    ],
)
def test_what_is_not_onnx_is_refused(
    tmp_path: Path, content: bytes, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        make_session(path, CPU)
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    whole = adder().SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"cut\.onnx is not an? "):
            make_session(path, CPU)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(WeightsError, match="cannot read the model"):
            make_session(path, CPU)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            adder(
                nodes=[helper.make_node("Foo", ["x"], ["y"], domain="com.acme")],
                imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.acme", 1)],
            ),
            "not a model that onnxruntime can load: .*com.acme:Foo.* is not a registered",
        ),
        (adder(nodes=[helper.make_node("Foo", ["x"], ["y"])]), "No Op registered for Foo"),
        (adder(imports=[helper.make_opsetid("", 9999)]), "can load: .*ONNX Runtime only .*9999"),
        (adder(nodes=[helper.make_node("Add", ["x", "nobody"], ["y"])]), "nobody"),
    ],
)
def test_what_onnxruntime_cannot_load_is_one_clear_line(
    tmp_path: Path, model: onnx.ModelProto, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        make_session(saved(tmp_path / "odd.onnx", model), CPU)
    text = str(caught.value)
    assert "odd.onnx" in text
    assert "\n" not in text
    assert "ONNXRuntimeError" not in text
    assert "/onnxruntime_src/" not in text
    assert capfd.readouterr() == ("", "")


def test_weights_in_another_file_are_refused_even_where_onnxruntime_would_find_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save_model(
        adder(), str(path), save_as_external_data=True, location="w.bin", size_threshold=0
    )
    assert (tmp_path / "w.bin").stat().st_size == 400
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"keeps weights in other files \(ONNX external data\)"):
        make_session(path, CPU)
    embedded = saved(tmp_path / "one.onnx", onnx.load(str(path)))  # what the message tells to do
    assert make_session(embedded, CPU).get_outputs()[0].name == "y"


def constant(tensor: onnx.TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["k"], value=tensor)


def inside_branch(tensor: onnx.TensorProto) -> onnx.ModelProto:
    branch = helper.make_graph(
        [constant(tensor)], "b", [], [helper.make_tensor_value_info("k", TensorProto.FLOAT, [100])]
    )
    return adder(
        nodes=[helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    )


def inside_function(tensor: onnx.TensorProto) -> onnx.ModelProto:
    model = adder()
    opsets = [helper.make_opsetid("", 13)]
    model.functions.append(helper.make_function("own", "F", [], ["k"], [constant(tensor)], opsets))
    return model


def inside_sparse(tensor: onnx.TensorProto) -> onnx.ModelProto:
    model = adder()
    indices = numpy_helper.from_array(np.arange(100), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [1000]))
    return model


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensor: adder(nodes=[constant(tensor)]),
        inside_branch,
        inside_function,
        inside_sparse,
    ],
    ids=["constant", "branch", "function", "sparse"],
)
def test_weights_in_other_files_are_found_wherever_they_hide(tmp_path: Path, wrap: Any) -> None:
    tensor = numpy_helper.from_array(WEIGHTS, "w")
    assert not has_external_data(wrap(tensor).SerializeToString())
    path = saved(tmp_path / "model.onnx", wrap(outside(tensor)))
    with pytest.raises(WeightsError, match="keeps weights in other files"):
        make_session(path, CPU)


# --- devices ---


def test_the_cpu_needs_no_look_at_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert providers("cpu") == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    "device", ["", "gpu", "CPU", "cpu:0", "auto:1", "cuda:", "cuda:x", "cuda:-1", "cuda0"]
)
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown device .*; use auto, cpu, cuda or cuda:N"):
        providers(device)


@pytest.fixture
def cuda_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    ort = runtime.onnxruntime()
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(CUDA_LISTED))


@pytest.mark.usefixtures("cuda_listed")
@pytest.mark.parametrize(
    ("device", "number"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)]
)
def test_cuda_comes_first_where_it_is_listed(device: str, number: int) -> None:
    assert providers(device) == [
        ("CUDAExecutionProvider", {"device_id": number}),
        "CPUExecutionProvider",
    ]
    assert providers("cpu") == ["CPUExecutionProvider"]


def test_auto_is_the_cpu_where_cuda_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        runtime.onnxruntime(), "get_available_providers", lambda: ["CPUExecutionProvider"]
    )
    assert providers("auto") == ["CPUExecutionProvider"]
    with pytest.raises(EnvironmentLackError, match=r"no CUDA; run: .*blurgate\[gpu\]"):
        providers("cuda:1")


@pytest.fixture
def no_cuda_here() -> None:
    if "CUDAExecutionProvider" in runtime.onnxruntime().get_available_providers():
        pytest.skip("this onnxruntime has CUDA")


@pytest.mark.usefixtures("no_cuda_here", "cuda_listed")
def test_cuda_that_is_listed_and_not_given_is_an_error_when_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "adder.onnx", adder())
    with pytest.raises(EnvironmentLackError, match="cuda was asked for, but onnxruntime gave CPU"):
        make_session(path, Runtime(device="cuda"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_cuda_here", "cuda_listed")
def test_auto_falls_back_to_the_cpu_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    session = make_session(saved(tmp_path / "adder.onnx", adder()), Runtime(device="auto"))
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert "CUDA cannot be used, so adder.onnx runs on the CPU" in caplog.text
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("cuda_listed")
def test_onnxruntime_does_not_print_when_cuda_fails_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    session_class = runtime.onnxruntime().InferenceSession
    base = session_class.__mro__[1]
    if "enable_fallback" not in inspect.signature(base.__init__).parameters:
        pytest.skip("this onnxruntime cannot be told not to print")
    start = session_class._create_inference_session

    def broken(self: Any, chosen: list[Any], *rest: Any) -> None:
        if len(chosen) > 1:
            raise RuntimeError("no CUDA-capable device is detected")
        start(self, chosen, *rest)

    monkeypatch.setattr(session_class, "_create_inference_session", broken)
    path = saved(tmp_path / "adder.onnx", adder())
    session = make_session(path, Runtime(device="auto"))
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_cuda_here", "cuda_listed")
def test_a_broken_file_is_the_files_fault_also_with_cuda(tmp_path: Path) -> None:
    odd = adder(nodes=[helper.make_node("Foo", ["x"], ["y"])])
    with pytest.raises(WeightsError, match="No Op registered for Foo"):
        make_session(saved(tmp_path / "odd.onnx", odd), Runtime(device="cuda"))


# --- onnxruntime itself ---


def test_a_missing_onnxruntime_gives_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentLackError, match=r'pip install "blurgate\[cpu\]"'):
        runtime.onnxruntime()


def test_telemetry_is_off_before_onnxruntime_is_imported() -> None:
    code = (
        "import builtins, os\n"
        "real = builtins.__import__\n"
        "def watch(name, *rest):\n"
        "    if name == 'onnxruntime' and not seen:\n"
        "        seen.append(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "    return real(name, *rest)\n"
        "seen = []\n"
        "builtins.__import__ = watch\n"
        "from blurgate.runtime import onnxruntime\n"
        "onnxruntime()\n"
        "print(seen)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "['1']\n"
    assert done.stderr == ""


class OnCuda:
    """A real session on the CPU that says it is on a GPU, and records what is bound where."""

    def __init__(self, session: Any) -> None:
        self.real = session
        self.bound: list[tuple[str, str, int]] = []
        self.ran = 0

    def get_providers(self) -> list[str]:
        return list(self.get_provider_options())

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {"CUDAExecutionProvider": {"device_id": "1"}, "CPUExecutionProvider": {}}

    def get_outputs(self) -> Any:
        return self.real.get_outputs()

    def io_binding(self) -> Any:
        binding = self.real.io_binding()
        to_cpu = binding.bind_output

        def bind_output(name: str, device: str, number: int) -> None:
            self.bound.append((name, device, number))
            to_cpu(name, "cpu", 0)

        binding.bind_output = bind_output
        return binding

    def run_with_iobinding(self, binding: Any) -> None:
        self.ran += 1
        self.real.run_with_iobinding(binding)

    def run(self, *args: Any) -> None:
        raise AssertionError("a session on a GPU is run with its inputs and outputs bound")


def test_on_a_gpu_inputs_and_outputs_are_bound_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make_session(saved(tmp_path / "adder.onnx", adder()), CPU)
    name = session.get_inputs()[0].name
    array = np.arange(200, dtype=np.float32)[::2]  # not contiguous
    ort = runtime.onnxruntime()
    wanted = run(session, {name: np.ascontiguousarray(array)}, "adder.onnx")
    made: list[tuple[str, int]] = []
    from_numpy = ort.OrtValue.ortvalue_from_numpy

    def recorded(values: Any, device: str, number: int) -> Any:
        assert values.flags.c_contiguous
        made.append((device, number))
        return from_numpy(values)

    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", staticmethod(recorded))
    fake = OnCuda(session)
    got = run(fake, {name: array}, "adder.onnx")
    np.testing.assert_array_equal(got[0], wanted[0])
    assert made == [("cuda", 1)]
    assert fake.bound == [(output.name, "cuda", 1) for output in session.get_outputs()]
    assert fake.ran == 1


def test_a_model_that_fails_on_a_gpu_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = OnCuda(make_session(saved(tmp_path / "adder.onnx", adder()), CPU))
    monkeypatch.setattr(fake, "io_binding", lambda: 1 / 0)
    with pytest.raises(ModelError, match=r"adder\.onnx does not run: division by zero"):
        run(fake, {}, "adder.onnx")


def test_what_flows_inside_can_be_had_too():
    """onnx's own extractor gives the same values."""
    path = Path(__file__).parents[1] / "models_zoo" / "yolov5n_xx.onnx"
    whole = onnx.load(path)
    inner = [node.output[0] for node in whole.graph.node if node.op_type == "Conv"][3:5]
    session = make_session(path, CPU, ["degree", *inner])
    assert [output.name for output in session.get_outputs()] == ["degree", *inner]
    images = {"images": np.random.default_rng(0).normal(size=(2, 3, 112, 112)).astype(np.float32)}
    found = session.run(None, images)
    whole = onnx.shape_inference.infer_shapes(whole)
    alone = onnx.utils.Extractor(whole).extract_model(["images"], inner)
    expected = runtime.onnxruntime().InferenceSession(
        alone.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for one, other in zip(found[1:], expected.run(None, images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    np.testing.assert_allclose(
        found[0], make_session(path, CPU).run(["degree"], images)[0], 0, 1e-5
    )
    with pytest.raises(WeightsError, match=r"yolov5n_xx\.onnx has no output 'nowhere'"):
        make_session(path, CPU, ["degree", "nowhere"])


def test_a_graph_with_branches_is_left_whole(tmp_path):
    value = onnx.helper.make_tensor_value_info
    real, truth = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
    branches = [
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", [f"{which}_outer"], [which])],
            which, [], [value(which, real, [1])],
        )
        for which in ("yes", "no")
    ]  # fmt: skip
    nodes = [
        onnx.helper.make_node("Neg", ["x"], ["yes_outer"], name="a"),
        onnx.helper.make_node("Abs", ["x"], ["no_outer"], name="b"),
        onnx.helper.make_node(
            "If", ["which"], ["y"], then_branch=branches[0], else_branch=branches[1]
        ),
        onnx.helper.make_node("Identity", ["x"], ["z"], name="c"),
    ]
    graph = onnx.helper.make_graph(
        nodes, "g", [value("x", real, [1]), value("which", truth, [])],
        [value("y", real, [1]), value("z", real, [1])],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 8
    path = saved(tmp_path / "if.onnx", model)
    session = make_session(path, CPU, ["y"])
    assert [output.name for output in session.get_outputs()] == ["y"]
    (found,) = session.run(["y"], {"x": np.float32([3]), "which": np.array(True)})
    assert found.tolist() == [-3]
