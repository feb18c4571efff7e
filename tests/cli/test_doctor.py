from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from blurgate import host as host_module
from blurgate import runtime
from blurgate.cli import doctor
from blurgate.errors import WeightsError
from blurgate.host import BUILTIN, Broken, Host
from blurgate.io import encode


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLURGATE_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(dict.fromkeys(BUILTIN, ()), outside=False)
    monkeypatch.setattr(host_module, "get_host", lambda: host)
    return host


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretends what is installed, whether there is a GPU, and what a session gets."""

    def pretend(dists: dict[str, str], *, gpu: bool = False, provider: str = "CPU") -> None:
        real = doctor.installed
        monkeypatch.setattr(
            doctor,
            "installed",
            lambda name: dists.get(name) if name in doctor.RUNTIMES else real(name),
        )
        monkeypatch.setattr(doctor, "has_nvidia_gpu", lambda: gpu)
        session = SimpleNamespace(
            run=lambda names, feeds: [feeds["x"]],
            get_providers=lambda: [f"{provider}ExecutionProvider", "CPUExecutionProvider"],
        )
        monkeypatch.setattr(runtime, "make_session", lambda path, options: session)

    return pretend


def run(*arguments: str):
    app = typer.Typer()
    app.callback()(lambda: None)
    doctor.register_commands(app)
    return CliRunner().invoke(app, ["doctor", *arguments])


def checks() -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.run_checks()}


def test_this_machine_can_run_blurgate():
    found = checks()
    for name in (
        "python",
        "platform",
        "blurgate",
        "pillow",
        "opencv",
        "pyav",
        "decoders",
        "encoder",
    ):
        assert found[name].status == "ok", found[name]
    assert found["provider"].status in ("ok", "warn")
    assert "a session runs on" in found["provider"].detail
    assert found["decoders"].detail == "h264, hevc, vp9, av1, mjpeg"


def test_a_package_that_every_command_needs_is_missed_with_the_way_back(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    found = checks()["pillow"]
    assert (found.status, found.mend) == ("fail", "pip install --force-reinstall pillow")


def test_every_extra_that_a_user_meets_is_listed():
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = set(extras["optional-dependencies"]) - {"cpu", "gpu", "test", "dev"}
    assert {extra for extra, _ in doctor.EXTRAS.values()} == wanted


@pytest.mark.parametrize("other", ["17.2.0", "18.0.1", "19.0.2"])
def test_another_pyav_is_told_with_the_way_back(monkeypatch, other):
    monkeypatch.setattr("av.__version__", other)
    found = checks()
    assert (found["pyav"].status, other in found["pyav"].detail) == ("fail", True)
    assert found["pyav"].mend.startswith("pip install --force-reinstall")
    assert "decoders" not in found


def test_no_detector_is_a_warning_with_the_pull(bare_zoo):
    check = checks()["default detector"]
    assert check.status == "warn"
    assert check.detail == "no detector model is on this machine"
    assert check.mend == "blurgate models pull buffalo_sc"


def test_lines_and_exit_code_0(machine):
    machine({"onnxruntime": "1.30"})
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "ok    onnxruntime: onnxruntime 1.30" in lines
    assert "ok    provider: a session runs on CPU" in lines
    assert "ok    default detector: scrfd_blurgate" in lines
    assert result.stderr == ""


def test_json_has_the_same_checks(machine):
    machine({"onnxruntime": "1.30"})
    result = run("--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["status"] == "ok"
    assert [check["name"] for check in report["checks"]] == list(checks())
    assert all(list(check) == ["name", "status", "detail", "mend"] for check in report["checks"])


@pytest.mark.parametrize(("gpu", "extra"), [(False, "cpu"), (True, "gpu")])
def test_two_runtimes_are_a_conflict(machine, gpu, extra):
    machine({"onnxruntime": "1.30", "onnxruntime-gpu": "1.29"}, gpu=gpu)
    check = checks()["onnxruntime"]
    assert check.status == "fail"
    assert check.detail.startswith("onnxruntime 1.30, onnxruntime-gpu 1.29: they overwrite")
    assert check.mend == (
        f'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "blurgate[{extra}]"'
    )
    assert run().exit_code == 5
    assert json.loads(run("--json").stdout)["status"] == "fail"


def test_no_runtime_at_all(machine, monkeypatch):
    machine({})
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    found = checks()
    assert found["onnxruntime"] == doctor.Check(
        "onnxruntime", "fail", "not installed", 'pip install "blurgate[cpu]"'
    )
    assert "provider" not in found


def test_a_runtime_whose_module_is_gone(machine, monkeypatch):
    machine({"onnxruntime": "1.30"})
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    check = checks()["onnxruntime"]
    assert check.detail == "onnxruntime 1.30 is installed, but its module is gone"
    assert check.mend == 'pip uninstall -y onnxruntime && pip install "blurgate[cpu]"'


@pytest.mark.parametrize(
    ("dist", "gpu", "provider", "status", "detail", "mend"),
    [
        ("onnxruntime", False, "CPU", "ok", "a session runs on CPU", ""),
        ("onnxruntime-gpu", True, "CUDA", "ok", "a session runs on CUDA", ""),
        ("onnxruntime-gpu", False, "CPU", "warn", "no NVIDIA GPU is seen",
         'pip uninstall -y onnxruntime-gpu && pip install "blurgate[cpu]"'),
        ("onnxruntime-gpu", True, "CPU", "warn", "CUDA or cuDNN libraries are missing",
         'pip install "onnxruntime-gpu[cuda,cudnn]"'),
        ("onnxruntime", True, "CPU", "ok", "the NVIDIA GPU is not used",
         'pip uninstall -y onnxruntime && pip install "blurgate[gpu]"'),
    ],
)  # fmt: skip
def test_what_a_session_gets_is_what_counts(machine, dist, gpu, provider, status, detail, mend):
    machine({dist: "1.30"}, gpu=gpu, provider=provider)
    check = checks()["provider"]
    assert check.status == status
    assert detail in check.detail
    assert check.mend == mend


@pytest.mark.parametrize("error", [WeightsError("no session"), AttributeError("no session")])
def test_a_session_that_cannot_be_made_is_a_failure(machine, monkeypatch, error):
    machine({"onnxruntime": "1.30"})

    def fail(path, options):
        raise error

    monkeypatch.setattr(runtime, "make_session", fail)
    check = checks()["provider"]
    assert (check.status, check.detail) == ("fail", "no session")
    assert check.mend == 'pip uninstall -y onnxruntime && pip install "blurgate[cpu]"'


def test_a_session_that_computes_nonsense_is_a_failure(machine, monkeypatch):
    machine({"onnxruntime": "1.30"})
    session = SimpleNamespace(
        run=lambda names, feeds: [feeds["x"] + 1], get_providers=lambda: ["CPUExecutionProvider"]
    )
    monkeypatch.setattr(runtime, "make_session", lambda path, options: session)
    assert checks()["provider"].detail == "CPU computes a wrong result: [1.5]"


def test_missing_codecs_are_named(monkeypatch):
    monkeypatch.setattr(doctor, "_decodes", lambda codec: codec == "h264")
    found = checks()
    assert found["decoders"].status == "warn"
    assert found["decoders"].detail == "cannot decode hevc, vp9, av1, mjpeg"


def test_the_encoder_is_the_one_that_videos_are_written_with(monkeypatch):
    assert checks()["encoder"] == doctor.Check("encoder", "ok", encode.video_encoder())
    monkeypatch.setattr(encode, "_ENCODERS", ("no-such-codec",))
    encode.video_encoder.cache_clear()
    found = checks()["encoder"]
    encode.video_encoder.cache_clear()
    assert found.status == "warn"
    assert "no H.264 or MPEG-4 encoder" in found.detail


def test_codecs_are_asked_for_by_name():
    assert doctor._decodes("h264")
    assert not doctor._decodes("no-such-codec")


def test_a_changed_model_fails_with_the_mending_command(home: Path):
    (home / "det_500m.onnx").write_bytes(b"not it")
    check = checks()["detector det_500m"]
    assert check.status == "fail"
    assert check.detail.startswith("SHA-256 is ")
    assert check.mend == "blurgate models pull buffalo_sc"
    assert run().exit_code == 5


@pytest.mark.shared
def test_a_right_model_is_ok(bare_zoo, home: Path, shared: Path):
    source = shared / "data" / "weights" / "scrfd_2.5g_bnkps.onnx"
    (home / source.name).write_bytes(source.read_bytes())
    found = checks()
    assert found["detector scrfd_2.5g_bnkps"].status == "ok"
    assert found["detector scrfd_2.5g_bnkps"].detail == "sha256 bc24bb349491"
    assert found["default detector"] == doctor.Check("default detector", "ok", "scrfd_2.5g_bnkps")


def test_optional_packages_are_no_fault(monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda name: None)
    found = checks()
    assert found["torch"].status == "ok"
    assert found["torch"].detail == "not installed; only needed for training"
    assert found["pyarrow"].mend == 'pip install "blurgate[parquet]"'
    assert found["insightface"].mend == 'pip install "blurgate[insightface]"'


def test_a_broken_plugin_is_a_warning(host: Host):
    host.broken.append(Broken("bad", "bad-dist", "0.1", "ImportError: no"))
    check = checks()["plugin bad"]
    assert (check.status, check.detail) == ("warn", "broken: ImportError: no")
    assert check.mend == "pip install --upgrade bad-dist"


def test_a_check_that_breaks_does_not_stop_the_others(monkeypatch):
    def explode():
        raise ValueError("two\nlines")
        yield

    monkeypatch.setitem(doctor.CHECKS, "video", explode)
    found = checks()
    assert found["video"] == doctor.Check("video", "fail", "ValueError: two lines")
    assert "output" in found
