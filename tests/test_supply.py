"""The scripts about what blurgate is made of: the bill of materials, the audit, lowest versions."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import pytest

from blurgate.runtime import PIP_PYAV, PYAV

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_bill_of_materials_holds_all_that_is_needed(load, project):
    pytest.importorskip("packaging")
    sbom = load(SCRIPTS / "make_sbom.py")
    bill = json.loads(json.dumps(sbom.bill(frozenset())))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["version"] == version("blurgate")
    libraries = {c["name"]: c for c in bill["components"] if c["type"] == "library"}
    direct = {re.match(r"[\w-]+", text)[0] for text in project["dependencies"]}
    assert direct <= libraries.keys()
    assert "mdurl" in libraries, "rich needs markdown-it-py, and that mdurl"
    for name, one in libraries.items():
        assert one["version"] == version(name)
        assert one["purl"] == f"pkg:pypi/{name}@{one['version']}"
    # The graph is closed: every reference is to something that is listed.
    listed = {c["bom-ref"] for c in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert len(listed) == len(bill["components"]) + 1
    for edge in bill["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= listed
    manifest = json.loads((ROOT / "models_zoo/manifest.json").read_text(encoding="utf-8"))
    ours = {m["name"]: m.get("sha256") for m in manifest["models"]}
    found = [c for c in bill["components"] if c["type"] == "machine-learning-model"]
    assert found
    for one in found:
        assert one["hashes"] == [{"alg": "SHA-256", "content": ours[one["name"]]}]


def test_the_licence_of_the_whole_names_the_weights(project):
    own = "LicenseRef-blurgate-weights"
    assert project["license"] == f"Apache-2.0 AND {own}"
    assert project["license-files"] == ["LICENSE", "models_zoo/LICENSE"]
    text = files("blurgate.models_zoo").joinpath("LICENSE").read_text("utf-8")  # beside the weights
    assert text.startswith(own)
    assert "research only" in text


def test_what_could_not_be_looked_up_is_no_clean_bill(load):
    told = load(SCRIPTS / "audit.py").told
    clean = {"name": "a", "version": "1", "vulns": []}
    bad = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
    lost = {"name": "c", "version": "4", "skip_reason": "not on the index"}
    assert told({"dependencies": [clean]}, 1) == (["1 of 1 looked up, 0 known vulnerabilities"], 0)
    lines, code = told({"dependencies": [clean, bad, lost]}, 3)
    assert code == 1
    assert "b 2: CVE-1, mended in 3" in lines
    lines, code = told({"dependencies": [clean, lost]}, 2)
    assert code == 3
    assert lines[0] == "c: not looked up: not on the index"


def test_what_is_said_of_pyav_is_what_pip_is_told(project):
    (required,) = (text for text in project["dependencies"] if text.startswith("av"))
    assert PIP_PYAV.endswith(f'"{required}"')
    assert tuple(map(int, re.findall(r"\d+", required))) == (*PYAV[0], PYAV[1][0])
    assert PYAV[1][1:] == (0,)


def test_the_lowest_versions_are_those_of_pyproject(load, project):
    lowest = load(SCRIPTS / "check_lowest.py").lowest(["cpu", "test"])
    for text in [*project["dependencies"], *project["optional-dependencies"]["cpu"]]:
        name, least = text.partition(",")[0].split(">=")
        assert f"{name}=={least}.*" in lowest
