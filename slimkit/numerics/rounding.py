"""Rounding to integers, ties decided.

Paddle's fake-quant ops name the two by their attribute ``round_type``; ``PADDLE_ROUND_TYPES`` is that table.
"""

from __future__ import annotations

from typing import Callable, Dict

import numpy as np

from slimkit.errors import NumericsError, nearest

__all__ = ["PADDLE_ROUND_TYPES", "ROUNDINGS", "round_half_away", "round_half_even", "rounding_function"]


def round_half_even(x: np.ndarray) -> np.ndarray:
    """Rounds to the nearest integer, ties to the even one: 0.5 -> 0, 1.5 -> 2, -2.5 -> -2.

    Args:
        x: floating point, any shape.

    Returns:
        Whole numbers in ``x``'s dtype.
    """
    return np.rint(x)


def round_half_away(x: np.ndarray) -> np.ndarray:
    """Rounds to the nearest integer, ties away from zero: 0.5 -> 1, 1.5 -> 2, -2.5 -> -3.

    Exact also where ``x + 0.5`` would round up (the largest float below 0.5) or lose its last bit (above 2**23).

    Args:
        x: floating point, any shape.

    Returns:
        Whole numbers in ``x``'s dtype.
    """
    whole = np.trunc(x)
    up = np.abs(x - whole) >= 0.5
    return whole + np.copysign(up.astype(whole.dtype), whole + x)


#: Name of a rounding -> its function.
ROUNDINGS: Dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half_even": round_half_even,
    "half_away": round_half_away,
}

#: Name of a rounding -> the attribute ``round_type`` of Paddle's ops.
PADDLE_ROUND_TYPES: Dict[str, int] = {"half_even": 0, "half_away": 1}


def rounding_function(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of a rounding's name.

    Raises:
        NumericsError: there is none of that name.
    """
    if name not in ROUNDINGS:
        close = nearest(name, ROUNDINGS)
        hint = f"did you mean '{close}'?" if close else f"it is one of {', '.join(ROUNDINGS)}."
        raise NumericsError(f"There is no rounding '{name}'; {hint}")
    return ROUNDINGS[name]
