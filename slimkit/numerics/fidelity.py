"""How close a quantized tensor is to its float original: signal-to-quantization-noise ratio and cosine."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from slimkit.errors import NumericsError
from slimkit.numerics.grid import reduced_axes

__all__ = ["cosine", "mean_squared_error", "sqnr_db"]


def _pair(
    reference: np.ndarray, value: np.ndarray, axis: Optional[int]
) -> Tuple[np.ndarray, np.ndarray, Tuple[int, ...]]:
    a, b = np.asarray(reference, np.float64), np.asarray(value, np.float64)
    if a.shape != b.shape:
        raise NumericsError(f"Arrays of shapes {a.shape} and {b.shape} cannot be compared; give two of one shape.")
    return a, b, reduced_axes(a.ndim, axis)


def mean_squared_error(reference: np.ndarray, value: np.ndarray, axis: Optional[int] = None) -> np.ndarray:
    """Mean of ``(value - reference)**2``, or that of each channel of ``axis``; float64.

    Raises:
        NumericsError: the shapes differ or the axis does not exist.
    """
    a, b, dims = _pair(reference, value, axis)
    return np.mean((b - a) ** 2, axis=dims)


def sqnr_db(reference: np.ndarray, value: np.ndarray, axis: Optional[int] = None) -> np.ndarray:
    """``10 log10(sum reference**2 / sum (value - reference)**2)`` in decibel, or that of each channel.

    Args:
        reference: the float tensor.
        value: the quantized and dequantized one, same shape.
        axis: channel axis; None: over all.

    Returns:
        float64, shape ``[]`` or ``[channels]``: infinity without noise, minus infinity for noise without signal.

    Raises:
        NumericsError: the shapes differ or the axis does not exist.
    """
    a, b, dims = _pair(reference, value, axis)
    signal, noise = np.sum(a**2, axis=dims), np.sum((b - a) ** 2, axis=dims)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(noise > 0, 10 * (np.log10(signal) - np.log10(noise)), np.inf)


def cosine(reference: np.ndarray, value: np.ndarray, axis: Optional[int] = None) -> np.ndarray:
    """Cosine of the angle between two tensors, or of each channel's; 1 for two zeros, 0 for one.

    Args:
        reference: any shape.
        value: same shape.
        axis: channel axis; None: over all.

    Returns:
        float64 in [-1, 1], shape ``[]`` or ``[channels]``.

    Raises:
        NumericsError: the shapes differ or the axis does not exist.
    """
    a, b, dims = _pair(reference, value, axis)
    first, second = np.sqrt(np.sum(a**2, axis=dims)), np.sqrt(np.sum(b**2, axis=dims))
    both = (first > 0) & (second > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sum(a * b, axis=dims) / first / second
    return np.where(both, np.clip(ratio, -1.0, 1.0), np.where((first == 0) & (second == 0), 1.0, 0.0))
