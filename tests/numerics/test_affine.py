"""The affine grid against loops in exact fractions, and its properties."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimkit.errors import NumericsError
from slimkit.numerics.affine import affine_grid, dequantize_affine, fake_quantize_affine, min_max, quantize_affine

finite = st.floats(-100, 100, width=32)


@given(x=finite, ends=st.tuples(finite, finite), bits=st.sampled_from(range(2, 17)))
def test_equals_exact_fractions(x, ends, bits):
    low, high = min(ends), max(ends)
    assume(high - low > 1e-3)
    grid = affine_grid(low, high, bits)
    v = Fraction(x) / Fraction(float(grid.step))
    tie = abs(v - math.floor(v) - Fraction(1, 2))
    assume(tie > Fraction(1, 100000) * max(1, abs(math.floor(v))))
    expected = math.floor(v + Fraction(1, 2)) + int(grid.zero_point)
    assert int(quantize_affine(np.array([x]), grid)[0]) == max(0, min(2**bits - 1, expected))


@given(x=hnp.arrays(np.float32, st.integers(1, 30), elements=finite), bits=st.sampled_from(range(2, 17)))
def test_zero_is_exact_and_errors_are_within_a_step(x, bits):
    assume(np.ptp(np.append(x, 0)) > 1e-3)
    grid = affine_grid(x.min(), x.max(), bits)
    zero = fake_quantize_affine(np.zeros(1, np.float32), grid)
    assert zero[0] == 0
    y = fake_quantize_affine(x, grid)
    # Rounding the zero point moves the grid by up to half a step, so an end may be a whole step away.
    assert np.all(np.abs(y - x) <= float(grid.step) * (1 + 1e-3) + 1e-5)
    q = quantize_affine(x, grid)
    assert q.min() >= 0 and q.max() <= 2**bits - 1
    assert np.array_equal(quantize_affine(dequantize_affine(q, grid), grid), q)


def test_range_is_widened_to_hold_zero():
    for low, high in ((2.0, 6.0), (-6.0, -2.0)):
        grid = affine_grid(low, high, 8)
        assert float(grid.step) == pytest.approx(6 / 255)
        assert int(grid.zero_point) in (0, 255)
        assert 0 <= int(grid.zero_point) <= 255


def test_constant_tensors_do_not_divide_by_zero():
    grid = affine_grid(0.0, 0.0, 8)
    assert np.isfinite(grid.step) and grid.step > 0
    assert fake_quantize_affine(np.zeros(3, np.float32), grid).tolist() == [0, 0, 0]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_channels_are_quantized_one_by_one(axis):
    x = np.random.default_rng(0).normal(1, 3, size=(3, 4, 5)).astype(np.float32)
    low, high = min_max(x, axis)
    grid = affine_grid(low, high, 5, axis)
    y = fake_quantize_affine(x, grid)
    for c in range(x.shape[axis]):
        part = np.take(x, c, axis)
        single = affine_grid(part.min(), part.max(), 5)
        assert np.array_equal(np.take(y, c, axis), fake_quantize_affine(part, single))


def test_min_max_against_a_loop():
    x = np.random.default_rng(1).normal(size=(2, 3, 4))
    low, high = min_max(x, 1)
    for c in range(3):
        cells = [x[i, c, j] for i in range(2) for j in range(4)]
        assert low[c] == min(cells) and high[c] == max(cells)
    assert min_max(x) == (x.min(), x.max())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: affine_grid(2.0, 1.0), "the first is the smaller"),
        (lambda: affine_grid(0.0, np.inf), "finite"),
        (lambda: affine_grid(0.0, 1.0, 1), "2 to 16"),
        (lambda: min_max(np.zeros((0, 3))), "empty array"),
        (lambda: min_max(np.zeros((2, 3)), 5), "axis 5 does not exist"),
        (lambda: quantize_affine(np.array([np.nan]), affine_grid(0.0, 1.0)), "1 of 1 values are NaN"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(NumericsError, match=message):
        call()
