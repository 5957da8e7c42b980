"""The symmetric max-abs grid: ``q = round(x / M * (n - 1))`` with ``n = 2**(bits-1)``, and back.

Source: Krishnamoorthi 2018 (arXiv 1806.08342), eq. 7-9 with zero point 0. The arithmetic is, operation for operation
in float32, that of Paddle's kernels (fake_quantize_*, quantize_linear, dequantize_linear), so results are equal to the
bit. Where the kernels depart from the paper:

- ``half_even`` clips integers to ``[-n, n-1]``, as int8 hardware saturates: one level more below zero.
- ``half_away`` clips ``x`` to ``[-M, M]`` first: integers are ``[-(n-1), n-1]``, and values beyond M become exactly M.
- A scale up to 1e-30 counts as 0 and is inverted as ``1 / (M + 1e-6)``.
"""

from __future__ import annotations

from typing import Optional, Union

import numpy as np

from slimkit.errors import NumericsError
from slimkit.numerics.grid import along_axis, symmetric_levels
from slimkit.numerics.rounding import rounding_function

__all__ = ["dequantize", "fake_quantize", "inverse_scale", "quantize"]

Scale = Union[float, np.ndarray]

#: Scales up to this are inverted with ``INVERSE_EPSILON`` added, as in Paddle's kernels.
TINY_SCALE = np.float32(1e-30)
INVERSE_EPSILON = np.float32(1e-6)


def _checked_scale(scale: Scale) -> np.ndarray:
    scales = np.asarray(scale, np.float32)
    if not np.all(np.isfinite(scales)) or np.any(scales < 0):
        raise NumericsError(f"A scale is {scales.min()}..{scales.max()}; scales are finite and not negative.")
    return scales


def inverse_scale(scale: Scale) -> np.ndarray:
    """``1 / scale`` in float32, finite also for a scale of 0.

    Args:
        scale: thresholds M in real units, not negative.
    """
    scales = np.asarray(scale, np.float32)
    padded = np.where(scales <= TINY_SCALE, scales + INVERSE_EPSILON, scales)
    return np.float32(1.0) / padded


def _whole(x: np.ndarray, scale: Scale, bits: int, axis: Optional[int], rounding: str) -> np.ndarray:
    """The integers, as float32; NaN stays NaN."""
    x = np.asarray(x, np.float32)
    top = np.float32(symmetric_levels(bits))
    rounded = rounding_function(rounding)
    threshold = along_axis(_checked_scale(scale), x.shape, axis)
    factor = top * inverse_scale(threshold)
    with np.errstate(over="ignore", invalid="ignore"):
        if rounding == "half_away":
            return rounded(factor * np.clip(x, -threshold, threshold))
        return np.clip(rounded(factor * x), -top - 1, top)


def quantize(
    x: np.ndarray, scale: Scale, bits: int = 8, axis: Optional[int] = None, rounding: str = "half_away"
) -> np.ndarray:
    """Puts values on the grid.

    Args:
        x: float32, any shape; infinities become the ends of the grid.
        scale: threshold M in real units, or one a channel of ``axis``.
        bits: 2 to 16.
        axis: channel axis; None: one scale.
        rounding: ``half_even`` or ``half_away``.

    Returns:
        int32 of ``x``'s shape, in ``[-(n-1), n-1]``; with ``half_even`` in ``[-n, n-1]``.

    Raises:
        NumericsError: ``x`` holds NaN, a scale is negative or not finite, bits or axis is out of range.
    """
    whole = _whole(x, scale, bits, axis, rounding)
    if np.isnan(whole).any():
        count = int(np.isnan(whole).sum())
        raise NumericsError(
            f"{count} of {whole.size} values are NaN and have no integer; look for a training that diverged."
        )
    return whole.astype(np.int32)


def dequantize(q: np.ndarray, scale: Scale, bits: int = 8, axis: Optional[int] = None) -> np.ndarray:
    """Values of integers of the grid: ``q * M / (n - 1)``.

    Args:
        q: whole numbers of any dtype and shape.
        scale: threshold M in real units, or one a channel of ``axis``.
        bits: 2 to 16.
        axis: channel axis; None: one scale.

    Returns:
        float32 of ``q``'s shape.

    Raises:
        NumericsError: a scale is negative or not finite, bits or axis is out of range.
    """
    q = np.asarray(q)
    threshold = along_axis(_checked_scale(scale), q.shape, axis)
    return q.astype(np.float32) * threshold / np.float32(symmetric_levels(bits))


def fake_quantize(
    x: np.ndarray, scale: Scale, bits: int = 8, axis: Optional[int] = None, rounding: str = "half_away"
) -> np.ndarray:
    """Quantizes and dequantizes: the values training sees. NaN stays NaN.

    Args and errors are those of ``quantize``.

    Returns:
        float32 of ``x``'s shape.
    """
    return dequantize(_whole(x, scale, bits, axis, rounding), scale, bits, axis)
