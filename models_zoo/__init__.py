"""Model manifest, model cards and the weights that this project's own commands trained."""

# Under its bare name this would be a second copy, with second copies of every class.
if __name__ != "blurgate.models_zoo":
    raise ImportError(
        "import blurgate.models_zoo, not the bare folder 'models_zoo'; run: pip install -e ."
    )
