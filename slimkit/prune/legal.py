"""What number of units of a group may go: rounding of channels, and the least that stays.

A group's producers may compute different units of it, as two convolutions do whose results are concatenated and then
added to a third's. Units of the same producers are a block. Every block keeps at least one unit, since a convolution
without filters is no network, and its channels are rounded by themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import List, Union

import numpy as np

from slimkit.errors import ConfigError
from slimkit.prune.groups import DEPTHWISE, OUTPUT, Group

__all__ = ["Legal", "legal", "legal_ratios"]

Floor = Union[int, float]


@dataclass(frozen=True)
class Legal:
    """The steps in which a group can shrink.

    Attributes:
        size: units of the group.
        blocks: the units of each block, ascending.
        removed: int, shape [steps, blocks]: how many units of each block go; the first step removes none.
    """

    size: int
    blocks: List[np.ndarray]
    removed: np.ndarray

    @property
    def ratios(self) -> np.ndarray:
        """Fraction of the units that goes at each step, ascending from 0."""
        return self.removed.sum(axis=1) / self.size

    def nearest(self, ratio: float) -> int:
        """The step whose ratio is nearest; of two as near, what Python's round gives, if it is one, else the less."""
        totals = self.removed.sum(axis=1)
        asked = self.size * ratio
        distance = np.abs(totals - asked)
        near = np.flatnonzero(distance <= distance.min() + 1e-9 * self.size)
        rounded = [int(step) for step in near if totals[step] == round(asked)]
        return rounded[0] if rounded else int(near[0])

    def at_most(self, ratio: float) -> int:
        """The last step that removes no more than a ratio."""
        return int(np.flatnonzero(self.ratios <= ratio + 1e-9)[-1])

    def units(self, step: int, scores: np.ndarray) -> np.ndarray:
        """The units that go at a step: of each block those of the least score, of equal ones the first.

        Args:
            step: a row of ``removed``.
            scores: shape [size].
        """
        gone = [
            block[np.argsort(scores[block], kind="stable")[:count]]
            for block, count in zip(self.blocks, self.removed[step])
        ]
        return np.sort(np.concatenate(gone))


def legal(group: Group, round_to: int = 1, floor: Floor = 1) -> Legal:
    """The steps in which a group can shrink.

    Args:
        group: one that can be pruned.
        round_to: what stays of a producer's channels (for a unit of several channels, channels and not units) is a
            multiple of this, or all.
        floor: the least that stays: of a producer's channels when an int, the fraction of a block's units when a float
            in (0, 1).

    Raises:
        ConfigError: ``round_to`` or ``floor`` is out of range.
    """
    check_rounding(round_to, floor)
    blocks, channels = _blocks(group)
    choices = []
    for block, counts in zip(blocks, channels):
        step = reduce(math.lcm, (round_to // math.gcd(round_to, c) for c in counts), 1)
        least = _least(len(block), min(counts, default=1), floor)
        kept = np.arange(len(block) - 1, least - 1, -1)
        choices.append(np.concatenate([[0], len(block) - kept[kept % step == 0]]).astype(np.int64))
    return Legal(group.size, blocks, _together(blocks, choices))


def legal_ratios(group: Group, round_to: int = 1, floor: Floor = 1) -> List[float]:
    """The ratios at which a group can be pruned, ascending from 0; see :func:`legal`."""
    return [float(ratio) for ratio in legal(group, round_to, floor).ratios]


def check_rounding(round_to: int, floor: Floor) -> None:
    """Refuses a rounding or floor that is none.

    Raises:
        ConfigError: it is.
    """
    if isinstance(round_to, bool) or not isinstance(round_to, (int, np.integer)) or round_to < 1:
        raise ConfigError(
            f"round_to = {round_to!r}: what stays is rounded to a multiple of it; give 1, 8 or 16 channels."
        )
    whole = isinstance(floor, (int, np.integer)) and not isinstance(floor, bool)
    if not (whole and floor >= 1) and not (isinstance(floor, float) and 0 < floor < 1):
        raise ConfigError(
            f"floor = {floor!r}: the least that stays of a layer is a number of channels (1, 8, ...) or a fraction "
            "above 0 and below 1."
        )


def _least(size: int, channels: int, floor: Floor) -> int:
    if isinstance(floor, float):
        return max(1, math.ceil(floor * size - 1e-9))
    return max(1, math.ceil(floor / channels))


def _blocks(group: Group) -> tuple:
    """Units that the same producers have, and for each block how many channels of each a unit is."""
    makers = [member for member in group.members if member.role in (OUTPUT, DEPTHWISE)]
    counts = [np.bincount(m.units[m.units >= 0], minlength=group.size) for m in makers]
    table = np.stack(counts, axis=1) if counts else np.ones((group.size, 1), np.int64)
    rows, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    inverse = np.asarray(inverse).reshape(-1)
    order = np.argsort(first)
    blocks = [np.flatnonzero(inverse == row) for row in order]
    return blocks, [[int(c) for c in rows[row] if c > 0] for row in order]


def _together(blocks: List[np.ndarray], choices: List[np.ndarray]) -> np.ndarray:
    """All blocks at about the same ratio: a step wherever one of them moves."""
    shares = [choice / len(block) for choice, block in zip(choices, blocks)]
    ratios = np.unique(np.concatenate(shares))
    # The nearest share of each block to each ratio, of two as near the less: by the midpoints between shares.
    nearest = [np.searchsorted((share[1:] + share[:-1]) / 2, ratios, side="left") for share in shares]
    table = np.stack([choice[index] for choice, index in zip(choices, nearest)], axis=1)
    _, first = np.unique(table.sum(axis=1), return_index=True)
    return table[first]
