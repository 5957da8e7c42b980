"""``KL``: the clipping at which the quantized distribution tells least of the float one apart.

Source: Migacz 2017, "8-bit Inference with TensorRT" (GTC), pages 33 to 38; PaddleSlim's ``KL``. For every number of
bins i that may be kept, P is the histogram of the first i bins, with all that lies beyond added to the last; Q is the
histogram of the first i bins, merged into the grid's levels and spread again evenly over the bins of each level that
are not empty. The i of the least divergence ``sum p log(p / q)`` of the two, each scaled to a sum of 1, is taken.

It departs from Migacz's text and Paddle's code where these lose accuracy (8 bits, signal to noise of a million values):

- Exact zeros lie on every grid and are left out. With them, half of all values behind a relu sit in the first bin, and
  i shrinks to hide them: 13 dB instead of 40 dB.
- Levels share the bins evenly. Paddle gives the remainder of ``i / levels`` to the last level, up to 126 bins of 2046.
- i starts where each level has ``BINS_PER_LEVEL`` bins, or at half of all bins when that comes first. TensorRT starts
  at one bin a level, where merging costs nothing because the histogram shows nothing of it: 17 dB instead of 23 dB on
  log-normal values. Paddle starts at half of the used range, which leaves heavy tails no choice.
- Among equal divergences the least clipping wins.
- With fewer than ``VALUES_PER_BIN`` values a bin, nothing is clipped: the divergence is then of chance (1,000 Laplacian
  values: 25 dB instead of 31 dB). The squeezed tensors of squeeze-and-excitation are of this kind.

All divergences come from three cumulative sums (counts, filled bins, ``c log c``), one row of levels for each i.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from slimkit.numerics.grid import affine_levels, symmetric_levels
from slimkit.numerics.histogram import AbsHistogram

__all__ = ["BINS_PER_LEVEL", "EQUAL", "VALUES_PER_BIN", "affine_range", "best_bin", "divergences", "threshold"]

#: Bins that a level has at least, for the histogram to show what merging them loses.
BINS_PER_LEVEL = 4

#: Values other than 0 that the histogram holds for each of its bins at least.
VALUES_PER_BIN = 16

#: Divergences (in nats) that differ by less are equal.
EQUAL = 1e-10

#: Candidates worked on at a time, so that their rows stay in the cache.
_ROWS = 128


def threshold(histogram: AbsHistogram, bits: int) -> float:
    """The magnitude of least divergence on the symmetric grid, at most the largest seen; 0.0 without any value but 0.

    Args:
        histogram: of the tensor.
        bits: 2 to 16. From 11 bits on, the grid is as fine as the histogram and nothing is clipped.
    """
    return _magnitude(histogram, np.full(histogram.counts.size, symmetric_levels(bits)))


def affine_range(histogram: AbsHistogram, bits: int) -> Tuple[float, float]:
    """Both ends clipped at the magnitude of least divergence on the affine grid.

    A grid over ``[low, high]`` has, up to the magnitude t, ``t / (high - low)`` of all its levels: all of them for a
    tensor without negative values, half of them for one that is as large on both sides.

    Args:
        histogram: of the tensor.
        bits: 2 to 16.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    kept = np.arange(1, histogram.counts.size + 1) * histogram.width
    width = np.minimum(kept, high) + np.minimum(kept, -low)
    share = np.divide(kept, width, out=np.ones_like(kept), where=width > 0)
    levels = np.rint(affine_levels(bits) * np.minimum(share, 1.0)).astype(np.int64)
    magnitude = _magnitude(histogram, levels)
    return max(low, -magnitude), min(high, magnitude)


def _magnitude(histogram: AbsHistogram, levels: np.ndarray) -> float:
    counts = histogram.counts.copy()
    counts[0] -= histogram.zeros
    if counts.sum() < VALUES_PER_BIN * counts.size:
        return histogram.abs_max
    return float(min(best_bin(counts, levels) * histogram.width, histogram.abs_max))


def best_bin(counts: np.ndarray, levels: np.ndarray) -> int:
    """How many bins to keep.

    Args:
        counts: whole numbers, not negative, shape ``[bins]``.
        levels: of the grid between 0 and the magnitude, when ``i + 1`` bins are kept, shape ``[bins]``.

    Returns:
        1 to bins; 0 when all counts are 0.
    """
    filled = np.flatnonzero(counts)
    if not filled.size:
        return 0
    size = int(filled[-1]) + 1
    kept = filled + 1
    kept = kept[(kept >= np.minimum(BINS_PER_LEVEL * levels[kept - 1], size // 2)) & (kept >= levels[kept - 1])]
    if not kept.size:
        return size
    found = divergences(counts, kept, levels[kept - 1])
    return int(kept[np.flatnonzero(found <= found.min() + EQUAL)[-1]])


def divergences(counts: np.ndarray, kept: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The divergence of each candidate, in nats.

    Args:
        counts: shape ``[bins]``.
        kept: numbers of bins kept, each one's last bin filled, shape ``[k]``.
        levels: levels that each one's bins are merged into, at most ``kept``, shape ``[k]``.

    Returns:
        float64, shape ``[k]``.
    """
    counts = counts.astype(np.float64)
    below, filled, entropy = (
        np.concatenate([[0.0], np.cumsum(values)]) for values in (counts, counts > 0, _x_log_x(counts))
    )
    parts = [slice(start, start + _ROWS) for start in range(0, kept.size, _ROWS)]
    cross = np.concatenate([_cross_entropy(below, filled, kept[part], levels[part]) for part in parts])
    total, inside = below[-1], below[kept]
    last = counts[kept - 1] + total - inside
    own = entropy[kept - 1] + _x_log_x(last)
    return (own - cross) / total + np.log(inside) - np.log(total)


def _cross_entropy(below: np.ndarray, filled: np.ndarray, kept: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """``sum p log q`` before scaling, of each candidate, shape ``[k]``."""
    most = int(levels.max())
    first = np.minimum(np.arange(most + 1)[None, :], levels[:, None]) * kept[:, None] // levels[:, None]
    mass, bins = np.diff(below[first], axis=1), np.diff(filled[first], axis=1)
    height = np.log(np.maximum(mass, 1.0) / np.maximum(bins, 1.0))  # of Q over a level; where mass is 0 it is not used
    clipped = below[-1] - below[kept]
    return np.einsum("ij,ij->i", mass, height) + clipped * height[np.arange(kept.size), levels - 1]


def _x_log_x(x: np.ndarray) -> np.ndarray:
    return x * np.log(np.maximum(x, 1.0))
