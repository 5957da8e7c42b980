"""Which PIR values are known at translation time."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

import numpy as np

from slimkit.ir.params_file import NUMPY_OF_PROTO
from slimkit.ir.translate.source import PirOp, vartype

__all__ = ["Constants", "numpy_dtype"]


def numpy_dtype(dtype: Any) -> np.dtype:
    """Returns the numpy dtype of a Paddle dtype."""
    return NUMPY_OF_PROTO[int(vartype(dtype))]


def _full(op: PirOp) -> np.ndarray:
    return np.full(op.attrs["shape"], op.attrs["value"], numpy_dtype(op.attrs["dtype"]))


def _full_int_array(op: PirOp) -> np.ndarray:
    return np.asarray(op.attrs["value"], numpy_dtype(op.attrs["dtype"]))


def _assign_value(op: PirOp) -> np.ndarray:
    return np.asarray(op.attrs["values"], numpy_dtype(op.attrs["dtype"])).reshape(op.attrs["shape"])


_SOURCES: Dict[str, Callable[[PirOp], np.ndarray]] = {
    "full": _full,
    "full_int_array": _full_int_array,
    "assign_value": _assign_value,
    "assign_value_": _assign_value,
}


class Constants:
    """Remembers constant values, and lists of values stacked into one tensor."""

    LARGEST = 4096

    def __init__(self) -> None:
        self._known: Dict[str, np.ndarray] = {}
        self._lists: Dict[str, List[Any]] = {}
        self._stacks: Dict[str, List[Any]] = {}

    def note(self, op: PirOp) -> None:
        """Looks at an op as it passes."""
        source = _SOURCES.get(op.name)
        if source is not None and op.results:
            if int(np.prod(op.results[0].shape)) <= self.LARGEST:
                self._known[op.results[0].id] = source(op)
        elif op.name == "combine":
            self._lists[op.results[0].id] = list(op.operands)
        elif op.name in ("stack", "concat") and op.operands[0].id in self._lists:
            items = self._lists[op.operands[0].id]
            if all(int(np.prod(item.shape)) == 1 and len(item.shape) <= 1 for item in items):
                self._stacks[op.results[0].id] = items

    def forget(self, value: Any) -> None:
        """Says that an in-place op changes a value."""
        for table in (self._known, self._lists, self._stacks):
            table.pop(value.id, None)

    def value(self, value: Any) -> Optional[np.ndarray]:
        """Returns the constant a value is, or None."""
        found = self._known.get(value.id)
        if found is not None:
            return found
        items = self.pieces(value)
        if items is None:
            items = self._lists.get(value.id)
        if items is None:
            return None
        parts = [self.value(item) for item in items]
        if any(part is None for part in parts):
            return None
        return np.concatenate([np.asarray(part).reshape(-1) for part in parts]) if parts else np.empty([0], np.int64)

    def pieces(self, value: Any) -> Optional[List[Any]]:
        """Returns the scalar values a tensor was stacked from, or None."""
        found = self._stacks.get(value.id)
        return found if found is not None else self._lists.get(value.id)
