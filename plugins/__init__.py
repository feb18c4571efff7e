"""The plugins that come in the box; each module registers itself through the host."""

# Under its bare name this would be a second copy, with second copies of every class.
if __name__ != "blurgate.plugins":
    raise ImportError(
        "import blurgate.plugins, not the bare folder 'plugins'; run: pip install -e ."
    )
