"""Sensitivity curves against brute force, scipy and what must hold for every curve."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimkit.errors import NumericsError
from slimkit.numerics.curves import fit_curve, isotonic, pchip_slopes, ratio_at_loss

losses = st.floats(-2, 10).map(lambda v: round(v, 6))
points = st.dictionaries(st.integers(1, 99).map(lambda k: k / 100), losses, min_size=1, max_size=9)


def _nearest_never_falling(values):
    """The quadratic program by brute force: its solution is constant on blocks, at their means; try every division."""
    best, best_error = None, np.inf
    n = len(values)
    for cuts in itertools.product([0, 1], repeat=n - 1):
        ends = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), n]
        means = [np.mean(values[a:b]) for a, b in zip(ends, ends[1:])]
        if any(a > b + 1e-12 for a, b in zip(means, means[1:])):
            continue
        found = np.repeat(means, np.diff(ends))
        error = ((found - values) ** 2).sum()
        if error < best_error:
            best, best_error = found, error
    return best


@given(values=st.lists(losses, min_size=1, max_size=8))
def test_isotonic_is_the_nearest_never_falling_sequence(values):
    np.testing.assert_allclose(isotonic(np.array(values)), _nearest_never_falling(np.array(values)), atol=1e-9)


@given(values=st.lists(losses, min_size=1, max_size=6))
def test_the_fit_is_the_nearest_with_no_negative(values):
    """Clipping after pooling is the solution under both conditions: no other grid point is nearer."""
    fitted = fit_curve({(i + 1) / 10: v for i, v in enumerate(values)}).losses[1:]
    error = ((fitted - values) ** 2).sum()
    grid = sorted({0.0, *np.maximum(values, 0), *np.maximum(_nearest_never_falling(np.array(values)), 0)})
    others = itertools.combinations_with_replacement(grid, len(values))
    assert error <= min(((np.array(other) - values) ** 2).sum() for other in others) + 1e-9


@given(points=points)
def test_never_falls_starts_at_zero_and_knows_its_end(points):
    curve = fit_curve(points)
    dense = np.linspace(0, curve.largest, 2001)
    values = curve(dense)
    assert curve(0.0) == 0 and (values >= 0).all() and (np.diff(values) >= -1e-12).all()
    assert curve.largest == max(points)
    np.testing.assert_allclose(curve(curve.ratios), curve.losses, atol=1e-12)
    assert np.isinf(curve(min(0.999, curve.largest + 0.005)))


@given(points=points)
def test_passes_between_the_points(points):
    """In every piece the curve is between the piece's ends, and within the range of the (clipped) measured losses."""
    curve = fit_curve(points)
    for left, right, low, high in zip(curve.ratios, curve.ratios[1:], curve.losses, curve.losses[1:]):
        inside = curve(np.linspace(left, right, 50))
        assert (inside >= low - 1e-12).all() and (inside <= high + 1e-12).all()
    assert curve.losses.max() <= max(0.0, *points.values()) + 1e-12


def test_monotone_points_are_met_exactly():
    measured = {0.1: 0.0, 0.2: 0.01, 0.4: 0.02, 0.7: 0.3, 0.9: 0.9}
    curve = fit_curve(measured)
    np.testing.assert_allclose(curve(np.array(list(measured))), list(measured.values()), atol=1e-15)
    assert curve.residual == 0


def test_one_point_is_a_line_and_a_gain_is_no_loss():
    np.testing.assert_allclose(fit_curve({0.5: 0.2})(np.array([0.0, 0.125, 0.25, 0.5])), [0, 0.05, 0.1, 0.2])
    assert fit_curve({0.5: -0.2, 0.25: -0.1})(0.4) == 0
    assert fit_curve({0.0: 3.0, 0.5: 0.2})(0.25) == pytest.approx(0.1)


def test_slopes_by_hand_and_by_convergence():
    """Weighted harmonic means inside, zero beside a flat piece, three points at the ends; it converges."""
    x, y = np.array([0.0, 1.0, 3.0, 4.0, 6.0]), np.array([0.0, 2.0, 3.0, 3.0, 7.0])
    inside = (5 + 4) / (5 / 2.0 + 4 / 0.5)  # weights 2 * 2 + 1 and 2 + 2 * 1 of the secants 2 and 1/2
    start = ((2 * 1 + 2) * 2.0 - 1 * 0.5) / 3
    end = ((2 * 2 + 1) * 2.0 - 2 * 0.0) / 3
    np.testing.assert_allclose(pchip_slopes(x, y), [start, inside, 0, 0, end])
    errors = []
    for count in (8, 16, 32):
        curve = fit_curve({k / count * 0.9: np.expm1(2 * k / count * 0.9) for k in range(1, count + 1)})
        dense = np.linspace(0, 0.9, 999)
        errors.append(np.abs(curve(dense) - np.expm1(2 * dense)).max())
    assert errors[0] < 5e-3 and errors[1] < errors[0] / 5 and errors[2] < errors[1] / 5


@pytest.mark.parametrize("bad", [{}, {0.0: 1.0}, {1.0: 0.1}, {-0.1: 0.1}, {0.5: float("nan")}, {float("nan"): 0.1}])
def test_points_that_are_none(bad):
    with pytest.raises(NumericsError, match=r"at least one measured ratio|cannot be fitted"):
        fit_curve(bad)


def test_a_ratio_that_is_none():
    with pytest.raises(NumericsError, match="negative ratio or NaN"):
        fit_curve({0.5: 0.1})(float("nan"))


@pytest.mark.parametrize(
    ("points", "loss", "ratio"),
    [
        ({0.1: 0.01, 0.2: 0.03}, 0.02, 0.15),
        ({0.1: 0.01, 0.2: 0.03}, 0.03, 0.2),
        ({0.1: 0.01, 0.2: 0.03}, 1.0, 0.2),
        ({0.1: 0.05, 0.2: 0.03}, 0.04, 0.2),  # the last within, not the first
        ({0.1: 0.01, 0.2: 0.5, 0.3: 0.02, 0.4: 0.06}, 0.04, 0.35),
        ({0.1: 0.05}, 0.04, 0.0),
        ({}, 0.04, 0.0),
        ({0.3: 0.06, 0.1: -0.02}, 0.02, 0.2),
        ({0.1: 0.0, 0.2: float("inf")}, 0.1, 0.1),
        ({0.1: 0.0, 0.2: float("nan")}, 0.1, 0.1),
    ],
)
def test_paddleslims_rule(points, loss, ratio):
    assert ratio_at_loss(points, loss) == pytest.approx(ratio)
