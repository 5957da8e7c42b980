"""A model's parameters as a mapping of numpy arrays."""

from __future__ import annotations

import weakref
import zlib  # noqa: F401  (must precede paddle)
from typing import Any, Iterator, List, Mapping, MutableMapping

import numpy as np
import paddle

from slimkit.errors import ModelError, nearest

__all__ = ["Params", "persistable_names", "set_tensor"]


def persistable_names(program: Any) -> List[str]:
    """Returns the names of a program's variables that outlive a run, in program order."""
    dense = paddle.base.core.VarDesc.VarType.DENSE_TENSOR
    return [var.name for var in program.list_vars() if var.persistable and var.type == dense]


class Params(MutableMapping):
    """``name -> np.ndarray`` over a program's persistable variables in a scope.

    Reading copies out of the scope, writing copies in. Names cannot be added or removed here.
    """

    def __init__(self, program: Any, scope: Any) -> None:
        self._program = program
        self._scope = scope

    def _names(self) -> List[str]:
        return [name for name in persistable_names(self._program) if self._tensor(name) is not None]

    def _tensor(self, name: str) -> Any:
        var = self._scope.find_var(name)
        if var is None:
            return None
        tensor = var.get_tensor()
        return tensor if tensor._is_initialized() else None

    def tensor(self, name: str) -> Any:
        """The dense tensor in the scope; None when it has no value."""
        return self._tensor(name)

    def _missing(self, name: str) -> KeyError:
        close = nearest(str(name), self._names())
        return KeyError(f"the model has no parameter {name!r}" + (f"; did you mean {close!r}?" if close else "."))

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensor(name)
        if tensor is None:
            raise self._missing(name)
        return np.array(tensor)

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        tensor = self._tensor(name)
        if tensor is None:
            raise self._missing(name)
        array = np.ascontiguousarray(value)
        if list(array.shape) != list(tensor.shape()):
            raise ModelError(
                f"parameter {name} is {tensor.shape()} and cannot be set to shape {list(array.shape)}; reshape it."
            )
        tensor.set(array, paddle.CPUPlace())

    def __delitem__(self, name: str) -> None:
        raise ModelError(f"parameter {name} cannot be removed from a program; edit the program instead.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __contains__(self, name: object) -> bool:
        block = self._program.global_block()
        return (
            isinstance(name, str)
            and block.has_var(name)
            and block.var(name).persistable
            and self._tensor(name) is not None
        )


def set_tensor(scope: Any, name: str, value: np.ndarray, place: Any) -> None:
    """Puts an array into a scope variable on a place."""
    scope.var(name).get_tensor().set(np.asarray(value, order="C"), place)  # ascontiguousarray makes [] a [1]


def new_scope(arrays: Mapping[str, np.ndarray]) -> Any:
    """Makes a scope with arrays under their names, whose memory is freed with it.

    Paddle keeps every scope in a pool until the process ends, with all that is in it; so its tensors are emptied when
    Python lets go of the scope.
    """
    scope = paddle.base.core.Scope()
    fill_scope(scope, arrays)
    return _freed_with(scope, list(arrays))


def shared_scope(model: Any) -> Any:
    """Makes a scope of one's own over a model's parameters: the same memory, until a name is given other values.

    Args:
        model: a :class:`slimkit.ir.Model`.
    """
    scope, names = paddle.base.core.Scope(), []
    for name in persistable_names(model.program):
        held = model.scope.find_var(name)
        if held is not None and held.get_tensor()._is_initialized():
            scope.var(name).get_tensor()._share_data_with(held.get_tensor())
            names.append(name)
    return _freed_with(scope, names)


def _freed_with(scope: Any, names: List[str]) -> Any:
    weakref.finalize(scope, _empty, [scope.var(name).get_tensor() for name in names])
    return scope


def _empty(tensors: List[Any]) -> None:
    for tensor in tensors:
        tensor._clear()


def fill_scope(scope: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Puts arrays into a scope under their names."""
    place = paddle.CPUPlace()
    for name, array in arrays.items():
        scope.var(name).get_tensor().set(np.ascontiguousarray(array).reshape(array.shape), place)
