"""``avg``: the mean over batches of each one's largest magnitude, so that one outlying image does not set the grid.

It depends on how the data was split into batches. PaddleSlim's ``avg`` takes the mean over the images: the same in
batches of one, a lower threshold in larger ones.
"""

from __future__ import annotations

from typing import Tuple

from slimkit.numerics.histogram import AbsHistogram

__all__ = ["affine_range", "threshold"]


def threshold(histogram: AbsHistogram, bits: int) -> float:
    """The mean of the batches' largest magnitudes; 0.0 for an empty histogram."""
    return histogram.mean_abs_max


def affine_range(histogram: AbsHistogram, bits: int) -> Tuple[float, float]:
    """The means of the batches' smallest and largest values, widened to hold 0."""
    low, high = histogram.mean_ends
    return min(low, 0.0), max(high, 0.0)
