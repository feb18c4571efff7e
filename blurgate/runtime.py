"""The one place that chooses devices: for onnxruntime's sessions and for decoding video."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from blurgate.errors import ConfigError, EnvironmentLackError, ModelError, WeightsError
from blurgate.interfaces import Runtime
from blurgate.onnxfile import read_model, with_outputs

logger = logging.getLogger(__name__)

_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
MOST_THREADS: Final = 1024
"""Of one model; no machine has more cores to run them."""
PYAV: Final = ((18, 1), (19, 0))
"""Versions of PyAV that work: from, below. Earlier ones download a GPU's frames without their
colour tags and their rotation; `pyproject.toml` says what is wrong with later ones."""
PIP_PYAV: Final = 'pip install --force-reinstall --only-binary av "av>=18.1,<19"'
"""Brings one of them, whole."""

# What onnxruntime puts before the sentence that says what is wrong.
_NOISE: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+\.(?:cc|h):\d+ .*?\) (?=\w)")


def onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off.

    Raises:
        EnvironmentLackError: It is not installed; the message holds the pip command.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import
    if importlib.util.find_spec("onnxruntime") is None:
        raise EnvironmentLackError(
            'onnxruntime is not installed; run: pip install "blurgate[cpu]" '
            '(or "blurgate[gpu]" on a machine with an NVIDIA GPU)'
        )
    try:
        import onnxruntime as ort
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # Ctrl-C within its C++, by pybind11
            raise KeyboardInterrupt from error
        raise
    return ort


def providers(device: str) -> list[Any]:
    """Give the onnxruntime execution providers for a device name, most wanted first.

    Args:
        device: auto, cpu, cuda or cuda:N.

    Raises:
        ConfigError: The name is none of these.
        EnvironmentLackError: CUDA is asked for by name and this onnxruntime was built without it.
    """
    name, _, number = device.partition(":")
    if device == "cpu":
        return [_CPU]
    if device != "auto" and not (name == "cuda" and (number.isdecimal() or device == "cuda")):
        raise ConfigError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N")
    if _CUDA in onnxruntime().get_available_providers():
        return [(_CUDA, {"device_id": int(number or 0)}), _CPU]
    if device == "auto":
        return [_CPU]
    raise EnvironmentLackError(
        f"{device} was asked for, and this onnxruntime has no CUDA; run: pip uninstall -y "
        'onnxruntime && pip install "blurgate[gpu]", or use --device cpu'
    )


def video_decoder(device: str) -> Any | None:
    """Give PyAV's settings for decoding video on a device.

    Only a GPU that is asked for by name decodes: with `auto` the processor does, whose decoders are
    the ones that know damaged files.

    Args:
        device: auto, cpu, cuda or cuda:N.

    Returns:
        An `av.codec.hwaccel.HWAccel` that downloads its frames and leaves to the processor what the
        GPU cannot decode; None where the processor decodes.
    """
    name, _, number = device.partition(":")
    if name != "cuda":
        return None
    from av.codec import hwaccel

    if name not in hwaccel.hwdevices_available():
        logger.warning("this PyAV was built without CUDA, so video is decoded on the processor")
        return None
    return hwaccel.HWAccel(name, device=number or "0", allow_software_fallback=True)


def make_session(model: Path, runtime: Runtime, outputs: Sequence[str] | None = None) -> Any:
    """Open an ONNX file for inference.

    Spinning is off and operators run on `runtime.threads` threads: with the defaults the workers
    of a pipeline take the cores away from each other.

    Args:
        model: A self-contained ONNX file.
        runtime: Device and threads.
        outputs: Keep only these outputs of the file, and so only what they need: onnxruntime works
            out every output that a graph has, whichever are asked for. Names of what flows between
            the file's nodes become outputs too, after the others. None: the file's, all of them.

    Returns:
        An `onnxruntime.InferenceSession`; its `run` may be called from several threads at once.
        What it really runs on stands first in its `get_providers()`.

    Raises:
        WeightsError: The file is missing or empty, is not ONNX, uses operators that onnxruntime
            does not have, or keeps weights in other files.
        ConfigError: The device or the number of threads is not possible.
        EnvironmentLackError: onnxruntime is missing, or CUDA was asked for by name and the session
            did not get it.
    """
    if not 1 <= runtime.threads <= MOST_THREADS:
        raise ConfigError(f"a model runs on 1 to {MOST_THREADS} threads, not {runtime.threads}")
    ort = onnxruntime()
    wanted = providers(runtime.device)
    data = read_model(model)
    if outputs is not None:
        data = with_outputs(data, outputs, model)
    session = None
    if len(wanted) > 1:
        try:
            session = _open(ort, data, runtime, wanted)
        except Exception as error:  # noqa: BLE001 - the file's fault or CUDA's: the CPU will tell
            logger.debug("%s does not open with CUDA: %s", model, error)
    if session is None:
        try:
            session = _open(ort, data, runtime, [_CPU])
        except Exception as error:  # onnxruntime's own exception types are not public
            raise WeightsError(
                f"{model} is not a model that onnxruntime can load: {first_line(error)}",
                path=str(model),
            ) from error
    # What counts is what the session got: onnxruntime-gpu lists CUDA on machines without a GPU.
    got = session.get_providers()
    if len(wanted) > 1 and _CUDA not in got:
        if runtime.device != "auto":
            raise EnvironmentLackError(
                f"{runtime.device} was asked for, but onnxruntime gave {', '.join(got)}; "
                "run `blurgate doctor` to see why, or use --device cpu"
            )
        logger.warning("CUDA cannot be used, so %s runs on the CPU: blurgate doctor", model.name)
    logger.info("%s runs on %s", model.name, got[0])
    return session


def _open(ort: Any, data: bytes, runtime: Runtime, wanted: list[Any]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = runtime.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # errors come as exceptions; stderr belongs to the user
    # With its fallback on, onnxruntime prints to stdout when a provider fails.
    return ort.InferenceSession(data, options, providers=wanted, enable_fallback=0)


def run(
    session: Any, inputs: Mapping[str, Any], model: str, outputs: Sequence[str] | None = None
) -> list[Any]:
    """Run a session.

    Args:
        session: From `make_session`.
        inputs: Input name -> array.
        model: The file, for the message.
        outputs: Names of the outputs that are wanted; None for all.

    Returns:
        The outputs, in the order of `outputs` or of the file.

    Raises:
        ModelError: onnxruntime could not run the model on these inputs.
    """
    try:
        if session.get_providers()[:1] == [_CUDA]:
            return _run_bound(session, inputs, outputs)
        got: list[Any] = session.run(outputs, dict(inputs))
    except Exception as error:  # onnxruntime's own exception types are not public
        raise ModelError(f"{model} does not run: {first_line(error)}", path=model) from error
    return got


def _run_bound(session: Any, inputs: Mapping[str, Any], outputs: Sequence[str] | None) -> list[Any]:
    """Run a session on a GPU, with its inputs and outputs in the GPU's memory.

    Each thread's call has bindings of its own: a plain `run` would copy every output as soon as it
    is there, and wait each time.
    """
    ort = onnxruntime()
    number = int(session.get_provider_options()[_CUDA].get("device_id", 0))
    binding = session.io_binding()
    for name, array in inputs.items():
        value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), "cuda", number)
        binding.bind_ortvalue_input(name, value)
    for name in outputs or [output.name for output in session.get_outputs()]:
        binding.bind_output(name, "cuda", number)
    session.run_with_iobinding(binding)
    got: list[Any] = binding.copy_outputs_to_cpu()
    return got


def first_line(error: Exception) -> str:
    """Give the sentence of an onnxruntime error that says what is wrong."""
    lines = str(error).splitlines() or [type(error).__name__]
    return _NOISE.sub("", lines[0]).strip()
