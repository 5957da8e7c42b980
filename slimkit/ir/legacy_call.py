"""One call of a Paddle function with legacy Variables -> the same ops appended to the legacy program.

Paddle 3.3 implements many functions only in C++, for tensors and for PIR values. Such a function is run on PIR values
of the Variables' shapes and dtypes in a throw-away PIR program; slimkit's translator says which legacy ops that is.
"""

from __future__ import annotations

import types
import zlib  # noqa: F401  (must precede paddle)
from contextlib import nullcontext
from typing import Any, Callable, Dict, List, Optional

import paddle
from paddle.base import core
from paddle.base.framework import Variable
from paddle.base.layer_helper import LayerHelper
from paddle.pir.core import vartype_to_datatype

from slimkit.errors import TranslationError
from slimkit.ir.translate.attributes import Attributes
from slimkit.ir.translate.builder import Builder
from slimkit.ir.translate.records import OpRecord, prune
from slimkit.ir.translate.source import has_type
from slimkit.ir.translate.tables import ROWS, TABLE_OF

__all__ = ["append_call"]

_ATTRIBUTES = Attributes()
_VarType = core.VarDesc.VarType
_TENSOR = _VarType.DENSE_TENSOR


def append_call(function: Callable[..., Any], args: Any, kwargs: Dict[str, Any]) -> Any:
    """Appends what ``function(*args, **kwargs)`` computes to the current block of the default main program.

    Ops get the places, roles and name scopes of the moment, as those of any layer.

    Args:
        function: takes and returns PIR values; it must not make control flow.
        args: its arguments; Variables anywhere in lists, tuples and dicts stand for their values.
        kwargs: the same by name; ``name`` is the prefix of the results' names, as in Paddle 2.

    Returns:
        What the function returns, with Variables for values.

    Raises:
        TranslationError: an op has no legacy form, or an argument is no dense tensor.
    """
    kwargs = dict(kwargs)
    name = kwargs.pop("name", None)
    call = _Call(function)
    result = call.run(args, kwargs)
    return call.append(result, name)


class _Call:
    """A call in a PIR program of its own."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.program = paddle.pir.Program()
        self.variables: Dict[str, Variable] = {}
        self._values: Dict[str, Any] = {}

    def run(self, args: Any, kwargs: Dict[str, Any]) -> Any:
        builtin = isinstance(self.function, types.BuiltinFunctionType)
        guard = nullcontext() if builtin else paddle.pir_utils.IrGuard()  # which Python code asks, and C++ does not
        with guard, paddle.pir.core.program_guard(self.program):
            return self.function(*_mapped(args, self._given), **_mapped(kwargs, self._given))

    def _given(self, item: Any) -> Any:
        """Stands a PIR value for a Variable, and PIR's dtype for a legacy one."""
        if isinstance(item, _VarType):
            return vartype_to_datatype[item]
        if not isinstance(item, Variable):
            return item
        if item.type != _TENSOR:
            raise TranslationError(
                f"{self.function.__name__} is given {item.name}, which is a {str(item.type).rsplit('.', 1)[-1]}; it "
                "takes dense tensors."
            )
        if item.name not in self._values:
            value = paddle._pir_ops.data(item.name, list(item.shape), vartype_to_datatype[item.dtype], core.Place())
            value.stop_gradient = item.stop_gradient
            self.variables[item.name] = item
            self._values[item.name] = value
        return self._values[item.name]

    def append(self, result: Any, name: Optional[str]) -> Any:
        """Appends the legacy ops of the program and returns the Variables of its results."""
        values: List[Any] = []
        _mapped(result, lambda item: values.append(item) if isinstance(item, paddle.pir.Value) else None)
        builder = Builder(ROWS, TABLE_OF)
        builder.reserve(list(self.variables))
        builder.fetched = {value.id for value in values}
        builder.translate_block(self.program.global_block())
        kept = [value for value in values if has_type(value)]
        prune(builder.block, {each for value in kept for each in builder.names_of(value)})
        for record in builder.block.ops:
            self._append_op(record, builder, name if record is builder.block.ops[-1] else None)

        def real(item: Any) -> Any:
            if not isinstance(item, paddle.pir.Value):
                return item
            if not has_type(item):
                return None
            found = [self.variables[each] for each in builder.names_of(item)]
            return found[0] if item.type().as_vec_type() is None else found

        return _mapped(result, real)

    def _append_op(self, record: OpRecord, builder: Builder, name: Optional[str]) -> None:
        if record.blocks:
            what = f"{self.function.__name__} makes a {record.type}"
            raise TranslationError(f"{what}; write it with paddle.static.nn.cond or while_loop.")
        helper = LayerHelper(record.type, **({"name": name} if name else {}))
        for names in record.outputs.values():
            for each in names:
                if each not in self.variables:
                    self.variables[each] = helper.create_variable_for_type_inference(builder.find(each).dtype)
        helper.append_op(
            type=record.type,
            inputs={slot: [self.variables[each] for each in names] for slot, names in record.inputs.items()},
            outputs={slot: [self.variables[each] for each in names] for slot, names in record.outputs.items()},
            attrs={key: _ATTRIBUTES.converted(record.type, key, value) for key, value in record.attrs.items()},
        )


def _mapped(item: Any, change: Callable[[Any], Any]) -> Any:
    """Changes the leaves of lists, tuples and dicts."""
    if isinstance(item, dict):
        return {key: _mapped(value, change) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        changed = [_mapped(value, change) for value in item]
        return changed if isinstance(item, list) else tuple(changed)
    return change(item)
