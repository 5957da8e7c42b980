"""``mse``: the least mean squared quantization error.

Source: Banner et al. 2019 (arXiv 1810.05723), eq. 1, with the measured density. PaddleSlim's ``mse`` tries 0.3 to 1.0
of the largest magnitude in steps of 0.02 on the values themselves; here 200 thresholds from a 1024th on, on the
histogram.
"""

from __future__ import annotations

from typing import Tuple

from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.thresholds import least_error_range, least_error_threshold

__all__ = ["affine_range", "threshold"]


def threshold(histogram: AbsHistogram, bits: int, candidates: int = 200) -> float:
    """The threshold of least mean squared error on the symmetric grid; arguments of ``least_error_threshold``."""
    return least_error_threshold(histogram, bits, candidates, power=2)


def affine_range(histogram: AbsHistogram, bits: int, candidates: int = 200) -> Tuple[float, float]:
    """The range of least mean squared error on the affine grid; arguments of ``least_error_range``."""
    return least_error_range(histogram, bits, candidates, power=2)
