"""``hist``: a given part of all values is not clipped (PaddleSlim's ``hist`` with ``hist_percent``)."""

from __future__ import annotations

from typing import Tuple

from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.thresholds import percentile_threshold

__all__ = ["affine_range", "threshold"]


def threshold(histogram: AbsHistogram, bits: int, hist_percent: float = 0.99999) -> float:
    """The magnitude that ``hist_percent`` of the values do not exceed, interpolated within its bin.

    Args:
        histogram: of the tensor.
        bits: not used.
        hist_percent: in (0, 1].

    Raises:
        NumericsError: ``hist_percent`` is out of range.
    """
    return percentile_threshold(histogram, 100 * hist_percent)


def affine_range(histogram: AbsHistogram, bits: int, hist_percent: float = 0.99999) -> Tuple[float, float]:
    """Both ends clipped at that magnitude, so that as many values are clipped as on the symmetric grid.

    Args and errors are those of :func:`threshold`.
    """
    magnitude = threshold(histogram, bits, hist_percent)
    return max(min(histogram.low, 0.0), -magnitude), min(max(histogram.high, 0.0), magnitude)
