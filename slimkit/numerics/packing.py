"""Integers of a grid in the narrowest type that files and runtimes take: int8 up to 8 bits, int16 up to 16."""

from __future__ import annotations

import numpy as np

from slimkit.errors import NumericsError
from slimkit.numerics.grid import affine_levels, check_bits, symmetric_levels

__all__ = ["pack", "storage_type"]


def storage_type(bits: int, signed: bool = True) -> np.dtype:
    """The dtype that holds a grid: int8 or int16; uint8 or uint16 when not signed.

    Args:
        bits: 2 to 16.
        signed: a symmetric grid; False: an affine one, which starts at 0.
    """
    narrow = check_bits(bits) <= 8
    if signed:
        return np.dtype(np.int8 if narrow else np.int16)
    return np.dtype(np.uint8 if narrow else np.uint16)


def pack(q: np.ndarray, bits: int = 8, signed: bool = True, name: str = "the tensor") -> np.ndarray:
    """Converts whole numbers to their storage type, losing nothing.

    Args:
        q: whole numbers in any integer or float dtype, any shape.
        bits: of the grid, 2 to 16.
        signed: a symmetric grid, ``[-2**(bits-1), 2**(bits-1) - 1]``; False: ``[0, 2**bits - 1]``.
        name: of the tensor, for messages.

    Returns:
        int8, int16, uint8 or uint16 of ``q``'s shape.

    Raises:
        NumericsError: a value is not a whole number or lies outside the grid.
    """
    q = np.asarray(q)
    low, high = (-symmetric_levels(bits) - 1, symmetric_levels(bits)) if signed else (0, affine_levels(bits))
    if q.dtype.kind not in "iuf":
        raise NumericsError(f"{name} has dtype {q.dtype}; integers are packed from an integer or float array.")
    if q.dtype.kind == "f":
        broken = ~(np.isfinite(q) & (np.trunc(q) == q))
        if broken.any():
            raise NumericsError(
                f"{name} holds {int(broken.sum())} of {q.size} values that are not whole numbers (first: "
                f"{q[broken].flat[0]}); quantize it before packing."
            )
    outside = (q < low) | (q > high)
    if outside.any():
        raise NumericsError(
            f"{name} holds {int(outside.sum())} of {q.size} values outside the {check_bits(bits)}-bit range "
            f"{low}..{high} (first: {q[outside].flat[0]}); quantize it with the same bits, or pack with more."
        )
    return q.astype(storage_type(bits, signed))
