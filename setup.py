"""Maps the top-level source folders into the one import package `blurgate`.

Everything else about the distribution stands in pyproject.toml. The mapping is code and not
`[tool.setuptools] packages`, because a subpackage missing from such a list still imports in an
editable install and is silently absent from the wheel (docs/decisions/0001-layout.md).
"""

from setuptools import find_packages, setup

FOLDERS = {
    "blurgate": "blurgate",
    "blurgate.plugins": "plugins",
    "blurgate.models_zoo": "models_zoo",
    "blurgate.training": "training",
}

setup(
    package_dir=FOLDERS,
    packages=[
        package
        for root, folder in FOLDERS.items()
        for package in (root, *(f"{root}.{name}" for name in find_packages(folder)))
    ],
)
