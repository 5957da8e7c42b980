"""PIR operands that are attributes of the legacy op, and tensors in the form runtimes want for shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List

import numpy as np
from paddle.base import core

from slimkit.errors import TranslationError
from slimkit.ir.translate.records import OpRecord
from slimkit.ir.translate.rows import Fold
from slimkit.ir.translate.source import PirOp, element_types, vartype

if TYPE_CHECKING:
    from slimkit.ir.translate.builder import Builder

__all__ = ["filled_with", "fold", "int32_inputs", "one_element"]

_Type = core.VarDesc.VarType
_INTEGERS = (_Type.INT32, _Type.INT64, _Type.INT16, _Type.INT8, _Type.UINT8)


def fold(builder: Builder, op: PirOp, record: OpRecord, operand: str, rule: Fold) -> None:
    """Writes an operand as an attribute if it is constant, else as a tensor input."""
    value = op.inputs[operand]
    known = builder.constants.value(value)
    if known is not None:
        flat = np.asarray(known).reshape(-1).tolist()
        record.attrs[rule.attr] = flat[0] if rule.scalar else [_within_int32(number) for number in flat]
        return
    pieces = builder.constants.pieces(value)
    if pieces is not None and rule.tensors is not None:
        record.inputs[rule.tensors] = [one_element(builder, piece, record) for piece in pieces]
        numbers = [builder.constants.value(piece) for piece in pieces]
        record.attrs[rule.attr] = [rule.unknown if n is None else int(np.asarray(n).reshape(-1)[0]) for n in numbers]
        return
    if rule.tensor is None:
        raise TranslationError(
            f"operand {operand} of {op.full_name} is computed at run time, and {record.type} takes only a constant."
        )
    record.inputs[rule.tensor] = int32_inputs(builder, value, record)
    if rule.default is not None:
        record.attrs[rule.attr] = rule.default


def int32_inputs(builder: Builder, value: Any, record: OpRecord) -> List[str]:
    """Returns the variables of a value; int64 ones as int32, which every runtime takes for shapes."""
    twin = builder.int32_twins.get(value.id)
    if twin is not None:
        return [twin]
    elements = element_types(value)
    if elements is None:
        elements = [(value.dtype, list(value.shape))]
    names = []
    for name, (dtype, shape) in zip(builder.names_of(value), elements):
        if vartype(dtype) == _Type.INT64:
            target = builder.fresh(f"{name}.int32")
            builder.variable(target, _Type.INT32, shape, stop_gradient=True)
            builder.emit_cast(name, dtype, target, _Type.INT32, record.origin)
            name = target
        names.append(name)
    return names


def one_element(builder: Builder, value: Any, record: OpRecord) -> str:
    """Returns a variable of shape [1] for a scalar value, as lists of tensors want."""
    known = builder.constants.value(value)
    if known is not None:
        return _constant(builder, int(known.reshape(-1)[0]), record.origin)
    twin = builder.int32_twins.get(value.id)
    if twin is not None and list(builder.find(twin).shape) == [1]:
        return twin
    (name,) = int32_inputs(builder, value, record)
    if list(value.shape) == [1]:
        return name
    dtype = builder.find(name).dtype
    prefix = builder.begin("reshape2")
    out = builder.variable(builder.fresh(f"{prefix}.tmp_0"), dtype, [1], stop_gradient=True)
    xshape = builder.variable(builder.fresh(f"{prefix}.xshape"), dtype, [0, *value.shape])
    outputs = {"Out": [out], "XShape": [xshape]}
    builder.emit(OpRecord("reshape2", {"X": [name]}, outputs, {"shape": [1]}, origin=record.origin))
    return out


def _constant(builder: Builder, number: int, origin: str) -> str:
    """Returns an int32 variable of shape [1] that holds ``number``."""
    name = builder.fresh(f"{builder.begin('fill_constant')}.tmp_0")
    builder.variable(name, _Type.INT32, [1], stop_gradient=True)
    attrs = {"shape": [1], "dtype": _Type.INT32, "place_type": -1, **filled_with(number, _Type.INT32)}
    builder.emit(OpRecord("fill_constant", {}, {"Out": [name]}, attrs, origin=origin))
    return name


def filled_with(number: Any, dtype: Any) -> Dict[str, Any]:
    """Returns the attributes of ``fill_constant`` for a number.

    As text too: the attribute ``value`` is a float32, too narrow for an int64.
    """
    exact = dtype in _INTEGERS and np.isfinite(float(number))
    return {"value": float(number), "str_value": str(int(number)) if exact else repr(float(number))}


def _within_int32(number: Any) -> Any:
    """Legacy shapes and bounds are int32; PIR's "to the end" is the largest int64."""
    return max(-(2**31), min(2**31 - 1, number)) if isinstance(number, int) else number
