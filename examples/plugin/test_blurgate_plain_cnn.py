"""The contract of a backbone, as blurgate ships it: run `pytest` after `pip install .`."""

import pytest

from blurgate.testing import Check, checks


@pytest.mark.parametrize(
    "check",
    checks("plugin", "blurgate_plain_cnn") + checks("backbone", "plain-cnn"),
    ids=str,
)
def test_contract(check: Check) -> None:
    check()
