"""Thresholds of tensors and trackers against loops over the history."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimkit.errors import NumericsError
from slimkit.numerics.scales import (
    ACTIVATION_SCALES,
    WEIGHT_SCALES,
    MovingAverageScale,
    WindowMaxScale,
    abs_max,
    channel_wise_abs_max,
    scale_tracker,
)

history = st.lists(st.floats(0, 100, width=32), min_size=1, max_size=30)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_channel_wise_abs_max_against_a_loop(axis):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    got = channel_wise_abs_max(x, axis)
    moved = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1).tolist()
    assert got.tolist() == [max(abs(v) for v in row) for row in moved]
    assert abs_max(x) == max(max(abs(v) for v in row) for row in moved)
    assert got.dtype == np.float32


def batch(magnitude):
    return np.array([magnitude / 2, -magnitude, 0], np.float32)


@given(seen=history, window=st.integers(1, 8))
def test_windows_against_the_last_values(seen, window):
    high = scale_tracker("range_abs_max", ACTIVATION_SCALES, window=window)
    mean = scale_tracker("window_mean_abs_max", ACTIVATION_SCALES, window=window)
    for t in range(len(seen)):
        last = seen[max(0, t + 1 - window) : t + 1]
        assert high.update(batch(seen[t])) == np.float32(max(last))
        assert mean.update(batch(seen[t])) == pytest.approx(sum(last) / len(last), rel=1e-6)


@given(seen=history, rate=st.floats(0, 0.99))
def test_moving_average_against_its_definition(seen, rate):
    plain = MovingAverageScale(rate, debias=False)
    debiased = MovingAverageScale(rate)
    value = seen[0]
    weights, total = 0.0, 0.0
    for t, v in enumerate(seen):
        value = v if t == 0 else (1 - rate) * v + rate * value
        weights, total = weights * rate + 1, total * rate + v
        assert plain.update(batch(v)) == pytest.approx(value, rel=1e-4, abs=1e-6)
        assert debiased.update(batch(v)) == pytest.approx(total / weights, rel=1e-4, abs=1e-6)


def test_debiased_average_of_a_constant_is_the_constant_from_the_first_step():
    tracker = MovingAverageScale(0.9)
    for _ in range(5):
        assert tracker.update(batch(3.0)) == pytest.approx(3.0, rel=1e-6)


def test_a_tracker_goes_on_from_a_state():
    whole, first = MovingAverageScale(0.9), MovingAverageScale(0.9)
    seen = [1.0, 5.0, 2.0, 3.0]
    for v in seen:
        whole.update(batch(v))
    for v in seen[:2]:
        first.update(batch(v))
    second = MovingAverageScale(0.9, accum=first.accum, state=first.state)
    for v in seen[2:]:
        second.update(batch(v))
    assert second.scale == whole.scale


@pytest.mark.parametrize("name", sorted(WEIGHT_SCALES))
def test_channel_wise_trackers_follow_each_channel(name):
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(3, 4)).astype(np.float32) for _ in range(5)]
    together = scale_tracker(name, WEIGHT_SCALES, axis=0)
    alone = [WEIGHT_SCALES[name]() for _ in range(3)]
    for x in batches:
        got = together.update(x)
        assert got.tolist() == [float(t.update(x[c])) for c, t in enumerate(alone)]


@pytest.mark.parametrize("name", sorted(ACTIVATION_SCALES))
def test_a_bad_batch_is_refused_and_changes_nothing(name):
    tracker, twin = ACTIVATION_SCALES[name](), ACTIVATION_SCALES[name]()
    for t in (tracker, twin):
        t.update(batch(2.0))
    for bad in (np.array([np.nan, 1]), np.array([np.inf]), np.zeros((0, 3))):
        with pytest.raises(NumericsError):
            tracker.update(bad)
    assert tracker.update(batch(1.0)) == twin.update(batch(1.0))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: scale_tracker("moving_averge_abs_max", ACTIVATION_SCALES), "did you mean 'moving_average_abs_max'"),
        (lambda: scale_tracker("channel_wise_abs_max", WEIGHT_SCALES), "needs the channel axis"),
        (lambda: WindowMaxScale(0), "window is 1 or more"),
        (lambda: MovingAverageScale(1.0), "moving rate of 1.0"),
        (lambda: channel_wise_abs_max(np.ones(3), 1), "axis 1 does not exist"),
        (lambda: abs_max(np.zeros(0)), "empty array"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(NumericsError, match=message):
        call()


def test_the_number_of_channels_may_not_change():
    tracker = scale_tracker("abs_max", WEIGHT_SCALES, axis=0)
    tracker.update(np.ones((3, 2)))
    with pytest.raises(NumericsError, match="4 channels where earlier ones had 3"):
        tracker.update(np.ones((4, 2)))
