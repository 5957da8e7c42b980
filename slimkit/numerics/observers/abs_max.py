"""``abs_max``: no value is clipped."""

from __future__ import annotations

from typing import Tuple

from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.observers.min_max import affine_range as _extremes

__all__ = ["affine_range", "threshold"]


def threshold(histogram: AbsHistogram, bits: int) -> float:
    """The largest magnitude seen; 0.0 for an empty histogram."""
    return histogram.abs_max


def affine_range(histogram: AbsHistogram, bits: int) -> Tuple[float, float]:
    """The smallest and largest value seen, widened to hold 0."""
    return _extremes(histogram, bits)
