"""Clipping thresholds of a symmetric grid, fitted to a histogram: where PACT's alpha starts.

Which fit: the threshold of least squared error, in decibels of signal to quantization noise over taking the maximum
(2 million values of each kind):

| values                  | 4 bits: M / max, gain | 99.99 % | 8 bits: M / max, gain | 99.99 % |
| ----------------------- | --------------------- | ------- | --------------------- | ------- |
| Gaussian                | 0.46, +5.8 dB         | +2.8 dB | 0.73, +2.1 dB         | +2.1 dB |
| Laplacian               | 0.35, +7.2 dB         | +3.0 dB | 0.72, +2.1 dB         | +1.9 dB |
| hard_swish of Gaussian  | 0.43, +3.4 dB         | +1.6 dB | 0.77, +2.4 dB         | +2.0 dB |
| Student's t, 4 freedoms | 0.08, +11.9 dB        | +6.5 dB | 0.33, +6.7 dB         | +4.9 dB |

A percentile is right for one width only: 99.5 % is near the best at 4 bits and loses 8 to 15 dB at 8.
"""

from __future__ import annotations

import numpy as np

from slimkit.errors import NumericsError
from slimkit.numerics.grid import symmetric_levels
from slimkit.numerics.histogram import AbsHistogram

__all__ = ["AbsHistogram", "clipping_error", "mse_threshold", "percentile_threshold"]


def percentile_threshold(histogram: AbsHistogram, percentile: float) -> float:
    """The magnitude below which ``percentile`` percent of the values lie, interpolated within its bin.

    Args:
        histogram: of the tensor.
        percentile: in (0, 100]; 100 is the largest magnitude.

    Returns:
        The threshold in real units; 0.0 for an empty histogram.

    Raises:
        NumericsError: ``percentile`` is out of range.
    """
    if not 0 < percentile <= 100:
        raise NumericsError(
            f"A percentile of {percentile} does not exist; give one above 0 and up to 100, such as 99.99."
        )
    edges, counts = histogram.used()
    if not counts.size:
        return 0.0
    below = np.cumsum(counts)
    wanted = below[-1] * (percentile / 100.0)
    index = int(np.searchsorted(below, wanted))
    within = (wanted - (below[index] - counts[index])) / counts[index]
    return float(min(edges[index] + within * histogram.width, histogram.abs_max))


def _squared_error_up_to(x: np.ndarray, threshold: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The integral from 0 to x of ``(t - Q(t))**2``, Q rounding to multiples of step up to threshold.

    A whole cell of the grid holds ``step**3 / 12``; from its centre on, ``r**3 / 3``; beyond the threshold the
    distance to it counts.
    """
    inside = np.minimum(x, threshold)
    cells = np.round(inside / step)
    rest = inside - cells * step
    return cells * step**3 / 12 + rest**3 / 3 + np.maximum(x - threshold, 0.0) ** 3 / 3


def clipping_error(histogram: AbsHistogram, thresholds: np.ndarray, bits: int) -> np.ndarray:
    """Mean squared error of rounding to the symmetric grid and clipping, values evenly spread within their bins.

    Exact zeros lie on every grid and count as no error. Source: Banner et al. 2019 (arXiv 1810.05723), eq. 1, with the
    measured density in place of a fitted one.

    Args:
        histogram: of the tensor, not empty.
        thresholds: candidates M, positive, shape ``[k]``.
        bits: 2 to 16.

    Returns:
        float64, shape ``[k]``.
    """
    edges, counts = histogram.used()
    counts = counts.astype(np.float64)
    counts[0] -= histogram.zeros
    m = np.asarray(thresholds, np.float64)[:, None]
    step = m / symmetric_levels(bits)
    ends = np.append(edges, edges[-1] + histogram.width)
    integral = _squared_error_up_to(ends[None, :], m, step)
    return np.diff(integral, axis=1) @ counts / (histogram.width * histogram.total)


def mse_threshold(histogram: AbsHistogram, bits: int, candidates: int = 200) -> float:
    """The threshold of least mean squared quantization error on the symmetric grid of ``bits``.

    Args:
        histogram: of the tensor.
        bits: 2 to 16.
        candidates: thresholds tried, in equal ratios from a 1024th of the largest magnitude to all of it.

    Returns:
        The threshold in real units; 0.0 for an empty histogram or zeros alone.

    Raises:
        NumericsError: bits or candidates is out of range.
    """
    symmetric_levels(bits)
    if candidates < 1:
        raise NumericsError(f"{candidates} candidates leave no threshold to choose; give at least one.")
    if histogram.total == 0 or histogram.abs_max == 0:
        return 0.0
    thresholds = np.geomspace(histogram.abs_max, histogram.abs_max / 1024, candidates)
    return float(thresholds[int(np.argmin(clipping_error(histogram, thresholds, bits)))])
