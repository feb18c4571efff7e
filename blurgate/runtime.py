"""The one place that makes onnxruntime sessions and chooses the device they run on."""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

from blurgate.errors import ConfigError, EnvironmentLackError, WeightsError
from blurgate.interfaces import Runtime

logger = logging.getLogger(__name__)


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
    import onnxruntime as ort

    return ort


def providers(device: str) -> list[Any]:
    """Give the onnxruntime execution providers for a device name, most wanted first.

    Args:
        device: auto, cpu, cuda or cuda:N.

    Raises:
        ConfigError: The name is none of these.
    """
    name, _, number = device.partition(":")
    if name == "cpu" and not number:
        return ["CPUExecutionProvider"]
    if name == "auto" and not number:
        if "CUDAExecutionProvider" in onnxruntime().get_available_providers():
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]
        return ["CPUExecutionProvider"]
    if name == "cuda" and (number.isdecimal() or device == "cuda"):
        return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]
    raise ConfigError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N")


def make_session(model: Path, runtime: Runtime) -> Any:
    """Open an ONNX file for inference.

    Spinning is off and operators run on `runtime.threads` threads: with the defaults the workers
    of a pipeline take the cores away from each other.

    Args:
        model: A self-contained ONNX file.
        runtime: Device and threads.

    Returns:
        An `onnxruntime.InferenceSession`; its `run` may be called from several threads at once.

    Raises:
        WeightsError: The file is missing, is not ONNX, or keeps weights in other files.
        EnvironmentLackError: onnxruntime is missing, or CUDA was asked for by name and the session
            did not get it.
    """
    ort = onnxruntime()
    wanted = providers(runtime.device)
    options = ort.SessionOptions()
    options.intra_op_num_threads = runtime.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    try:
        # From bytes and not from the path: a model read from memory has no folder, so onnxruntime
        # refuses weights that lie in other files ("external data").
        session = ort.InferenceSession(model.read_bytes(), options, providers=wanted)
    except OSError as error:
        raise WeightsError(f"cannot read the model {model}: {error}", path=str(model)) from error
    except Exception as error:  # onnxruntime's own exception types are not public
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{model} is not a model that onnxruntime can load: {reason}", path=str(model)
        ) from error
    # What counts is what the session got: onnxruntime-gpu lists CUDA on machines without a GPU.
    got = session.get_providers()
    if runtime.device.startswith("cuda") and "CUDAExecutionProvider" not in got:
        raise EnvironmentLackError(
            f"{runtime.device} was asked for, but onnxruntime gave {got}; "
            "run `blurgate doctor` to see why, or use --device cpu"
        )
    logger.info("%s runs on %s", model.name, got[0])
    return session
