"""A streaming histogram of magnitudes with a fixed number of bins, whose range doubles when it must.

Bin edges are powers of two times whole numbers, so that doubling only adds neighbouring bins: the counts do not depend
on the order of the batches, nor on how they were split and merged.
"""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np

from slimkit.errors import NumericsError

__all__ = ["AbsHistogram"]

#: The smallest range, so that ``bins / limit`` stays within float32.
MIN_EXPONENT = -100


class AbsHistogram:
    """Counts of ``|x|`` in ``bins`` equal bins over ``[0, limit)``, with minimum and maximum of ``x``.

    Args:
        bins: number of bins, a power of two.

    Attributes:
        counts: int64, shape ``[bins]``.
        limit: end of the last bin, a power of two; 0.0 before the first value that is not 0.
        low, high: smallest and largest value seen.
        zeros: number of values that are exactly 0 (they are in ``counts[0]`` as well).
        batches: number of updates.
        abs_max_sum: sum over the updates of each one's largest magnitude.

    Raises:
        NumericsError: ``bins`` is not a power of two.
    """

    def __init__(self, bins: int = 2048) -> None:
        if bins < 2 or bins & (bins - 1):
            raise NumericsError(
                f"A histogram of {bins} bins cannot double its range exactly; take a power of two, such as 2048."
            )
        self.counts = np.zeros(bins, np.int64)
        self.limit = 0.0
        self.low = math.inf
        self.high = -math.inf
        self.zeros = 0
        self.batches = 0
        self.abs_max_sum = 0.0

    def update(self, x: np.ndarray) -> None:
        """Adds a batch of any shape; an empty one changes nothing.

        Raises:
            NumericsError: it holds NaN or infinity; the histogram is then as it was.
        """
        x = np.asarray(x)
        if x.size == 0:
            return
        low, high = float(x.min()), float(x.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise NumericsError(f"a tensor of shape {x.shape} holds NaN or infinity")
        top = max(-low, high)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.batches += 1
        self.abs_max_sum += top
        self.zeros += x.size - int(np.count_nonzero(x))
        self._widen(top)
        if self.limit == 0:
            self.counts[0] += x.size
            return
        scaled = np.abs(x).ravel() * x.dtype.type(self.counts.size / self.limit)
        self.counts += np.bincount(scaled.astype(np.int32), minlength=self.counts.size)

    def merge(self, other: AbsHistogram) -> None:
        """Adds what another histogram of as many bins has seen; ``other`` stays as it is.

        Raises:
            NumericsError: the numbers of bins differ.
        """
        if other.counts.size != self.counts.size:
            raise NumericsError(
                f"Histograms of {self.counts.size} and {other.counts.size} bins cannot be merged; "
                "make both with one number."
            )
        self._widen_to(other.limit)
        counts, limit = other.counts, other.limit
        while 0 < limit < self.limit:
            counts, limit = _doubled(counts), limit * 2
        self.counts = self.counts + counts
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.zeros += other.zeros
        self.batches += other.batches
        self.abs_max_sum += other.abs_max_sum

    def _widen(self, top: float) -> None:
        if top > 0:
            # top = m * 2**e with m in [0.5, 1), so 2**e is the power of two above it.
            self._widen_to(math.ldexp(1.0, max(math.frexp(top)[1], MIN_EXPONENT)))

    def _widen_to(self, limit: float) -> None:
        if self.limit == 0:
            self.limit = limit
        while self.limit < limit:
            self.counts = _doubled(self.counts)
            self.limit *= 2

    @property
    def width(self) -> float:
        """Width of a bin."""
        return self.limit / self.counts.size

    @property
    def total(self) -> int:
        """Number of values seen."""
        return int(self.counts.sum())

    @property
    def abs_max(self) -> float:
        """The largest magnitude seen; 0.0 before the first value."""
        return max(abs(self.low), abs(self.high)) if self.batches else 0.0

    @property
    def mean_abs_max(self) -> float:
        """The mean over updates of each one's largest magnitude."""
        return self.abs_max_sum / self.batches if self.batches else 0.0

    def used(self) -> Tuple[np.ndarray, np.ndarray]:
        """Lower edges (float64) and counts (int64) of the bins up to the last that is not empty."""
        filled = np.flatnonzero(self.counts)
        size = int(filled[-1]) + 1 if filled.size else 0
        return np.arange(size) * self.width, self.counts[:size].copy()


def _doubled(counts: np.ndarray) -> np.ndarray:
    """The same counts over twice the range."""
    pairs = counts.reshape(-1, 2).sum(axis=1)
    return np.concatenate([pairs, np.zeros_like(pairs)])
