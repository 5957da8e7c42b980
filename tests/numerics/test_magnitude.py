"""Magnitude pruning against sorting in plain Python, and the gradual schedule against the paper's sum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimkit.errors import NumericsError
from slimkit.numerics.magnitude import (
    GradualSchedule,
    magnitude_masks,
    magnitude_threshold,
    sparsity,
    threshold_mask,
)

few_values = st.integers(-3, 3).map(lambda k: k / 2)  # many ties
shapes = st.sampled_from([(1,), (7,), (3, 4), (4, 3, 1, 1), (5, 2, 3, 3)])


@st.composite
def weight(draw):
    shape = draw(shapes)
    size = int(np.prod(shape))
    return np.array(draw(st.lists(few_values, min_size=size, max_size=size)), np.float32).reshape(shape)


def sorted_away(values, ratio):
    """Positions that go: sort by (|w|, position), take round(ratio * n), leave one."""
    count = min(round(len(values) * ratio), len(values) - 1)
    return set(sorted(range(len(values)), key=lambda i: (abs(values[i]), i))[:count])


@settings(max_examples=60, deadline=None)
@given(weights=st.lists(weight(), min_size=1, max_size=4), ratio=st.floats(0, 1), local=st.booleans())
def test_masks_equal_sorting(weights, ratio, local):
    masks, thresholds = magnitude_masks(weights, ratio, local)
    assert [m.shape for m in masks] == [w.shape for w in weights]
    rows = [w.ravel().tolist() for w in weights] if local else [np.concatenate([w.ravel() for w in weights]).tolist()]
    flat = [m.ravel() for m in masks] if local else [np.concatenate([m.ravel() for m in masks])]
    for k, (row, mask) in enumerate(zip(rows, flat)):
        away = sorted_away(row, ratio)
        assert set(np.flatnonzero(~mask).tolist()) == away
        assert thresholds[k] == max((abs(row[i]) for i in away), default=0.0)
        assert abs((~mask).sum() - ratio * len(row)) <= 1


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("block", [(2, 1), (1, 4), (3, 2)])
def test_blocks_equal_loops(block, local):
    rng, ratio = np.random.RandomState(3), 0.4
    weights = [rng.randn(8, 6).astype("float32"), rng.randn(5, 3, 3, 3).astype("float32"), rng.randn(7).astype("f4")]
    masks, _ = magnitude_masks(weights, ratio, local, block)
    blocks = [[], [], []]
    for k, w in enumerate(weights):
        for i in range(0, w.shape[0], block[0]):
            for j in range(0, w.shape[1] if w.ndim > 1 else 1, block[1]):
                place = np.s_[i : i + block[0], j : j + block[1]] if w.ndim > 1 else np.s_[i : i + block[0]]
                blocks[k].append((float(np.abs(w[place].astype("f8")).mean()), k, place))
    for group in blocks if local else [[b for each in blocks for b in each]]:
        wanted = ratio * sum(weights[k][place].size for _, k, place in group)
        gone = 0
        for _, k, place in sorted(group, key=lambda b: b[0]):
            here = weights[k][place].size
            goes = abs(gone + here - round(wanted)) < abs(gone - round(wanted))
            assert (~masks[k][place]).all() if goes else masks[k][place].all()
            if not goes:
                wanted = gone  # nothing after it
            gone += here if goes else 0


def test_something_always_stays():
    lone = [np.ones((1, 1, 1, 1), np.float32), np.ones((4, 4), np.float32)]
    for block in ((1, 1), (2, 2)):
        masks, _ = magnitude_masks(lone, 1.0, local=True, block=block)
        assert all(m.any() for m in masks)
    assert magnitude_masks(lone, 1.0)[0][1].sum() == 1


@pytest.mark.parametrize("block", [(1, 1), (2, 1), (2, 3)])
def test_threshold_keeps_what_reaches_it(block):
    w = np.random.RandomState(0).randn(5, 7, 1, 1).astype("float32")
    mask = threshold_mask(w, 0.7, block)
    for i in range(5):
        for j in range(7):
            a, b = i // block[0] * block[0], j // block[1] * block[1]
            mean = np.abs(w[a : a + block[0], b : b + block[1]].astype("f8")).mean()
            assert mask[i, j] == (mean >= np.float32(0.7) if block == (1, 1) else mean >= 0.7)


def test_threshold_of_a_ratio():
    w = [np.array([[-4.0, 1.0], [2.0, -3.0]], np.float32), np.array([5.0, 0.5], np.float32)]
    assert magnitude_threshold(w, 1.0) == 5.0
    assert magnitude_threshold(w, 0.5) == 2.0
    assert magnitude_threshold(w, 0.0) == 0.5
    assert sparsity([np.array([0, 1.0]), np.zeros((1, 2))]) == 0.75


def test_weights_that_have_no_rank():
    for bad in (np.array([1.0, np.nan]), np.array([np.inf]), np.zeros(0)):
        with pytest.raises(NumericsError, match=r"holds NaN or infinity|has no element"):
            magnitude_masks([bad], 0.5)


def test_the_cubic():
    schedule = GradualSchedule(0.8, 0.2, 30, 100, 50, 5)
    assert schedule.iterations == 180
    for t in range(200):
        if t < 30:
            wanted = 0.0
        elif t >= 130:
            wanted = 0.8
        else:
            start = 30 + (t - 30) // 20 * 20  # the paper's t in {t0, t0 + 20, ...}
            wanted = 0.8 + (0.2 - 0.8) * (1 - (start - 30) / (5 * 20)) ** 3
        assert schedule.at(t) == pytest.approx(wanted, abs=1e-12)
    uneven = GradualSchedule(0.75, 0.0, 7, 25, 0, 10)  # phases keep their length whatever the step
    ratios = [uneven.at(t) for t in range(40)]
    assert ratios == sorted(ratios) and len(set(ratios)) == 11
    assert uneven.at(31) < 0.75 == uneven.at(32)


def test_paddleslim_2_6_runs_the_same_schedule():
    """Its ratios at the iterations where they rise, recorded; phases that are whole steps, where it is exact too."""
    recorded = {0: 0.0, 22: 0.1, 33: 0.475781, 44: 0.66875, 55: 0.739844, 66: 0.75}
    schedule = GradualSchedule(0.75, 0.1, 22, 44, 100, 4)
    for t in range(80):
        assert schedule.at(t) == pytest.approx(recorded[max(k for k in recorded if k <= t)], abs=1e-6)
