"""Unstructured pruning by magnitude: which weights go at a ratio or a threshold, and the gradual schedule.

Weights are ranked by |w|, or by the mean |w| of blocks. A ratio is met by count, not by comparing with a threshold, so
equal weights cannot spoil it: of equals, those that come first in memory go. The masks depend on nothing but the
weights; processes that hold the same weights get the same masks.

Sources: S. Han et al., "Learning both Weights and Connections for Efficient Neural Networks", arXiv:1506.02626 (ranking
by magnitude); M. Zhu and S. Gupta, "To prune, or not to prune", arXiv:1710.01878, eq. 1 (the schedule).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

from slimkit.errors import NumericsError

__all__ = ["GradualSchedule", "magnitude_masks", "magnitude_threshold", "sparsity", "threshold_mask"]

#: (rows, columns) of a block over a weight's first two axes; the axes after them (the kernel) belong to it whole.
Block = Tuple[int, int]
SINGLE: Block = (1, 1)


def pruned_count(size: int, ratio: float) -> int:
    """How many of ``size`` weights a ratio prunes: the nearest whole number, but never all of them."""
    return max(0, min(round(size * ratio), size - 1))


def _magnitudes(weight: np.ndarray, block: Block) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(score of each block, its number of weights, block number of each weight), all flat."""
    rows, columns = (int(n) for n in block)
    first, second = (*weight.shape, 1, 1)[:2]
    matrix = np.abs(weight).reshape(first, second, -1)
    across = -(-matrix.shape[1] // columns)
    number = np.add.outer(np.arange(matrix.shape[0]) // rows * across, np.arange(matrix.shape[1]) // columns)
    each = np.broadcast_to(number[:, :, None], matrix.shape).ravel()
    sizes = np.bincount(each)
    return np.bincount(each, matrix.ravel().astype(np.float64)) / sizes, sizes, each


def _checked(weight: np.ndarray) -> np.ndarray:
    weight = np.asarray(weight)
    weight = weight if weight.dtype == np.float64 else weight.astype(np.float32, copy=False)
    if not weight.size:
        raise NumericsError("A weight to prune has no element; leave it out.")
    if not np.isfinite(weight).all():
        raise NumericsError(
            f"A weight of shape {list(weight.shape)} holds NaN or infinity and cannot be ranked by magnitude; the "
            "training diverged, lower its learning rate or resume from an earlier checkpoint."
        )
    return weight


def _lowest(scores: np.ndarray, count: int) -> Tuple[np.ndarray, float]:
    """Marks the ``count`` lowest scores, of equals the first; and the highest of those marked (0 if none)."""
    if count <= 0:
        return np.zeros(scores.shape, bool), 0.0
    rest = scores[scores > 0]  # zeros come first anyway, and many equal values make selection slow
    place = count - (scores.size - rest.size) - 1
    highest = np.partition(rest, place)[place] if place >= 0 else scores.dtype.type(0)
    gone = scores < highest
    gone[np.flatnonzero(scores == highest)[: count - int(gone.sum())]] = True
    return gone, float(highest)


def _lowest_blocks(scores: np.ndarray, sizes: np.ndarray, ratio: float) -> Tuple[np.ndarray, float]:
    """Marks the lowest blocks whose weights together come nearest to the ratio; at least one block stays."""
    order = np.argsort(scores, kind="stable")
    total = np.concatenate([[0], np.cumsum(sizes[order])])
    number = int(np.argmin(np.abs(total[:-1] - pruned_count(int(total[-1]), ratio))))
    gone = np.zeros(scores.shape, bool)
    gone[order[:number]] = True
    return gone, float(scores[order[number - 1]]) if number else 0.0


def _rank(scores: np.ndarray, sizes: np.ndarray, ratio: float, block: Block) -> Tuple[np.ndarray, float]:
    if tuple(block) == SINGLE:
        return _lowest(scores, pruned_count(scores.size, ratio))
    return _lowest_blocks(scores, sizes, ratio)


def magnitude_masks(
    weights: Sequence[np.ndarray], ratio: float, local: bool = False, block: Block = SINGLE
) -> Tuple[List[np.ndarray], List[float]]:
    """The weights that stay when a ratio of them goes.

    Args:
        weights: float arrays of any shapes.
        ratio: fraction to prune, in [0, 1].
        local: the ratio holds for each array; otherwise for all of them together.
        block: weights ``[i*m:(i+1)*m, j*n:(j+1)*n]`` of the first two axes go or stay together, by their mean |w|;
            blocks at the edges are smaller.

    Returns:
        A bool mask per weight (True stays) and, per weight, the greatest score that was pruned. Exactly
        ``round(ratio * size)`` weights go, with blocks as near to it as whole blocks come; never all of them.

    Raises:
        NumericsError: a weight is empty, NaN or infinite.
    """
    arrays = [_checked(weight) for weight in weights]
    if tuple(block) == SINGLE:
        parts = [(np.abs(a).ravel(), np.ones(0, np.int64), np.zeros(0, np.int64)) for a in arrays]
    else:
        parts = [_magnitudes(a, block) for a in arrays]
    if local:
        ranked = [_rank(scores, sizes, ratio, block) for scores, sizes, _ in parts]
        gone, thresholds = [mask for mask, _ in ranked], [threshold for _, threshold in ranked]
    else:
        scores = np.concatenate([p[0] for p in parts])
        together, threshold = _rank(scores, np.concatenate([p[1] for p in parts]), ratio, block)
        gone = np.split(together, np.cumsum([p[0].size for p in parts])[:-1])
        thresholds = [threshold] * len(parts)
    if tuple(block) != SINGLE:
        gone = [mask[each] for mask, (_, _, each) in zip(gone, parts)]
    return [~mask.reshape(a.shape) for mask, a in zip(gone, arrays)], thresholds


def threshold_mask(weight: np.ndarray, threshold: float, block: Block = SINGLE) -> np.ndarray:
    """The weights that stay when all below a threshold go: bool, True where |w| (mean of its block) >= threshold.

    Args:
        weight: float, any shape.
        threshold: in the weights' unit.
        block: as in ``magnitude_masks``.

    Raises:
        NumericsError: the weight is empty, NaN or infinite.
    """
    weight = _checked(weight)
    if tuple(block) == SINGLE:
        return np.abs(weight) >= threshold
    scores, _, each = _magnitudes(weight, block)
    return (scores >= threshold)[each].reshape(weight.shape)


def magnitude_threshold(weights: Sequence[np.ndarray], ratio: float) -> float:
    """The magnitude that a ratio of the weights does not exceed: the greatest |w| at ratio 1, the least near 0."""
    flat = np.concatenate([np.abs(_checked(weight)).ravel() for weight in weights])
    place = max(0, int(ratio * flat.size) - 1)
    return float(np.partition(flat, place)[place])


def sparsity(weights: Sequence[np.ndarray]) -> float:
    """Fraction of zeros among all elements of some arrays."""
    total = sum(int(np.size(w)) for w in weights)
    if not total:
        raise NumericsError("There is no weight to tell the sparsity of.")
    return 1.0 - sum(int(np.count_nonzero(w)) for w in weights) / total


@dataclass(frozen=True)
class GradualSchedule:
    """The pruning ratio at each iteration of gradual magnitude pruning (arXiv:1710.01878, eq. 1).

        s_k = s_f + (s_i - s_f) * (1 - k/n)^3,   k = 0 ... n

    Nothing is pruned for ``stable_iterations``; then s_0 holds, and after every 1/n of ``pruning_iterations`` the next
    step; from their end on the target s_f. Iterations are numbered from 0.

    Attributes:
        ratio: s_f, the fraction of the weights pruned in the end.
        initial_ratio: s_i, the fraction pruned at once when pruning starts.
        stable_iterations: training iterations before.
        pruning_iterations: training iterations from s_i to s_f.
        tunning_iterations: training iterations at s_f; they only count for ``iterations``.
        pruning_steps: n.
    """

    ratio: float
    initial_ratio: float
    stable_iterations: int
    pruning_iterations: int
    tunning_iterations: int
    pruning_steps: int

    def at(self, iteration: int) -> float:
        """The ratio in force from an iteration on."""
        if iteration < self.stable_iterations:
            return 0.0
        step = (iteration - self.stable_iterations) * self.pruning_steps // self.pruning_iterations
        if step >= self.pruning_steps:
            return self.ratio
        return self.ratio + (self.initial_ratio - self.ratio) * (1.0 - step / self.pruning_steps) ** 3

    @property
    def iterations(self) -> int:
        """All three phases together."""
        return self.stable_iterations + self.pruning_iterations + self.tunning_iterations
