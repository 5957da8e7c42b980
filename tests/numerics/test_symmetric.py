"""The symmetric grid against loops in exact fractions, and its properties."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimkit.errors import NumericsError
from slimkit.numerics.symmetric import dequantize, fake_quantize, inverse_scale, quantize

BITS = range(2, 17)
ROUNDINGS = ("half_even", "half_away")
finite = st.floats(-100, 100, width=32)
scales = st.floats(0.0078125, 128, width=32)


def exact_integer(x: float, scale: float, bits: int, rounding: str):
    """q = clip(round(x / M * (n - 1))) without rounding errors; None within 1e-5 of a tie."""
    top = 2 ** (bits - 1) - 1
    v = Fraction(x) / Fraction(scale) * top
    whole = math.floor(v)
    if abs(v - whole - Fraction(1, 2)) < Fraction(1, 100000) * max(1, abs(whole)):
        return None
    nearest = whole + (1 if v - whole > Fraction(1, 2) else 0)
    low = -top - 1 if rounding == "half_even" else -top
    return max(low, min(top, nearest))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@given(x=finite, scale=scales, bits=st.sampled_from(BITS))
def test_equals_exact_fractions(rounding, x, scale, bits):
    expected = exact_integer(x, scale, bits, rounding)
    assume(expected is not None)
    assert int(quantize(np.array([x]), scale, bits, rounding=rounding)[0]) == expected


@pytest.mark.parametrize("bits", BITS)
def test_ties_where_they_are_exact(bits):
    top = 2 ** (bits - 1) - 1
    x = np.array([0.5, -0.5, 1.5 if top > 1 else 0.5, top - 0.5], np.float32)
    even = quantize(x, top, bits, rounding="half_even")
    away = quantize(x, top, bits, rounding="half_away")
    assert even.tolist() == [round(float(v)) for v in x]
    assert away.tolist() == [1, -1, 2 if top > 1 else 1, top]


@pytest.mark.parametrize("bits", BITS)
def test_ends_of_the_grid(bits):
    top = 2 ** (bits - 1) - 1
    x = np.array([-np.inf, -5, -1, 0, 1, 5, np.inf], np.float32)
    assert quantize(x, 1.0, bits).tolist() == [-top, -top, -top, 0, top, top, top]
    assert quantize(x, 1.0, bits, rounding="half_even").tolist() == [-top - 1, -top - 1, -top, 0, top, top, top]
    assert fake_quantize(x, 1.0, bits).tolist() == [-1, -1, -1, 0, 1, 1, 1]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@given(
    x=hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=5), elements=finite),
    scale=scales,
    bits=st.sampled_from(BITS),
)
def test_error_is_half_a_step_inside_and_quantizing_twice_changes_nothing(rounding, x, scale, bits):
    step = scale / (2 ** (bits - 1) - 1)
    y = fake_quantize(x, scale, bits, rounding=rounding)
    inside = np.abs(x) <= scale
    assert np.all(np.abs(y - x)[inside] <= step * 0.5 * (1 + 1e-3) + 1e-6)
    assert np.array_equal(fake_quantize(y, scale, bits, rounding=rounding), y)
    assert np.array_equal(dequantize(quantize(x, scale, bits, rounding=rounding), scale, bits), y)


@given(x=hnp.arrays(np.float32, 20, elements=finite), scale=scales, bits=st.sampled_from(BITS))
def test_half_away_is_odd_and_monotonic(x, scale, bits):
    q = quantize(x, scale, bits)
    assert np.array_equal(quantize(-x, scale, bits), -q)
    order = np.argsort(x)
    assert np.all(np.diff(q[order]) >= 0)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_channels_are_quantized_one_by_one(axis, rounding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 5)).astype(np.float32)
    scale = rng.uniform(0.5, 2, x.shape[axis]).astype(np.float32)
    whole = quantize(x, scale, 4, axis, rounding)
    back = dequantize(whole, scale, 4, axis)
    for c in range(x.shape[axis]):
        part = np.take(whole, c, axis)
        assert np.array_equal(part, quantize(np.take(x, c, axis), scale[c], 4, rounding=rounding))
        assert np.array_equal(np.take(back, c, axis), dequantize(part, scale[c], 4))


def test_a_scale_of_zero_gives_zeros_and_is_finite():
    x = np.zeros(4, np.float32)
    for rounding in ROUNDINGS:
        assert quantize(x, 0.0, rounding=rounding).tolist() == [0, 0, 0, 0]
        assert fake_quantize(x + 1, 0.0, rounding=rounding).tolist() == [0, 0, 0, 0]
    assert inverse_scale(0.0) == np.float32(1e6)


def test_nan_is_refused_by_quantize_and_kept_by_fake_quantize():
    x = np.array([1.0, np.nan], np.float32)
    with pytest.raises(NumericsError, match="1 of 2 values are NaN"):
        quantize(x, 1.0)
    assert np.isnan(fake_quantize(x, 1.0)[1])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: quantize(x, 1.0, 1), "2 to 16"),
        (lambda x: quantize(x, 1.0, 17), "2 to 16"),
        (lambda x: quantize(x, 1.0, 8.0), "whole number"),
        (lambda x: quantize(x, 1.0, True), "whole number"),
        (lambda x: quantize(x, -1.0), "not negative"),
        (lambda x: quantize(x, np.nan), "finite"),
        (lambda x: dequantize(x, np.inf), "finite"),
        (lambda x: quantize(x, np.ones(2), axis=0), r"2 scales do not fit axis 0 .* \(3, 4\); give 3"),
        (lambda x: quantize(x, np.ones(3)), "without a channel axis"),
        (lambda x: quantize(x, np.ones(3), axis=2), "axis 2 does not exist"),
        (lambda x: quantize(x, 1.0, rounding="up"), "no rounding 'up'"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(NumericsError, match=message):
        call(np.ones((3, 4), np.float32))


def test_empty_arrays_stay_empty():
    assert quantize(np.zeros((0, 3), np.float32), 1.0).shape == (0, 3)
