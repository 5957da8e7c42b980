"""Criteria of one array against loops over its filters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimkit.errors import NumericsError
from slimkit.numerics import importance
from slimkit.numerics.importance import bn_scale, geometry_median, l1_norm, l2_norm, taylor


def _filters(array, axis):
    return [np.take(array, i, axis).astype(np.float64).ravel() for i in range(array.shape[axis])]


def _distances(array, axis):
    filters = _filters(array, axis)
    return np.array([sum(np.sqrt(((a - b) ** 2).sum()) for b in filters) for a in filters])


def _case(seed=0, shape=(7, 4, 3, 2), dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_each_equals_a_loop_over_filters(axis):
    weight, gradient = _case()
    rows, slopes = _filters(weight, axis), _filters(gradient, axis)
    expected = {
        "l1_norm": [np.abs(w).sum() for w in rows],
        "l2_norm": [np.linalg.norm(w) for w in rows],
        "taylor": [((g * w) ** 2).sum() for w, g in zip(rows, slopes)],
        "taylor_abs": [np.abs(g * w).sum() for w, g in zip(rows, slopes)],
        "geometry_median": _distances(weight, axis),
    }
    for name, want in expected.items():
        more = (gradient,) if "taylor" in name else ()
        found = getattr(importance, name)(weight, *more, axis)
        assert found.dtype == np.float64 and found.shape == (weight.shape[axis],)
        np.testing.assert_allclose(found, want, rtol=1e-12)


def test_sums_do_not_lose_digits_in_float32():
    weight = np.full((2, 1 << 20), 0.1, np.float32)
    weight[0, 0] = 1e6  # a float32 running sum would drop the tenths
    exact = np.abs(weight.astype(np.float64)).sum(1)
    np.testing.assert_allclose(l1_norm(weight), exact, rtol=1e-14)


def test_bn_scale_is_the_magnitude():
    assert bn_scale(np.array([-2.0, 0.5, 0.0], np.float32)).tolist() == [2.0, 0.5, 0.0]


weights = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=5), elements=st.floats(-9, 9, width=32)
)


@given(weight=weights, shift=st.sampled_from([0.0, 1.0, 1000.0]))
def test_distances_equal_brute_force(weight, shift):
    weight = weight.astype(np.float64) + shift
    np.testing.assert_allclose(geometry_median(weight), _distances(weight, 0), rtol=1e-7, atol=1e-12)


def test_no_cancellation_between_nearly_equal_filters():
    rng = np.random.default_rng(1)
    base = rng.standard_normal((1, 64)) * 100
    weight = np.concatenate([base + 1e-9 * rng.standard_normal((6, 64)), -base])
    found, want = geometry_median(weight), _distances(weight, 0)
    np.testing.assert_allclose(found, want, rtol=1e-9)
    # Without the far filter only the tiny distances are left, and they are right too.
    np.testing.assert_allclose(geometry_median(weight[:-1]), _distances(weight[:-1], 0), rtol=1e-7)


def test_equal_filters_are_at_no_distance(monkeypatch):
    rng = np.random.default_rng(2)
    weight = np.repeat(rng.standard_normal((3, 50)).astype(np.float32), 4, axis=0)
    monkeypatch.setattr(importance, "_PAIR_NUMBERS", 100)  # two pairs at a time
    np.testing.assert_allclose(geometry_median(weight), _distances(weight, 0), rtol=1e-12)
    assert geometry_median(np.ones((5, 3, 2, 2), np.float32)).tolist() == [0.0] * 5


def test_what_cannot_be_computed_is_one_sentence():
    with pytest.raises(NumericsError, match=r"shape \[7, 4\] has no axis 2"):
        l2_norm(np.ones((7, 4)), 2)
    with pytest.raises(NumericsError, match=r"gradient of shape \[4\] is not of a weight of shape \[4, 1\]"):
        taylor(np.ones((4, 1)), np.ones(4))
