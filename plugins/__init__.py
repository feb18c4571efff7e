"""The plugins that come in the box; each module registers itself through the host."""

if (
    __name__ != "blurgate.plugins"
):  # a second copy of these modules would hold second copies of every class
    raise ImportError(
        "import blurgate.plugins, not the bare folder 'plugins' (install with: pip install -e .)"
    )
