"""Clipping thresholds of a symmetric grid from a histogram of magnitudes.

The histogram is streaming: its width doubles when a larger value comes, so memory does not grow with the data and
the result does not depend on the order of the batches' maxima.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

__all__ = ["AbsHistogram", "mse_threshold", "percentile_threshold"]


class AbsHistogram:
    """Counts of ``|x|`` in ``bins`` equal bins over ``[0, limit]``, with minimum and maximum of ``x``.

    Args:
        bins: number of bins, even.
    """

    def __init__(self, bins: int = 2048) -> None:
        self.counts = np.zeros(bins, np.float64)
        self.limit = 0.0
        self.low = np.inf
        self.high = -np.inf
        self.batches = 0
        self.abs_max_sum = 0.0

    def update(self, x: np.ndarray) -> None:
        """Adds an array of any shape.

        Raises:
            ValueError: it holds NaN or infinity.
        """
        if x.size == 0:
            return
        low, high = float(x.min()), float(x.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise ValueError("the tensor holds NaN or infinity")
        top = max(-low, high)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.batches += 1
        self.abs_max_sum += top
        self._widen(top)
        if self.limit > 0:
            scaled = np.abs(x).ravel() * np.float32(self.counts.size / self.limit)
            index = np.minimum(scaled.astype(np.int64), self.counts.size - 1)
            self.counts += np.bincount(index, minlength=self.counts.size)
        else:
            self.counts[0] += x.size

    def _widen(self, top: float) -> None:
        if top <= 0:
            return
        if self.limit == 0:
            self.limit = float(2.0 ** np.ceil(np.log2(top)))
        while self.limit < top:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([pairs, np.zeros_like(pairs)])
            self.limit *= 2

    @property
    def abs_max(self) -> float:
        """The largest magnitude seen."""
        return max(abs(self.low), abs(self.high)) if self.batches else 0.0

    @property
    def mean_abs_max(self) -> float:
        """The mean over updates of each one's largest magnitude."""
        return self.abs_max_sum / self.batches if self.batches else 0.0

    def centers(self) -> Tuple[np.ndarray, np.ndarray]:
        """Bin centers and counts of the bins up to the largest value."""
        width = self.limit / self.counts.size
        used = int(np.nonzero(self.counts)[0].max()) + 1 if self.counts.any() else 0
        return (np.arange(used) + 0.5) * width, self.counts[:used]


def percentile_threshold(histogram: AbsHistogram, percentile: float) -> float:
    """The magnitude below which ``percentile`` percent of the values lie, to a bin's width.

    Args:
        histogram: of the tensor.
        percentile: in (0, 100].
    """
    centers, counts = histogram.centers()
    if not counts.size:
        return 0.0
    index = int(np.searchsorted(np.cumsum(counts), counts.sum() * percentile / 100.0))
    width = histogram.limit / histogram.counts.size
    return float(min((min(index, counts.size - 1) + 1) * width, histogram.abs_max))


def mse_threshold(histogram: AbsHistogram, bits: int, candidates: int = 200) -> float:
    """The threshold with the least mean squared quantization error on the symmetric grid of ``bits``.

    The error of a value is that of rounding to the grid, or of clipping beyond it (Sung et al. 2015; Banner et al.
    2019, arXiv 1810.05723, eq. 1), summed over bin centers.

    Args:
        histogram: of the tensor.
        bits: 2 to 16.
        candidates: thresholds tried, evenly from 1/candidates of the largest magnitude to all of it.
    """
    centers, counts = histogram.centers()
    if not counts.size or histogram.abs_max == 0:
        return 0.0
    thresholds = histogram.abs_max * np.arange(1, candidates + 1) / candidates
    steps = thresholds / (2 ** (bits - 1) - 1)
    error = np.empty(candidates)
    for i, (threshold, step) in enumerate(zip(thresholds, steps)):
        on_grid = np.round(np.minimum(centers, threshold) / step) * step
        error[i] = np.dot(counts, (centers - on_grid) ** 2)
    return float(thresholds[int(np.argmin(error))])
