"""What all integer grids share: allowed bit widths, largest integers, one value per channel."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from slimkit.errors import NumericsError

__all__ = ["MAX_BITS", "MIN_BITS", "affine_levels", "along_axis", "check_bits", "reduced_axes", "symmetric_levels"]

MIN_BITS = 2
MAX_BITS = 16


def check_bits(bits: int) -> int:
    """Returns ``bits``.

    Raises:
        NumericsError: it is not a whole number from 2 to 16.
    """
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not MIN_BITS <= bits <= MAX_BITS:
        raise NumericsError(
            f"A grid of {bits!r} bits is not possible; bits is a whole number from {MIN_BITS} to {MAX_BITS}."
        )
    return int(bits)


def symmetric_levels(bits: int) -> int:
    """n - 1 = 2**(bits-1) - 1, the largest integer of a symmetric grid: 127 for 8 bits, 1 for 2."""
    return 2 ** (check_bits(bits) - 1) - 1


def affine_levels(bits: int) -> int:
    """2**bits - 1, the largest integer of an affine grid, whose smallest is 0: 255 for 8 bits."""
    return 2 ** check_bits(bits) - 1


def reduced_axes(ndim: int, axis: Optional[int]) -> Tuple[int, ...]:
    """The axes a per-channel statistic is taken over: all but ``axis``; all for None.

    Raises:
        NumericsError: the array has no such axis.
    """
    if axis is None:
        return tuple(range(ndim))
    if not -ndim <= axis < ndim:
        raise NumericsError(
            f"The channel axis {axis} does not exist in an array of {ndim} dimensions; give one below {ndim}."
        )
    return tuple(d for d in range(ndim) if d != axis % ndim)


def along_axis(values: np.ndarray, shape: Tuple[int, ...], axis: Optional[int]) -> np.ndarray:
    """Shapes one value, or one value a channel, so that it broadcasts against an array.

    Args:
        values: one element, or ``shape[axis]`` elements.
        shape: of the array.
        axis: its channel axis; None: one value for all.

    Raises:
        NumericsError: the number of values is not the number of channels.
    """
    values = np.asarray(values).reshape(-1)
    if axis is None:
        if values.size != 1:
            raise NumericsError(f"{values.size} scales were given without a channel axis; give one scale, or the axis.")
        return values.reshape(())
    reduced = reduced_axes(len(shape), axis)
    channels = shape[axis]
    if values.size != channels:
        raise NumericsError(
            f"{values.size} scales do not fit axis {axis} of an array of shape {tuple(shape)}; give {channels} of them."
        )
    return values.reshape([1 if d in reduced else channels for d in range(len(shape))])
