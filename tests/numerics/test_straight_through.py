"""Reference gradients of PACT against finite differences, loops, and the paper's own formula."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimkit.errors import NumericsError
from slimkit.numerics.straight_through import (
    PACT_FORMS,
    pact_clip,
    pact_gradients,
    pact_quantize,
    straight_through_gradient,
)
from slimkit.numerics.symmetric import fake_quantize

values = st.floats(-8, 8).map(lambda v: round(v, 3))


@pytest.mark.parametrize("form", PACT_FORMS)
@given(
    x=hnp.arrays(np.float64, st.integers(1, 12), elements=values),
    alpha=st.floats(0.1, 6).map(lambda v: round(v, 3) + 0.0005),
    seed=st.integers(0, 100),
)
def test_gradients_are_finite_differences(form, x, alpha, seed):
    assume(np.all(np.abs(np.abs(x) - alpha) > 1e-4) and np.all(np.abs(x) > 1e-4))
    dy = np.random.default_rng(seed).normal(size=x.shape)
    dx, dalpha = pact_gradients(x, dy, alpha, form)
    eps = 1e-6

    def loss(inputs, threshold):
        return float((pact_clip(inputs, threshold, form) * dy).sum())

    assert dalpha == pytest.approx((loss(x, alpha + eps) - loss(x, alpha - eps)) / (2 * eps), abs=1e-6)
    for i in range(x.size):
        up, down = x.copy(), x.copy()
        up[i] += eps
        down[i] -= eps
        assert dx[i] == pytest.approx((loss(up, alpha) - loss(down, alpha)) / (2 * eps), abs=1e-6)


@given(x=hnp.arrays(np.float64, 10, elements=values), alpha=st.floats(0.1, 6))
def test_relu_form_is_the_papers_equation(x, alpha):
    assert np.allclose(pact_clip(x, alpha, "relu"), 0.5 * (np.abs(x) - np.abs(x - alpha) + alpha))


def test_against_a_loop():
    rng = np.random.default_rng(0)
    x, dy = rng.normal(0, 2, 500).astype(np.float32), rng.normal(size=500).astype(np.float32)
    alpha = 1.5
    dx, dalpha = pact_gradients(x, dy, alpha)
    total = 0.0
    for i in range(500):
        inside = -alpha <= x[i] <= alpha
        assert dx[i] == (dy[i] if inside else 0)
        if not inside:
            total += float(dy[i]) * (1 if x[i] > 0 else -1)
    assert float(dalpha) == pytest.approx(total, rel=1e-4)


def test_a_value_at_alpha_keeps_its_gradient():
    x, dy = np.array([-2.0, 2.0, 0.0]), np.ones(3)
    assert pact_gradients(x, dy, 2.0)[0].tolist() == [1, 1, 1]
    assert pact_gradients(x, dy, 2.0, "relu")[0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("form", PACT_FORMS)
def test_quantizing_clips_at_alpha_exactly(bits, form):
    x = np.linspace(-4, 4, 1001).astype(np.float32)
    y = pact_quantize(x, 1.5, bits, form)
    assert y.max() == np.float32(1.5) and y.min() == (np.float32(-1.5) if form == "two_sided" else 0)
    assert np.abs(y - pact_clip(x, 1.5, form)).max() <= 1.5 / (2 ** (bits - 1) - 1) / 2 + 1e-6
    if form == "two_sided":  # the grid clips by itself: no clip op is needed before it
        assert np.array_equal(y, fake_quantize(x, 1.5, bits))


def test_straight_through():
    x, dy = np.array([-3.0, -1.0, 0.2, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert straight_through_gradient(x, dy, 1.0).tolist() == [1, 2, 3, 4]
    assert straight_through_gradient(x, dy, 1.0, saturate=True).tolist() == [0, 2, 3, 0]


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_alpha_is_positive(alpha):
    with pytest.raises(NumericsError, match="it is positive"):
        pact_gradients(np.ones(2), np.ones(2), alpha)


def test_unknown_form():
    with pytest.raises(NumericsError, match="no form 'both'"):
        pact_clip(np.ones(2), 1.0, "both")
