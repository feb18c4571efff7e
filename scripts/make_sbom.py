"""Write a bill of materials of this environment: CycloneDX 1.6 as JSON, on standard output.

    python scripts/make_sbom.py [EXTRA...] > blurgate.cdx.json

It lists blurgate, what it needs here (with the extras that are named, such as `cpu train`), down
to the last dependency, and the models in the box with their SHA-256. It is made from the metadata
of what is installed, so run it in the environment that you ship. Of shared libraries inside wheels,
such as those of FFmpeg in PyAV, it knows nothing. The same environment gives the same bytes.
https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement

ROOT = "blurgate"


def plain(name: str) -> str:
    """A distribution's name as PEP 503 spells it.

    >>> plain("Typing_Extensions")
    'typing-extensions'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(found: Distribution, extras: frozenset[str]) -> dict[str, frozenset[str]]:
    """Name -> extras of what a distribution asks for in this environment."""
    wanted: dict[str, frozenset[str]] = {}
    for text in found.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in (*extras, "")):
            name = plain(requirement.name)
            wanted[name] = wanted.get(name, frozenset()) | frozenset(requirement.extras)
    return wanted


def collect(extras: frozenset[str]) -> tuple[dict[str, Distribution], dict[str, list[str]]]:
    """Everything that blurgate needs here: name -> distribution, name -> names it needs.

    Raises:
        SystemExit: Something is not installed.
    """
    found: dict[str, Distribution] = {}
    edges: dict[str, list[str]] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [(ROOT, extras)]
    while queue:
        name, wanted = queue.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name} is needed and not installed; install it, or name fewer extras")
        children = needed(found[name], wanted)
        edges[name] = sorted({*edges.get(name, ()), *children})
        queue += children.items()
    return found, edges


def reference(found: Distribution) -> str:
    """The package URL of a distribution (purl-spec, type pypi)."""
    return f"pkg:pypi/{plain(found.metadata['Name'])}@{quote(found.version)}"


def licence(found: Distribution) -> list[dict[str, Any]]:
    """What a distribution says of its licence: an expression, or the names of its classifiers."""
    if expression := found.metadata.get("License-Expression"):
        return [{"expression": expression}]
    trove = [c for c in found.metadata.get_all("Classifier") or () if c.startswith("License ::")]
    names = [c.rpartition(" :: ")[2] for c in trove]
    text = found.metadata.get("License") or ""
    if not names and text and "\n" not in text.strip() and len(text) < 80:
        names = [text.strip()]
    return [{"license": {"name": name}} for name in names]


def component(found: Distribution, kind: str = "library") -> dict[str, Any]:
    """A distribution as a component."""
    facts: dict[str, Any] = {
        "type": kind,
        "bom-ref": reference(found),
        "name": plain(found.metadata["Name"]),
        "version": found.version,
        "purl": reference(found),
    }
    if found.metadata.get("Summary"):
        facts["description"] = found.metadata["Summary"]
    if licences := licence(found):
        facts["licenses"] = licences
    return facts


def models() -> list[dict[str, Any]]:
    """The models in the box."""
    listed = json.loads(files("blurgate.models_zoo").joinpath("manifest.json").read_text("utf-8"))
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": f"model:{one['name']}@{one['sha256'][:12]}",
            "name": one["name"],
            "version": one["sha256"][:12],
            "hashes": [{"alg": "SHA-256", "content": one["sha256"]}],
            "licenses": [{"license": {"name": one["licence"]}}],
        }
        for one in listed["models"]
        if one["origin"] == ROOT and one.get("file")
    ]


def bill(extras: frozenset[str]) -> dict[str, Any]:
    """The whole document."""
    found, edges = collect(extras)
    boxed = models()
    root = found.pop(ROOT)
    depends = [
        {"ref": reference(one), "dependsOn": [reference(found[child]) for child in edges[name]]}
        for name, one in sorted(found.items())
    ]
    first = [reference(found[child]) for child in edges[ROOT]] + [m["bom-ref"] for m in boxed]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component(root, "application")},
        "components": [component(one) for _, one in sorted(found.items())] + boxed,
        "dependencies": [{"ref": reference(root), "dependsOn": first}, *depends],
    }


if __name__ == "__main__":
    print(json.dumps(bill(frozenset(sys.argv[1:])), indent=1, ensure_ascii=False))
