"""``emd``: the least earth mover's distance between the values and the quantized values.

Rounding and clipping keep the order of values, and in one dimension the order-keeping transport is the cheapest
(Villani 2003, Topics in Optimal Transportation, theorem 2.18). So the distance is the mean of ``|x - Q(x)|``, exactly.
PaddleSlim calls the difference of the two means plus that of the two standard deviations 'emd', which is zero for
grids that are not good at all; here it is the distance of that name.
"""

from __future__ import annotations

from typing import Tuple

from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.thresholds import least_error_range, least_error_threshold

__all__ = ["affine_range", "threshold"]


def threshold(histogram: AbsHistogram, bits: int, candidates: int = 200) -> float:
    """The threshold of least mean absolute error on the symmetric grid; arguments of ``least_error_threshold``."""
    return least_error_threshold(histogram, bits, candidates, power=1)


def affine_range(histogram: AbsHistogram, bits: int, candidates: int = 200) -> Tuple[float, float]:
    """The range of least mean absolute error on the affine grid; arguments of ``least_error_range``."""
    return least_error_range(histogram, bits, candidates, power=1)
