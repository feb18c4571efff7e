"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from blurgate import catalogue, cli
from blurgate.host import get_host

DATA = Path(__file__).parent / "data"

# A developer's own plugins must not change what the tests see; set before anything makes the host.
os.environ["BLURGATE_DISABLED_PLUGINS"] = "*"

# A shell lets what it starts with & ignore Ctrl-C, and so do the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _shared_folder() -> Path | None:
    """The development data: BLURGATE_SHARED, or a folder `shared` beside the checkout."""
    named = os.environ.get("BLURGATE_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    return folder if (folder / "data" / "MANIFEST.md").is_file() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data folder; skips the test where it is absent."""
    folder = _shared_folder()
    if folder is None:
        pytest.skip("the development data is not here (set BLURGATE_SHARED to its folder)")
    return folder


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """Undo what the AV1 encoder SVT-AV1 does where it may, as root.

    It makes the thread that opens it a real-time one of the highest priority. Programs that later
    tests start inherit that, and a browser that nobody can interrupt stops the machine.
    """
    ordinary_priority()
    yield
    ordinary_priority()


def ordinary_priority() -> None:
    """Let this thread be scheduled like any other."""
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let torch work on one thread.

    Sums over several may be added up in another order, and several wait for each other, which takes
    minutes on a machine that is busy.
    """
    torch = pytest.importorskip("torch", reason='it needs: pip install "blurgate[train]"')
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bare_zoo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let nothing be in the box or in the model folder: the manifest without our own weights."""
    whole = catalogue.get_manifest()
    models = tuple(m for m in whole.models if m.origin != "blurgate" or not m.file)
    names = {(m.kind, m.name) for m in models}
    defaults = {
        kind: [name for name in wanted if (kind, name) in names]
        for kind, wanted in whole.defaults.items()
    }
    bare = catalogue.Manifest(defaults, models, whole.packs)
    monkeypatch.setattr(catalogue, "get_manifest", lambda: bare)
    if not os.environ.get("BLURGATE_HOME", "").startswith(str(tmp_path)):
        monkeypatch.setenv("BLURGATE_HOME", str(tmp_path / "no-models"))


@pytest.fixture(scope="session")
def printed() -> Callable[[str], str]:
    """Runs code in an interpreter of its own, gives what it prints, and fails where it fails."""

    def run_code(code: str) -> str:
        command = [sys.executable, "-P", "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return run_code


@pytest.fixture(scope="session")
def load() -> Callable[[Path], ModuleType]:
    """Import a file that is in no package: a script, or a plugin of tests/data."""

    def load_module(path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # where its dataclasses look themselves up
        try:
            spec.loader.exec_module(module)
        finally:
            del sys.modules[path.stem]
        return module

    return load_module


@pytest.fixture
def marker(load: Callable[[Path], ModuleType]) -> Iterator[ModuleType]:
    """The module of the `marker` detector, registered for the length of the test."""
    module = load(DATA / "marker_plugin.py")
    host = get_host()
    host.add(module, "marker-plugin")
    try:
        yield module
    finally:
        host.remove("marker-plugin")


@pytest.fixture(scope="module")
def tiny(load: Callable[[Path], ModuleType]) -> ModuleType:
    """The module of the embedder `tiny`, which also draws faces for it."""
    return load(DATA / "tiny_embedder.py")


@pytest.fixture(scope="module")
def tiny_plugin(tiny: ModuleType) -> Iterator[None]:
    """The embedder `tiny`, registered for the length of a test file."""
    host = get_host()
    host.add(tiny, "tiny-plugin")
    try:
        yield
    finally:
        host.remove("tiny-plugin")


@pytest.fixture
def installed(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Environment for a subprocess in which a plugin of tests/data is an installed distribution."""

    def install(name: str) -> dict[str, str]:
        site = tmp_path / "site"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        dashed = name.replace("_", "-")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dashed}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[blurgate]\n{dashed} = {name}\n")
        (site / f"{name}.py").write_text((DATA / f"{name}.py").read_text())
        environment = {**os.environ, "PYTHONPATH": str(site)}
        environment.pop("BLURGATE_DISABLED_PLUGINS")
        return environment

    return install


@pytest.fixture
def marker_environment(installed: Callable[[str], dict[str, str]]) -> dict[str, str]:
    """Environment for a subprocess in which `marker` is an installed outside plugin."""
    return installed("marker_plugin")


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Ran]:
    """Run `blurgate ARGUMENTS...` in this process."""

    def run_command(*arguments: object) -> Ran:
        monkeypatch.setattr("sys.argv", ["blurgate", *map(str, arguments)])
        monkeypatch.setattr("signal.signal", lambda *args: None)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsysbinary.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return Ran(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))

    return run_command
