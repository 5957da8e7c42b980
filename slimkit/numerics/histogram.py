"""A streaming histogram of magnitudes with a fixed number of bins, whose range doubles when it must.

Bin edges are powers of two times whole numbers, so that doubling only adds neighbouring bins: the counts do not depend
on the order of the batches, nor on how they were split and merged. Scaling by a power of two is exact, so the bin of a
value is the whole part of one product, and no value lands on the wrong side of an edge.

``update`` costs about 2 ns a value: it works in blocks that stay in the second-level cache, and counts values at even
and odd places apart, because adding to one counter twice in a row (zeros behind a relu) waits for the first addition.
"""

from __future__ import annotations

import math
import threading
from functools import lru_cache
from typing import Any, Dict, Iterator, Tuple

import numpy as np

from slimkit.errors import NumericsError

__all__ = ["AbsHistogram"]

#: The smallest range, so that ``bins / limit`` stays within float32.
MIN_EXPONENT = -100

#: Values worked on at a time.
BLOCK = 1 << 15

#: Sets of counters that neighbouring values alternate between.
LANES = 2


class _Scratch(threading.local):
    """Arrays of ``BLOCK`` values that the updates of one thread share."""

    def __init__(self) -> None:
        self._arrays: Dict[Any, np.ndarray] = {}

    def array(self, dtype: Any) -> np.ndarray:
        if dtype not in self._arrays:
            self._arrays[dtype] = np.empty(BLOCK, dtype)
        return self._arrays[dtype]


_SCRATCH = _Scratch()


@lru_cache(maxsize=4)
def _lanes(bins: int) -> np.ndarray:
    """What turns a signed bin into the index of a counter, shape ``[BLOCK]``."""
    lanes = ((np.arange(BLOCK) % LANES) * 2 * bins + bins).astype(np.int32)
    lanes.setflags(write=False)
    return lanes


class AbsHistogram:
    """Counts of ``|x|`` in ``bins`` equal bins over ``[0, limit)``, with minimum and maximum of ``x``.

    Args:
        bins: number of bins, a power of two.

    Attributes:
        counts: int64, shape ``[bins]``.
        negative: how many of ``counts`` are negative values, same shape; in the first bin they are not told apart: 0.
        limit: end of the last bin, a power of two; 0.0 before the first value that is not 0.
        low, high: smallest and largest value seen.
        zeros: number of values that are exactly 0 (they are in ``counts[0]`` as well).
        batches: number of updates.
        abs_max_sum: sum over the updates of each one's largest magnitude.
        low_sum, high_sum: sum over the updates of each one's smallest and of each one's largest value.

    Raises:
        NumericsError: ``bins`` is not a power of two.
    """

    def __init__(self, bins: int = 2048) -> None:
        if bins < 2 or bins & (bins - 1):
            raise NumericsError(
                f"A histogram of {bins} bins cannot double its range exactly; take a power of two, such as 2048."
            )
        self.counts = np.zeros(bins, np.int64)
        self.negative = np.zeros(bins, np.int64)
        self.limit = 0.0
        self.low = math.inf
        self.high = -math.inf
        self.zeros = 0
        self.batches = 0
        self.abs_max_sum = 0.0
        self.low_sum = 0.0
        self.high_sum = 0.0

    def update(self, x: np.ndarray) -> None:
        """Adds a batch of any shape; an empty one changes nothing.

        Raises:
            NumericsError: it holds NaN or infinity; the histogram is then as it was.
        """
        x = np.asarray(x)
        if x.size == 0:
            return
        flat = x.reshape(-1)
        low, high = _ends(flat)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise NumericsError(f"a tensor of shape {x.shape} holds NaN or infinity")
        top = max(-low, high)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.batches += 1
        self.abs_max_sum += top
        self.low_sum += low
        self.high_sum += high
        self._widen(top)
        if self.limit == 0:
            self.zeros += x.size
            self.counts[0] += x.size
            return
        self._count(flat)

    def _count(self, flat: np.ndarray) -> None:
        """Adds finite values below ``limit``, shape ``[n]``, to ``counts``, ``negative`` and ``zeros``."""
        bins = self.counts.size
        wide = np.float64 if flat.dtype.itemsize > 4 or flat.dtype.kind != "f" else np.float32
        factor = wide(bins / self.limit)
        scaled, whole, is_zero = (_SCRATCH.array(dtype) for dtype in (wide, np.int32, bool))
        lanes = _lanes(bins)
        found = np.zeros(LANES * 2 * bins, np.int64)
        for block in _blocks(flat):
            n = block.size
            np.equal(block, 0, out=is_zero[:n])
            self.zeros += int(np.count_nonzero(is_zero[:n]))
            np.multiply(block, factor, out=scaled[:n], dtype=wide)
            np.copyto(whole[:n], scaled[:n], casting="unsafe")  # towards zero, so a value and its negative share a bin
            np.add(whole[:n], lanes[:n], out=whole[:n])
            found += np.bincount(whole[:n], minlength=found.size)
        signed = found.reshape(LANES, 2 * bins).sum(axis=0)
        self.counts += signed[bins:]
        self.counts[1:] += signed[bins - 1 : 0 : -1]
        self.negative[1:] += signed[bins - 1 : 0 : -1]

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
        counts, negative, limit = other.counts, other.negative, other.limit
        while 0 < limit < self.limit:
            counts, negative, limit = _doubled(counts), _doubled_negative(negative), limit * 2
        self.counts = self.counts + counts
        self.negative = self.negative + negative
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.zeros += other.zeros
        self.batches += other.batches
        self.abs_max_sum += other.abs_max_sum
        self.low_sum += other.low_sum
        self.high_sum += other.high_sum

    def _widen(self, top: float) -> None:
        if top > 0:
            # top = m * 2**e with m in [0.5, 1), so 2**e is the power of two above it.
            self._widen_to(math.ldexp(1.0, max(math.frexp(top)[1], MIN_EXPONENT)))

    def _widen_to(self, limit: float) -> None:
        if self.limit == 0:
            self.limit = limit
        while self.limit < limit:
            self.counts = _doubled(self.counts)
            self.negative = _doubled_negative(self.negative)
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

    @property
    def mean_ends(self) -> Tuple[float, float]:
        """The means over updates of each one's smallest and of each one's largest value."""
        count = max(self.batches, 1)
        return self.low_sum / count, self.high_sum / count

    def used(self) -> Tuple[np.ndarray, np.ndarray]:
        """Lower edges (float64) and counts (int64) of the bins up to the last that is not empty."""
        filled = np.flatnonzero(self.counts)
        size = int(filled[-1]) + 1 if filled.size else 0
        return np.arange(size) * self.width, self.counts[:size].copy()


def _doubled(counts: np.ndarray) -> np.ndarray:
    """The same counts over twice the range."""
    pairs = counts.reshape(-1, 2).sum(axis=1)
    return np.concatenate([pairs, np.zeros_like(pairs)])


def _doubled_negative(counts: np.ndarray) -> np.ndarray:
    """The same for the negative values, which the first bin does not tell apart."""
    doubled = _doubled(counts)
    doubled[0] = 0
    return doubled


def _blocks(flat: np.ndarray) -> Iterator[np.ndarray]:
    return (flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK))


def _ends(flat: np.ndarray) -> Tuple[float, float]:
    """The smallest and largest value, NaN if there is one, in one reading of the memory."""
    ends = [(block.min(), block.max()) for block in _blocks(flat)]
    return float(np.min([low for low, _ in ends])), float(np.max([high for _, high in ends]))
