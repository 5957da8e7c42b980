"""What number of units of a group may go: rounding of channels, and the least that stays.

A group's producers may compute different units of it, as two convolutions do whose results are concatenated and then
added to a third's. Units of the same producers are a block. Every block keeps at least one unit, since a convolution
without filters is no network, and all blocks shrink by about the same ratio. Rounding is by each producer's channels,
over all its blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Iterable, List, Optional, Tuple, Union

import numpy as np

from slimkit.errors import ConfigError
from slimkit.prune.groups import DEPTHWISE, OUTPUT, Group

__all__ = ["Legal", "legal", "legal_ratios"]

Floor = Union[int, float]

#: Of groups with more blocks not every way to round them is tried.
_MOST_BLOCKS = 7


@dataclass(frozen=True)
class Legal:
    """The steps in which a group can shrink.

    Attributes:
        size: units of the group.
        blocks: the units of each block, ascending.
        removed: int, shape [steps, blocks]: how many units of each block go; the first step removes none.
        group: whose parts are not emptied by :meth:`units`.
    """

    size: int
    blocks: List[np.ndarray]
    removed: np.ndarray
    group: Group

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
        gone = np.zeros(self.size, bool)
        for block, count in zip(self.blocks, self.removed[step]):
            gone[block[np.argsort(scores[block], kind="stable")[:count]]] = True
        for _ in self.group.parts:
            part = self.group.emptied(gone)
            if part is None:
                break
            self._put_back(gone, int(part[np.argmax(scores[part])]), scores)
        return np.flatnonzero(gone)

    def _put_back(self, gone: np.ndarray, unit: int, scores: np.ndarray) -> None:
        """Keeps a unit; of its block another goes for it, if that empties no part."""
        gone[unit] = False
        block = next(block for block in self.blocks if unit in block)
        for other in block[np.argsort(scores[block], kind="stable")].tolist():
            if other != unit and not gone[other]:
                gone[other] = True
                if not any(other in part and gone[part].all() for part in self.group.parts):
                    return
                gone[other] = False


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
    blocks, counts, lengths = _blocks(group)
    sizes = np.array([len(block) for block in blocks])
    least = [_least(size, int(min(row[row > 0], default=1)), floor) for size, row in zip(sizes, counts)]
    best = np.zeros((1, len(blocks)), np.int64)
    for pattern in _patterns(len(blocks), round_to):
        choices = [
            _choices(size, keep, round_to, rounded) for size, keep, rounded in zip(sizes.tolist(), least, pattern)
        ]
        table = _together(sizes, choices)
        gone = table @ counts
        allowed = ((gone == 0) | ((lengths - gone) % round_to == 0)).all(axis=1)
        if allowed.sum() > len(best):
            best = table[allowed]
    return Legal(group.size, blocks, best, group)


def _patterns(blocks: int, round_to: int) -> Iterable[Tuple[Optional[bool], ...]]:
    """Ways to round the blocks of a group: None, any number stays; True, a multiple; False, a multiple goes."""
    if blocks == 1 or round_to == 1:
        return [(None,) * blocks]
    if blocks > _MOST_BLOCKS:
        return [(True,) * blocks, (False,) * blocks]
    return product((True, False), repeat=blocks)


def _choices(size: int, least: int, round_to: int, rounded: Optional[bool]) -> np.ndarray:
    """How many units of a block may go, from 0 up."""
    kept = np.arange(size - 1, least - 1, -1)
    if rounded is not None:
        kept = kept[(kept if rounded else size - kept) % round_to == 0]
    return np.concatenate([[0], size - kept]).astype(np.int64)


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


def _blocks(group: Group) -> Tuple[List[np.ndarray], np.ndarray, np.ndarray]:
    """Units that the same producers have.

    Returns:
        The units of each block; int [blocks, producers], how many channels of each producer a unit of a block is; int
        [producers], how many channels each has, those of other groups too.
    """
    makers = [member for member in group.members if member.role in (OUTPUT, DEPTHWISE)]
    if not makers:
        return [np.arange(group.size)], np.ones((1, 1), np.int64), np.array([group.size])
    lengths = np.array([len(member.units) for member in makers])
    table = np.stack([np.bincount(m.units[m.units >= 0], minlength=group.size) for m in makers], axis=1)
    if (table == table[0]).all():
        return [np.arange(group.size)], table[:1], lengths
    rows, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    inverse = np.asarray(inverse).reshape(-1)
    order = np.argsort(first)
    return [np.flatnonzero(inverse == row) for row in order], rows[order], lengths


def _together(sizes: np.ndarray, choices: List[np.ndarray]) -> np.ndarray:
    """All blocks at about the same ratio: a step wherever one of them moves."""
    shares = [choice / size for choice, size in zip(choices, sizes)]
    ratios = np.unique(np.concatenate(shares))
    # The nearest share of each block to each ratio, of two as near the less: by the midpoints between shares.
    nearest = [np.searchsorted((share[1:] + share[:-1]) / 2, ratios, side="left") for share in shares]
    table = np.stack([choice[index] for choice, index in zip(choices, nearest)], axis=1)
    _, first = np.unique(table.sum(axis=1), return_index=True)
    return table[first]
