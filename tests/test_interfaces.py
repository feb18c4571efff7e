"""What plugins share: detector options are read as they are shown, a model's name is one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blurgate.interfaces import DetectorOptions, ModelInfo


@given(st.integers(1, 1 << 20), st.floats(0, 1))
def test_detector_options_are_read_as_they_are_shown(long_side, min_score):
    options = DetectorOptions(long_side, min_score)
    assert DetectorOptions.parse(repr(options)) == options


@pytest.mark.parametrize(
    "text",
    [
        "none",
        "",
        "DetectorOptions(long_side=640)",
        "DetectorOptions(long_side=640, min_score=nan)",
        "DetectorOptions(long_side=640, min_score=0.5.5)",
        f"DetectorOptions(long_side={'9' * 5000}, min_score=0.5)",
        "x DetectorOptions(long_side=640, min_score=0.5)",
    ],
)
def test_what_is_no_detector_options_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"not what DetectorOptions show|convert|limit"):
        DetectorOptions.parse(text)


def test_a_name_that_a_card_brings_cannot_write_to_the_terminal():
    assert str(ModelInfo("m\n\x1b[2J", "")) == r"'m\n\x1b[2J'"
    assert str(ModelInfo("m", "ab" * 32)) == "m@abababababab"
