"""``min_max``: the smallest and largest value, for affine grids (Jacob et al. 2018, arXiv 1712.05877, section 3)."""

from __future__ import annotations

from typing import Tuple

from slimkit.numerics.histogram import AbsHistogram

__all__ = ["affine_range", "threshold"]


def threshold(histogram: AbsHistogram, bits: int) -> float:
    """On a symmetric grid the larger of the two magnitudes; 0.0 for an empty histogram."""
    return histogram.abs_max


def affine_range(histogram: AbsHistogram, bits: int) -> Tuple[float, float]:
    """The smallest and largest value seen, widened to hold 0; both 0.0 for an empty histogram."""
    return min(histogram.low, 0.0), max(histogram.high, 0.0)
