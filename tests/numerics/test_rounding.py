"""Rounding against Python's decimal arithmetic."""

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimkit.errors import NumericsError, SlimkitError
from slimkit.numerics.rounding import ROUNDINGS, round_half_away, round_half_even, rounding_function

values = st.floats(-1e7, 1e7, width=32)
DECIMAL = {"half_even": ROUND_HALF_EVEN, "half_away": ROUND_HALF_UP}  # decimal's half-up is away from zero


@pytest.mark.parametrize("name", sorted(ROUNDINGS))
@given(x=st.one_of(values, st.integers(-10000, 10000).map(lambda k: k + 0.5)))
def test_equals_decimal_rounding(name, x):
    expected = float(Decimal(x).quantize(Decimal(1), rounding=DECIMAL[name]))
    assert float(ROUNDINGS[name](np.array([x], np.float32))[0]) == expected
    assert float(ROUNDINGS[name](np.array([x], np.float64))[0]) == expected


def test_ties():
    ties = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    assert round_half_even(ties).tolist() == [-2, -2, 0, 0, 2, 2]
    assert round_half_away(ties).tolist() == [-3, -2, -1, 1, 2, 3]


def test_largest_float_below_a_half_is_not_rounded_up():
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert round_half_away(np.array([below, -below], np.float32)).tolist() == [0, 0]
    odd = np.float32(2**23 + 1)  # odd + 0.5 is not a float32
    assert round_half_away(np.array([odd], np.float32))[0] == odd


@pytest.mark.parametrize("name", sorted(ROUNDINGS))
def test_keeps_dtype_shape_and_what_has_no_integer(name):
    x = np.array([[np.inf, -np.inf], [np.nan, 1.25]], np.float32)
    with np.errstate(invalid="ignore"):
        rounded = ROUNDINGS[name](x)
    assert rounded.dtype == np.float32 and rounded.shape == (2, 2)
    assert np.isnan(rounded[1, 0]) and rounded[1, 1] == 1
    if name == "half_even":
        assert rounded[0, 0] == np.inf


def test_unknown_name_is_one_sentence_with_the_nearest():
    with pytest.raises(NumericsError, match=r"There is no rounding 'half_evn'; did you mean 'half_even'\?"):
        rounding_function("half_evn")
    with pytest.raises(SlimkitError, match="half_even, half_away"):
        rounding_function("zzz")
