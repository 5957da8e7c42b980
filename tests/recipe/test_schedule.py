"""The learning rate against formulas written out by hand."""

from __future__ import annotations

import math

import pytest

from slimkit.recipe.schedule import learning_rate
from slimkit.recipe.schema import LrSection


def rates(lr, per_epoch, epochs):
    return [learning_rate(lr, step, per_epoch, epochs) for step in range(per_epoch * epochs)]


def test_cosine_starts_at_base_ends_at_final_and_halves_in_the_middle():
    got = rates(LrSection(base=0.2, final=0.02), 5, 3)
    assert got[0] == 0.2 and got[-1] == pytest.approx(0.02)
    assert got[7] == pytest.approx(0.11)
    assert all(a > b for a, b in zip(got, got[1:]))


def test_cosine_is_the_papers():
    got = rates(LrSection(base=1.0), 10, 1)
    assert got == pytest.approx([0.5 * (1 + math.cos(math.pi * t / 9)) for t in range(10)])


def test_warmup_rises_linearly_from_above_zero_to_base():
    got = rates(LrSection(base=1.0, warmup_epochs=0.8), 5, 2)
    assert got[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_piecewise_drops_at_the_boundaries():
    lr = LrSection(schedule="piecewise", base=1.0, boundaries=[1, 1.5], factor=0.1)
    assert rates(lr, 4, 2) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_constant():
    assert set(rates(LrSection(schedule="constant", base=0.3), 3, 2)) == {0.3}


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_runs_of_one_step_or_all_warmup(schedule):
    assert learning_rate(LrSection(schedule=schedule, base=0.1), 0, 1, 1) == 0.1
    assert rates(LrSection(schedule=schedule, base=1.0, warmup_epochs=9), 2, 1) == pytest.approx(
        [1 / 3, 2 / 3]
    )
