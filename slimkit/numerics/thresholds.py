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

from typing import Tuple

import numpy as np

from slimkit.errors import NumericsError
from slimkit.numerics.grid import affine_levels, symmetric_levels
from slimkit.numerics.histogram import AbsHistogram

__all__ = [
    "AbsHistogram",
    "affine_clipping_error",
    "clipping_error",
    "least_error_range",
    "least_error_threshold",
    "mse_threshold",
    "percentile_threshold",
]


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


def _error_up_to(x: np.ndarray, threshold: np.ndarray, step: np.ndarray, power: int) -> np.ndarray:
    """The integral from 0 to x of ``|t - Q(t)|**power``, Q rounding to multiples of step up to threshold.

    With p the power and r the distance to the nearest level: a whole cell of the grid holds
    ``2 (step/2)**(p+1) / (p+1)``; from its centre on, ``r**(p+1) / (p+1)``; beyond the threshold the distance to it
    counts.

    Args:
        x: shape ``[1, n]``.
        threshold, step: shape ``[k, 1]``.
        power: 1 or 2.
    """
    inside = np.minimum(x, threshold)
    cells = np.rint(inside / step)
    rest = inside - cells * step
    beyond = x - inside
    if power == 1:
        return cells * (step**2 / 4) + (rest * np.abs(rest) + beyond * beyond) * 0.5
    return cells * (step**3 / 12) + (rest * rest * rest + beyond * beyond * beyond) * (1 / 3)


def _summed_error(counts: np.ndarray, width: float, threshold: np.ndarray, step: np.ndarray, power: int) -> np.ndarray:
    """The errors of all values of one sign, summed, values evenly spread within their bins; shape ``[k]``."""
    filled = np.flatnonzero(counts)
    if not filled.size:
        return np.zeros(len(threshold))
    counts = counts[: filled[-1] + 1] / width
    # The sum over bins of count times the integral between their edges, by edges instead.
    weights = np.concatenate([[0.0], counts]) - np.concatenate([counts, [0.0]])
    edges = np.flatnonzero(weights)
    return _error_up_to((edges * width)[None, :], threshold[:, None], step[:, None], power) @ weights[edges]


def clipping_error(histogram: AbsHistogram, thresholds: np.ndarray, bits: int, power: int = 2) -> np.ndarray:
    """Mean error of rounding to the symmetric grid and clipping, values evenly spread within their bins.

    Exact zeros lie on every grid and count as no error. Source: Banner et al. 2019 (arXiv 1810.05723), eq. 1, with the
    measured density in place of a fitted one.

    Args:
        histogram: of the tensor, not empty.
        thresholds: candidates M, positive, shape ``[k]``.
        bits: 2 to 16.
        power: 2, the mean squared error, or 1, the mean absolute error.

    Returns:
        float64, shape ``[k]``.
    """
    counts = histogram.counts.astype(np.float64)
    counts[0] -= histogram.zeros
    m = np.asarray(thresholds, np.float64)
    return _summed_error(counts, histogram.width, m, m / symmetric_levels(bits), power) / histogram.total


def affine_clipping_error(
    histogram: AbsHistogram, lows: np.ndarray, highs: np.ndarray, bits: int, power: int = 2
) -> np.ndarray:
    """The same for affine grids over ``[low, high]``, on which 0 lies (``affine_grid``).

    Args:
        histogram: of the tensor, not empty.
        lows: not positive, shape ``[k]``.
        highs: not negative, above ``lows``, same shape.
        bits: 2 to 16.
        power: 2 or 1.

    Returns:
        float64, shape ``[k]``.
    """
    below = histogram.negative.astype(np.float64)
    above = histogram.counts - below
    above[0] -= histogram.zeros
    if histogram.high <= 0:
        below[0], above[0] = above[0], 0.0
    lows, highs = np.asarray(lows, np.float64), np.asarray(highs, np.float64)
    levels = affine_levels(bits)
    step = (highs - lows) / levels
    zero = np.rint(-lows / step)
    errors = _summed_error(above, histogram.width, (levels - zero) * step, step, power)
    return (errors + _summed_error(below, histogram.width, zero * step, step, power)) / histogram.total


def least_error_threshold(histogram: AbsHistogram, bits: int, candidates: int = 200, power: int = 2) -> float:
    """The threshold of least mean error on the symmetric grid of ``bits``.

    Args:
        histogram: of the tensor.
        bits: 2 to 16.
        candidates: thresholds tried, in equal ratios from a 1024th of the largest magnitude to all of it.
        power: 2, the mean squared error, or 1, the mean absolute error.

    Returns:
        The threshold in real units; 0.0 for an empty histogram or zeros alone.

    Raises:
        NumericsError: bits or candidates is out of range.
    """
    symmetric_levels(bits)
    ratios = _ratios(candidates)
    if histogram.total == 0 or histogram.abs_max == 0:
        return 0.0
    thresholds = histogram.abs_max * ratios
    return float(thresholds[int(np.argmin(clipping_error(histogram, thresholds, bits, power)))])


def mse_threshold(histogram: AbsHistogram, bits: int, candidates: int = 200) -> float:
    """The threshold of least mean squared error on the symmetric grid; see :func:`least_error_threshold`."""
    return least_error_threshold(histogram, bits, candidates, 2)


def least_error_range(histogram: AbsHistogram, bits: int, candidates: int = 200, power: int = 2) -> Tuple[float, float]:
    """The range ``[low, high]`` around 0 of least mean error on the affine grid of ``bits``.

    First both ends are clipped at one magnitude, then the low end and the high end are moved alone.

    Args:
        histogram: of the tensor.
        bits: 2 to 16.
        candidates: values tried for each of the three.
        power: 2, the mean squared error, or 1, the mean absolute error.

    Returns:
        low <= 0 and high >= 0 in real units; both 0.0 for an empty histogram or zeros alone.

    Raises:
        NumericsError: bits or candidates is out of range.
    """
    affine_levels(bits)
    ratios = _ratios(candidates)
    if histogram.total == 0 or histogram.abs_max == 0:
        return 0.0, 0.0
    least, most = min(histogram.low, 0.0), max(histogram.high, 0.0)
    magnitudes = histogram.abs_max * ratios
    lows, highs = np.maximum(least, -magnitudes), np.minimum(most, magnitudes)
    low, high = _least(histogram, lows, highs, bits, power)
    if least < 0 < most:
        low, high = _least(histogram, least * ratios, np.full_like(ratios, high), bits, power)
        low, high = _least(histogram, np.full_like(ratios, low), most * ratios, bits, power)
    return low, high


def _ratios(candidates: int) -> np.ndarray:
    if candidates < 1:
        raise NumericsError(f"{candidates} candidates leave no threshold to choose; give at least one.")
    return np.geomspace(1.0, 1 / 1024, candidates)


def _least(histogram: AbsHistogram, lows: np.ndarray, highs: np.ndarray, bits: int, power: int) -> Tuple[float, float]:
    best = int(np.argmin(affine_clipping_error(histogram, lows, highs, bits, power)))
    return float(lows[best]), float(highs[best])
