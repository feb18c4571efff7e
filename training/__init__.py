"""Data generation and training; heavy imports wait until they are needed."""

# Under its bare name this would be a second copy, with second copies of every class.
if __name__ != "blurgate.training":
    raise ImportError(
        "import blurgate.training, not the bare folder 'training'; run: pip install -e ."
    )
