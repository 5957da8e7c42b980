"""The affine min-max grid: ``q = clip(round(x / step) + zero, 0, 2**bits - 1)``, and back.

Source: Krishnamoorthi 2018 (arXiv 1806.08342), eq. 1-4; Jacob et al. 2018 (arXiv 1712.05877), section 3: the range is
widened to hold 0, which lies on the grid, so that zero padding is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple, Union

import numpy as np

from slimkit.errors import NumericsError
from slimkit.numerics.grid import affine_levels, along_axis, reduced_axes
from slimkit.numerics.rounding import rounding_function

__all__ = ["AffineGrid", "affine_grid", "dequantize_affine", "fake_quantize_affine", "min_max", "quantize_affine"]

#: Added to a range's width so that a constant tensor does not divide by zero.
WIDTH_EPSILON = np.float32(1e-12)

Ends = Union[float, np.ndarray]


@dataclass(frozen=True)
class AffineGrid:
    """Levels ``(q - zero_point) * step`` for ``0 <= q <= 2**bits - 1``.

    Attributes:
        step: float32, distance of neighbouring levels, shape ``[]`` or ``[channels]``.
        zero_point: int32, the integer of 0.0, same shape.
        bits: 2 to 16.
        axis: channel axis; None: one step.
    """

    step: np.ndarray
    zero_point: np.ndarray
    bits: int
    axis: Optional[int] = None


def min_max(x: np.ndarray, axis: Optional[int] = None) -> Tuple[np.ndarray, np.ndarray]:
    """The smallest and largest value, or those of each channel.

    Args:
        x: floating point, not empty.
        axis: channel axis; None: of the whole array.

    Returns:
        Two arrays of shape ``[]`` or ``[channels]``.

    Raises:
        NumericsError: ``x`` is empty or has no such axis.
    """
    x = np.asarray(x)
    if x.size == 0:
        raise NumericsError(f"An empty array of shape {x.shape} has no minimum; give at least one value.")
    dims = reduced_axes(x.ndim, axis)
    return x.min(axis=dims), x.max(axis=dims)


def affine_grid(
    low: Ends, high: Ends, bits: int = 8, axis: Optional[int] = None, rounding: str = "half_even"
) -> AffineGrid:
    """The grid of ``[low, high]``, widened to hold 0.

    Args:
        low: smallest value, or one a channel.
        high: largest value, same shape.
        bits: 2 to 16.
        axis: channel axis the values belong to; None: one grid.
        rounding: how the zero point becomes a whole number; Paddle's ``round`` op rounds ties to even.

    Raises:
        NumericsError: an end is not finite, or low is above high.
    """
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    if not (np.all(np.isfinite(low)) and np.all(np.isfinite(high))) or np.any(low > high):
        raise NumericsError(f"A range runs from {low} to {high}; its ends are finite and the first is the smaller.")
    low, high = np.minimum(low, np.float32(0)), np.maximum(high, np.float32(0))
    step = (high - low + WIDTH_EPSILON) / np.float32(affine_levels(bits))
    zero_point = -rounding_function(rounding)(low / step)
    return AffineGrid(step, zero_point.astype(np.int32), bits, axis)


def quantize_affine(x: np.ndarray, grid: AffineGrid, rounding: str = "half_even") -> np.ndarray:
    """Puts values on the grid.

    Args:
        x: float32, any shape; infinities become the ends of the grid.
        grid: the grid.
        rounding: ``half_even`` or ``half_away``.

    Returns:
        int32 of ``x``'s shape in ``[0, 2**bits - 1]``.

    Raises:
        NumericsError: ``x`` holds NaN, or the grid's channels do not fit.
    """
    x = np.asarray(x, np.float32)
    if np.isnan(x).any():
        count = int(np.isnan(x).sum())
        raise NumericsError(
            f"{count} of {x.size} values are NaN and have no integer; look for a training that diverged."
        )
    step = along_axis(grid.step, x.shape, grid.axis)
    zero = along_axis(grid.zero_point, x.shape, grid.axis).astype(np.float32)
    whole = rounding_function(rounding)(x / step) + zero
    return np.clip(whole, 0, affine_levels(grid.bits)).astype(np.int32)


def dequantize_affine(q: np.ndarray, grid: AffineGrid) -> np.ndarray:
    """Values of integers of the grid, float32 of ``q``'s shape."""
    q = np.asarray(q)
    step = along_axis(grid.step, q.shape, grid.axis)
    zero = along_axis(grid.zero_point, q.shape, grid.axis).astype(np.float32)
    return (q.astype(np.float32) - zero) * step


def fake_quantize_affine(x: np.ndarray, grid: AffineGrid, rounding: str = "half_even") -> np.ndarray:
    """Quantizes and dequantizes; arguments and errors of ``quantize_affine``."""
    return dequantize_affine(quantize_affine(x, grid, rounding), grid)
