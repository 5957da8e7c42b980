"""SQNR and cosine against loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimkit.errors import NumericsError
from slimkit.numerics.fidelity import cosine, mean_squared_error, sqnr_db
from slimkit.numerics.symmetric import fake_quantize


def loop(a, b):
    signal = noise = dot = second = 0.0
    for u, v in zip(a.ravel().tolist(), b.ravel().tolist()):
        signal += u * u
        second += v * v
        noise += (u - v) ** 2
        dot += u * v
    return noise / a.size, 10 * math.log10(signal / noise), dot / math.sqrt(signal * second)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_equals_a_loop(axis):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 4, 5)).astype(np.float32)
    b = a + rng.normal(0, 0.1, a.shape).astype(np.float32)
    found = [f(a, b, axis) for f in (mean_squared_error, sqnr_db, cosine)]
    channels = range(1 if axis is None else a.shape[axis])
    for c in channels:
        pair = (a, b) if axis is None else (np.take(a, c, axis), np.take(b, c, axis))
        for got, want in zip(found, loop(*pair)):
            assert np.ravel(got)[c] == pytest.approx(want, rel=1e-9)


def test_a_bit_is_worth_six_decibels():
    x = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    by_bits = [float(sqnr_db(x, fake_quantize(x, 1.0, b))) for b in range(6, 13)]
    assert np.allclose(np.diff(by_bits), 6.02, atol=0.2)


def test_corner_cases():
    a, zero = np.array([1.0, 2.0]), np.zeros(2)
    assert sqnr_db(a, a) == np.inf and cosine(a, 2 * a) == pytest.approx(1)
    assert sqnr_db(zero, a) == -np.inf and cosine(zero, a) == 0
    assert sqnr_db(zero, zero) == np.inf and cosine(zero, zero) == 1
    assert cosine(a, -a) == pytest.approx(-1)


@given(hnp.arrays(np.float64, 8, elements=st.floats(-1e3, 1e3)), st.floats(0.1, 10))
def test_cosine_is_bounded_and_blind_to_size(x, factor):
    y = x[::-1]
    assert -1 <= cosine(x, y) <= 1
    assert cosine(x, y * factor) == pytest.approx(float(cosine(x, y)), abs=1e-9)


def test_shapes_must_agree():
    with pytest.raises(NumericsError, match=r"\(2,\) and \(3,\) cannot be compared"):
        sqnr_db(np.ones(2), np.ones(3))
    with pytest.raises(NumericsError, match="axis 4"):
        cosine(np.ones((2, 2)), np.ones((2, 2)), 4)
