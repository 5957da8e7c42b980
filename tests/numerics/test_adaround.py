"""AdaRound on a linear layer: against all roundings there are, and against rounding to nearest."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimkit.errors import NumericsError
from slimkit.numerics.adaround import learn_rounding, rounding_error


def layer(groups, outputs, inputs, seed=0, samples=400):
    """A weight and correlated, one-sided inputs, as behind a relu."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((groups, inputs, inputs)) + 0.5
    x = np.maximum(rng.standard_normal((groups, samples, inputs)) @ mix + 0.3, 0).astype(np.float32)
    return rng.standard_normal((groups, outputs, inputs)).astype(np.float32), x


def statistics(weight, x, noise=0.0):
    """gram and cross of inputs x whose float values were x + noise."""
    y = (x + noise) @ weight.transpose(0, 2, 1)
    return x.transpose(0, 2, 1) @ x / x.shape[1], y.transpose(0, 2, 1) @ x / x.shape[1], y


def grid(weight, bits):
    qmax = 2 ** (bits - 1) - 1
    step = np.abs(weight).max(axis=2, keepdims=True) / qmax
    return step, qmax, np.clip(np.round(weight / step), -qmax, qmax)


def real_error(q, step, x, y):
    """Mean squared error of the results, summed over outputs, from the samples."""
    return float(np.sum((x @ (q * step).transpose(0, 2, 1) - y).astype(np.float64) ** 2) / x.shape[1])


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("shape", [(1, 16, 48), (3, 5, 18), (20, 1, 9), (1, 4, 1)])
def test_the_error_falls_and_is_the_one_of_the_samples(bits, shape):
    weight, x = layer(*shape)
    gram, cross, y = statistics(weight, x)
    step, qmax, nearest = grid(weight, bits)
    found = learn_rounding(weight, step, gram, cross, qmax, nearest, steps=300)
    square = float(np.sum(y.astype(np.float64) ** 2) / x.shape[1])
    assert real_error(nearest, step, x, y) == pytest.approx(found.nearest_error + square, rel=1e-2, abs=1e-5 * square)
    assert real_error(found.integers, step, x, y) == pytest.approx(found.error + square, rel=1e-2, abs=1e-5 * square)
    assert real_error(found.integers, step, x, y) <= real_error(nearest, step, x, y) * 1.001
    assert np.array_equal(found.integers, np.round(found.integers)) and np.abs(found.integers).max() <= qmax
    assert np.abs(found.integers - weight / step).max() <= 1.001
    if shape[2] > 9:
        assert real_error(found.integers, step, x, y) < 0.7 * real_error(nearest, step, x, y)


def test_nearly_all_that_the_best_of_all_roundings_gains():
    weight, x = layer(1, 60, 10)
    gram, cross, _ = statistics(weight, x)
    step, qmax, nearest = grid(weight, 4)
    low = np.floor(weight / step)
    every = (np.clip(low + np.array(up), -qmax, qmax) for up in itertools.product((0, 1), repeat=10))
    best = np.min([rounding_error(q * step, gram, cross) for q in every], axis=0)
    found = rounding_error(learn_rounding(weight, step, gram, cross, qmax, nearest).integers * step, gram, cross)
    at_nearest = rounding_error(nearest * step, gram, cross)
    assert np.all(best <= found + 1e-4) and np.all(found <= at_nearest + 1e-4)
    assert (at_nearest - found).sum() > 0.9 * (at_nearest - best).sum()


def test_the_target_is_the_float_layer_not_the_float_weight():
    """With an input that earlier layers disturbed, rounding makes up for part of that too (paper, section 3.4)."""
    weight, x = layer(1, 8, 24)
    step, qmax, nearest = grid(weight, 4)
    noise = -0.05 * x
    gram, cross, y = statistics(weight, x, noise)
    asymmetric = learn_rounding(weight, step, gram, cross, qmax, nearest, steps=300)
    symmetric = learn_rounding(weight, step, *statistics(weight, x)[:2], qmax, nearest, steps=300)
    assert real_error(asymmetric.integers, step, x, y) < 0.9 * real_error(symmetric.integers, step, x, y)


def test_groups_do_not_mix():
    weight, x = layer(3, 4, 10)
    gram, cross, _ = statistics(weight, x)
    step, qmax, nearest = grid(weight, 4)
    whole = learn_rounding(weight, step, gram, cross, qmax, nearest, steps=50).integers
    for g in range(3):
        part = slice(g, g + 1)
        alone = learn_rounding(weight[part], step[part], gram[part], cross[part], qmax, nearest[part], steps=50)
        assert np.array_equal(whole[part], alone.integers)


def test_inputs_that_are_always_zero_leave_rounding_to_nearest():
    weight, x = layer(2, 3, 6)
    x[:, :, 2] = 0
    x[1] = 0
    gram, cross, _ = statistics(weight, x)
    step, qmax, nearest = grid(weight, 4)
    found = learn_rounding(weight, step, gram, cross, qmax, nearest, steps=100)
    assert np.array_equal(found.integers[1], nearest[1])
    assert np.isfinite(found.error)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), bits=st.sampled_from([2, 4, 8]), factor=st.sampled_from([1e-4, 1.0, 1e4]))
def test_never_worse_than_nearest_on_any_unit(seed, bits, factor):
    weight, x = layer(2, 3, 7, seed, samples=30)
    weight, x = weight * np.float32(factor), x / np.float32(factor) ** 2
    gram, cross, y = statistics(weight, x)
    step, qmax, nearest = grid(weight, bits)
    found = learn_rounding(weight, step, gram, cross, qmax, nearest, steps=30)
    assert found.error <= found.nearest_error
    assert real_error(found.integers, step, x, y) <= real_error(nearest, step, x, y) * (1 + 1e-3)


def test_rounding_error_is_the_quadratic_form():
    weight, x = layer(2, 3, 5)
    gram, cross, y = statistics(weight, x)
    other = np.round(weight)
    expected = np.sum((x @ other.transpose(0, 2, 1) - y) ** 2 - y**2, axis=1) / x.shape[1]
    assert rounding_error(other, gram, cross) == pytest.approx(expected, rel=1e-3)


def test_wrong_arguments():
    weight, x = layer(1, 2, 3)
    gram, cross, _ = statistics(weight, x)
    step, qmax, nearest = grid(weight, 4)
    with pytest.raises(NumericsError, match="does not fit a gram"):
        learn_rounding(weight, step, gram[:, :2], cross, qmax, nearest)
    with pytest.raises(NumericsError, match="NaN or infinity"):
        learn_rounding(weight, step, gram * np.nan, cross, qmax, nearest)
    with pytest.raises(NumericsError, match="0 steps"):
        learn_rounding(weight, step, gram, cross, qmax, nearest, steps=0)
