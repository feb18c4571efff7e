"""`blurgate doctor`: what this machine lacks, with the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from blurgate.cli import EXIT_ENVIRONMENT, options
from blurgate.errors import EnvironmentLackError
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from blurgate.interfaces import App

EXAMPLE = """Example:

  blurgate doctor

prints one line per check: ok, warn or fail, with the command that mends it. Exit code 5 when a
check fails.
"""

RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-silicon",
    "onnxruntime-training",
)
"""Distributions that all install the one module `onnxruntime` and overwrite each other's files."""
DECODERS = {
    "h264": ("h264",),
    "hevc": ("hevc",),
    "vp9": ("vp9", "libvpx-vp9"),
    # FFmpeg's own `av1` decodes with hardware only.
    "av1": ("libdav1d", "libaom-av1"),
    "mjpeg": ("mjpeg",),
}
EXTRAS = {
    "torch": ("train", "training"),
    "matplotlib": ("plot", "figures as PNG"),
    "pyarrow": ("parquet", "--table parquet"),
    "insightface": ("insightface", "the insightface plugin"),
    "fsspec": ("remote", "s3:// and other addresses"),
    "ray": ("ray", "--engine ray"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""
    """The command that mends it, or would add what is lacking; empty when there is none."""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("doctor", epilog=EXAMPLE)(doctor)


def doctor(as_json: options.Json = False) -> None:
    """Check Python, the runtime, codecs and models. Says how to mend what is wrong."""
    import json

    checks = list(run_checks())
    statuses = [check.status for check in checks]
    worst = "fail" if "fail" in statuses else "warn" if "warn" in statuses else "ok"
    if as_json:
        report = {"status": worst, "checks": [asdict(check) for check in checks]}
        typer.echo(json.dumps(report, indent=2))
    else:
        for check in checks:
            typer.echo(f"{check.status:<4}  {check.name}: {check.detail}")
            if check.mend:
                typer.echo(f"      -> {check.mend}")
    if worst == "fail":
        raise typer.Exit(EXIT_ENVIRONMENT)


def run_checks() -> Iterator[Check]:
    """Run every check; one that breaks becomes a failed check and does not stop the others."""
    for name, check in CHECKS.items():
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001 - a doctor does not die of what it looks for
            yield Check(name, "fail", " ".join(f"{type(error).__name__}: {error}".split()))


def check_python() -> Iterator[Check]:
    """Python, the platform and blurgate itself."""
    version = platform.python_version()
    if (3, 11) <= sys.version_info < (3, 14):
        yield Check("python", "ok", f"{version} ({sys.executable})")
    else:
        yield Check("python", "warn", f"{version}; blurgate is tested on 3.11 to 3.13")
    yield Check("platform", "ok", f"{platform.platform()}, {options.usable_cores()} usable cores")
    yield Check("blurgate", "ok", metadata.version("blurgate"))


def check_runtime() -> Iterator[Check]:
    """Which onnxruntime distributions there are, and what a session really runs on."""
    found = {name: version for name in RUNTIMES if (version := installed(name)) is not None}
    listed = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        yield Check(
            "onnxruntime",
            "fail",
            f"{listed}: they overwrite each other's files, and the GPU is lost",
            _reinstall(found),
        )
    elif importlib.util.find_spec("onnxruntime") is None:
        status = f"{listed} is installed, but its module is gone" if found else "not installed"
        yield Check("onnxruntime", "fail", status, _reinstall(found))
        return
    else:
        yield Check("onnxruntime", "ok", listed or "present, of an unknown distribution")
    yield _check_provider(tuple(found))


def _reinstall(found: Iterable[str]) -> str:
    """The command that leaves one whole onnxruntime, the one that fits this machine."""
    remove = f"pip uninstall -y {' '.join(found)} && " if found else ""
    return f'{remove}pip install "blurgate[{"gpu" if has_nvidia_gpu() else "cpu"}]"'


def _check_provider(found: tuple[str, ...]) -> Check:
    """Open a real session: what onnxruntime lists as available says nothing about this machine."""
    import tempfile

    from blurgate.errors import BlurgateError
    from blurgate.interfaces import Runtime
    from blurgate.onnxfile import identity_model
    from blurgate.runtime import make_session

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "identity.onnx")
        model.write_bytes(identity_model())
        try:
            import numpy as np

            session = make_session(model, Runtime(device="auto"))
            (result,) = session.run(None, {"x": np.array([0.5], np.float32)})
        except (BlurgateError, ImportError, AttributeError) as error:
            # AttributeError: the remains of an uninstalled onnxruntime import as an empty module.
            return Check("provider", "fail", str(error), _reinstall(found))
    provider = str(session.get_providers()[0]).removesuffix("ExecutionProvider")
    if result.tolist() != [0.5]:
        return Check("provider", "fail", f"{provider} computes a wrong result: {result.tolist()}")
    if provider == "CPU" and "onnxruntime-gpu" in found:
        if not has_nvidia_gpu():
            detail = "a session runs on CPU: this is onnxruntime-gpu, and no NVIDIA GPU is seen"
            return Check("provider", "warn", detail, _reinstall(found))
        detail = "a session runs on CPU although a GPU is here: CUDA or cuDNN libraries are missing"
        return Check("provider", "warn", detail, 'pip install "onnxruntime-gpu[cuda,cudnn]"')
    if provider == "CPU" and has_nvidia_gpu():
        detail = "a session runs on CPU; the NVIDIA GPU is not used"
        return Check("provider", "ok", detail, _reinstall(found))
    return Check("provider", "ok", f"a session runs on {provider}")


def check_video() -> Iterator[Check]:
    """Pillow, OpenCV, and what PyAV decodes."""
    try:
        import PIL.Image

        yield Check("pillow", "ok", PIL.__version__)
    except ImportError as error:
        yield Check("pillow", "fail", str(error), "pip install --force-reinstall pillow")
    try:
        import cv2

        yield Check("opencv", "ok", cv2.__version__)
    except ImportError as error:
        mend = "pip install --force-reinstall opencv-python"
        if "libGL" in str(error) or "libgthread" in str(error):
            mend = "apt-get install -y libgl1 libglib2.0-0"
        yield Check("opencv", "fail", str(error), mend)
    from blurgate.runtime import PIP_PYAV, PYAV

    try:
        import av
    except ImportError as error:
        yield Check("pyav", "fail", str(error), PIP_PYAV)
        return
    low, high = PYAV
    if not low <= tuple(map(int, av.__version__.split(".")[:2])) < high:
        yield Check("pyav", "fail", f"{av.__version__} is not one that blurgate can use", PIP_PYAV)
        return
    yield Check("pyav", "ok", f"{av.__version__}, FFmpeg {av.ffmpeg_version_info}")
    lacking = [name for name, codecs in DECODERS.items() if not any(map(_decodes, codecs))]
    if lacking:
        yield Check("decoders", "warn", f"cannot decode {', '.join(lacking)}", PIP_PYAV)
    else:
        yield Check("decoders", "ok", ", ".join(DECODERS))
    from blurgate.io.encode import video_encoder

    try:
        yield Check("encoder", "ok", video_encoder())
    except EnvironmentLackError as error:
        yield Check("encoder", "warn", str(error), PIP_PYAV)


def check_models() -> Iterator[Check]:
    """Which models are here, and whether their files are the promised ones."""
    from blurgate import catalogue, zoo
    from blurgate.errors import MissingModelError

    yield Check("model folder", "ok", str(catalogue.models_folder()))
    for found in zoo.verify():
        name = f"{found.kind} {found.name}"
        if found.state == "changed":
            yield Check(name, "fail", found.detail, found.mend.removeprefix("run: "))
        elif found.state == "unrecorded":
            yield Check(name, "warn", f"nobody has promised its checksum: {found.detail}")
        else:
            yield Check(name, "ok", f"sha256 {found.detail[:12]}")
    for kind in ("detector", "scorer"):
        try:
            yield Check(f"default {kind}", "ok", zoo.default_name(kind))
        except MissingModelError:
            detail = f"no {kind} model is on this machine"
            yield Check(f"default {kind}", "warn", detail, "blurgate models pull buffalo_sc")


def check_extras() -> Iterator[Check]:
    """Optional packages; their absence is no fault."""
    for package, (extra, purpose) in EXTRAS.items():
        version = installed(package)
        if version is not None:
            yield Check(package, "ok", version)
        else:
            detail = f"not installed; only needed for {purpose}"
            yield Check(package, "ok", detail, f'pip install "blurgate[{extra}]"')


def check_plugins() -> Iterator[Check]:
    """Plugins of other distributions."""
    from blurgate.host import get_host

    host = get_host()
    outside = {entry.distribution for entry in host.entries()} - {"blurgate"}
    for plugin in dict.fromkeys(host.broken):
        mend = f"pip install --upgrade {plugin.distribution}"
        yield Check(f"plugin {plugin.plugin}", "warn", f"broken: {plugin.error}", mend)
    yield Check("plugins", "ok", f"outside: {', '.join(sorted(outside)) or 'none'}")


def check_terminal() -> Iterator[Check]:
    """Where output goes."""
    width = shutil.get_terminal_size().columns
    kind = f"terminal, {width} columns" if sys.stderr.isatty() else "not a terminal: no bar"
    colour = "off (NO_COLOR)" if os.environ.get("NO_COLOR") else "as the terminal allows"
    yield Check("output", "ok", f"{kind}; {sys.stdout.encoding}; colour {colour}")


CHECKS: dict[str, Callable[[], Iterator[Check]]] = {
    "python": check_python,
    "runtime": check_runtime,
    "video": check_video,
    "models": check_models,
    "extras": check_extras,
    "plugins": check_plugins,
    "output": check_terminal,
}


def installed(distribution: str) -> str | None:
    """Give the version of an installed distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def has_nvidia_gpu() -> bool:
    """Tell whether the NVIDIA driver's tool is here, which comes with a working driver."""
    return shutil.which("nvidia-smi") is not None


def _decodes(codec: str) -> bool:
    from av.codec.codec import Codec, UnknownCodecError

    try:
        Codec(codec, "r")
    except UnknownCodecError:
        return False
    return True
