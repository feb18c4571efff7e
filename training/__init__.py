"""Data generation and training; installed always, its heavy imports wait for the `train` extra."""

if (
    __name__ != "blurgate.training"
):  # a second copy of these modules would hold second copies of every class
    raise ImportError(
        "import blurgate.training, not the bare folder 'training' (install with: pip install -e .)"
    )
