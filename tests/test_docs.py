"""The documentation names every hook with its exact arguments, and its example runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import numpy as np

from blurgate import blur_degree, hookspecs
from blurgate.catalogue import get_manifest
from blurgate.host import get_host
from blurgate.testing import KINDS, checks

DOCS = Path(__file__).parent.parent / "docs"


def test_every_hook_is_documented_with_its_arguments():
    page = (DOCS / "plugins.md").read_text(encoding="utf-8")
    hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
    assert len(hooks) == 8
    for name in hooks:
        arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
        assert f"`{name}({arguments})`" in page


def test_every_check_of_the_contracts_is_listed():
    page = (DOCS / "plugins.md").read_text(encoding="utf-8")
    for kind in KINDS:
        subject = "blurgate.cli.plugins" if kind in ("command", "plugin") else "name"
        names = "; ".join(check.name.replace("-", " ") for check in checks(kind, subject))
        assert f"| {kind} | {names} |" in page


def test_the_example_plugin_works():
    page = (DOCS / "plugins.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n# my_plugin.py\n(.*?)```", page, re.DOTALL)[1]
    module = ModuleType("my_plugin")
    exec(code, module.__dict__)
    host = get_host()
    host.add(module, "my-plugin")
    try:
        crops = np.full((2, 112, 112, 3), 51, np.uint8)
        np.testing.assert_allclose(blur_degree(crops, model="darkness"), 0.8)
        for check in checks("scorer", "darkness"):
            check()
    finally:
        host.remove("my-plugin")


def test_every_module_of_the_core_is_in_the_table_of_files():
    table = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("## Files")[2]
    modules = {p.name for p in (DOCS.parent / "blurgate").glob("[!_]*.py")}
    assert modules - set(re.findall(r"\w+\.py", table)) == set()


def test_every_script_and_benchmark_is_in_their_index():
    root = DOCS.parent
    files = [p for folder in ("scripts", "benchmarks") for p in (root / folder).iterdir()]
    there = {p.relative_to(root).as_posix() for p in files if p.suffix in ("", ".py")}
    there -= {"scripts/__pycache__", "benchmarks/__pycache__"}
    table = (DOCS / "scripts.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`((?:scripts|benchmarks)/\w+(?:\.py)?)`", table)) == there


def test_tables_of_blur_models_repeat_the_cards():
    cards = {m.name: m for m in get_manifest().models}
    training = (DOCS / "training.md").read_text(encoding="utf-8")
    bench = re.findall(
        r"^\| `(\w[\w.]+)` \| \S+ \| [\d,]+ \| (\.\d+) \| (\.\d+) \|", training, re.M
    )
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    others = re.findall(
        r"^\| `(\w[\w.]+)` \| \S+ \| ([\d.]+) \| (\.\d+), (\.\d+) \|.* (\.\d+) \|$",
        results,
        re.M,
    )
    assert len(bench) >= 5
    assert len(others) >= 6
    for name, mae, rho in bench:
        assert (mae, rho) == errors_of(cards[name]), f"training.md: {name}"
    for name, ms, mae, rho, threshold in others:
        assert (mae, rho) == errors_of(cards[name]), f"results.md: {name}"
        assert ms == f"{cards[name].about['latency_ms']['batch 1']:.2f}", name
        assert threshold == f"{cards[name].threshold:.3f}".removeprefix("0"), name


def errors_of(model):
    """MAE and rank correlation as the tables give them, of the unrounded values."""
    validation = model.about["validation"]
    mae, rho = f"{validation['mae']:.4f}", f"{validation['spearman']:.3f}"
    return mae.removeprefix("0"), rho.removeprefix("0")


def test_links_between_the_pages_lead_somewhere():
    root = DOCS.parent
    pages = [*DOCS.rglob("*.md"), *root.glob("*.md"), *root.glob("models_zoo/*.md")]
    seen = 0
    for page in [*pages, *root.glob("examples/**/*.md")]:
        for target in re.findall(r"\]\(([^):\s]+)\)", page.read_text(encoding="utf-8")):
            name, _, anchor = target.partition("#")
            there = page.parent / name if name else page
            assert there.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors_of(there), f"{page.name}: {target}"
                seen += 1
    assert seen > 20


def anchors_of(page):
    """What GitHub makes of the headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
