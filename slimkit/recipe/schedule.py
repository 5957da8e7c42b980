"""The learning rate as a pure function of the global step."""

from __future__ import annotations

import bisect
import math

from slimkit.recipe.schema import LrSection

__all__ = ["learning_rate"]


def learning_rate(lr: LrSection, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Returns the learning rate of a step.

    A linear warm-up rises to ``base`` in ``warmup_epochs``; its first step is not 0 but one warm-up step's
    worth. Then cosine (arXiv:1608.03983, eq. 5, without restarts) falls to ``final`` at the last step.

    Args:
        lr: the schedule.
        step: global step, from 0, over all epochs.
        steps_per_epoch: steps in each epoch.
        epochs: epochs in the run.

    Returns:
        The rate; the same for the same arguments, whatever ran before, so resuming continues it exactly.
    """
    total = max(1, steps_per_epoch * epochs)
    warmup = min(total, round(lr.warmup_epochs * steps_per_epoch))
    if step < warmup:
        return lr.base * (step + 1) / (warmup + 1)
    if lr.schedule == "cosine":
        progress = min(1.0, (step - warmup) / max(1, total - 1 - warmup))
        return lr.final + (lr.base - lr.final) * 0.5 * (1.0 + math.cos(math.pi * progress))
    if lr.schedule == "piecewise":
        drops = bisect.bisect_right([round(b * steps_per_epoch) for b in lr.boundaries], step)
        return lr.base * lr.factor**drops
    return lr.base
