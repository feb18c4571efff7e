"""Model manifest, model cards and the weights that this project's own commands trained."""

if (
    __name__ != "blurgate.models_zoo"
):  # a second copy of these modules would hold second copies of every class
    raise ImportError(
        "import blurgate.models_zoo, not the bare folder 'models_zoo' (install with: pip install -e .)"
    )
