"""How a case of the translator's table is written down.

Cases are in ``cases_*.py``, one small function per row; a row without one fails ``test_translate.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

RANDOM = np.random.RandomState(7)


@dataclass
class Case:
    """``make()`` gives the function or layer to trace; ``inputs`` are its arguments.

    ``shapes`` replaces the input specs' shapes (for dynamic dimensions); ``values`` off compares shapes and dtypes
    only (random ops); ``grad`` compares the gradient of the first input too; ``expect`` computes the result where
    the op cannot be called in dynamic mode.
    """

    make: Callable[[], Any]
    inputs: Sequence[np.ndarray]
    shapes: Optional[Sequence[Sequence[int]]] = None
    values: bool = True
    grad: bool = False
    train: bool = False
    expect: Optional[Callable] = None


def fl(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return RANDOM.uniform(low, high, shape).astype("float32")


def ints(*shape: int, high: int = 5, dtype: str = "int64") -> np.ndarray:
    return RANDOM.randint(0, high, shape).astype(dtype)


CASES: Dict[str, List[Case]] = {}


def case(name: str, function: Callable, *inputs: np.ndarray, **more: Any) -> None:
    full = name if "." in name else f"pd_op.{name}"
    CASES.setdefault(full, []).append(Case(lambda: function, inputs, **more))


def layer(name: str, make: Callable[[], Any], *inputs: np.ndarray, **more: Any) -> None:
    full = name if "." in name else f"pd_op.{name}"
    CASES.setdefault(full, []).append(Case(make, inputs, **more))
