"""What holds a program together: parameters, feeds, fetches, lists of tensors."""

from __future__ import annotations

from typing import Any

from slimkit.errors import TranslationError
from slimkit.ir.translate.records import OpRecord, ParamRecord
from slimkit.ir.translate.rows import Row
from slimkit.ir.translate.source import PirOp, vartype

__all__ = ["ROWS"]


def _parameter(op: PirOp, builder: Any) -> None:
    value, name = op.results[0], op.attrs["parameter_name"]
    trainable = _flag(op.attrs.get("trainable"), not value.stop_gradient)
    builder.params[name] = ParamRecord(name, vartype(value.dtype), list(value.shape), trainable)
    builder.bind(value, name)


def _flag(attribute: Any, default: bool) -> bool:
    if attribute is None:
        return default
    return bool(attribute[0] if isinstance(attribute, (list, tuple)) else attribute)


def _feed(op: PirOp, builder: Any) -> None:
    value, name = op.results[0], op.attrs["name"]
    builder.variable(name, value.dtype, value.shape, stop_gradient=True, is_feed=True)
    builder.bind(value, name)
    builder.feeds.append(name)


def _fetch(op: PirOp, builder: Any) -> None:
    builder.fetches.append(builder.name_of(op.operands[0]))
    for result in op.results:
        builder.bind(result, builder.name_of(op.operands[0]))


def _combine(op: PirOp, builder: Any) -> None:
    builder.bind(op.results[0], [builder.name_of(value) for value in op.operands])


def _split(op: PirOp, builder: Any) -> None:
    for value, name in zip(op.results, builder.names_of(op.operands[0])):
        builder.bind(value, name)


def _slice(op: PirOp, builder: Any) -> None:
    builder.bind(op.results[0], builder.names_of(op.operands[0])[op.attrs["index"]])


def _set_parameter(op: PirOp, builder: Any) -> None:
    source, name = builder.name_of(op.operands[0]), op.attrs["parameter_name"]
    if source == name:
        return
    if name not in builder.params:
        raise TranslationError(f"{op.full_name} sets {name}, which is not a parameter of the program.")
    builder.emit(OpRecord("assign", {"X": [source]}, {"Out": [name]}, origin=f"{op.full_name} from {op.where()}"))


def _pass_on(op: PirOp, builder: Any) -> None:
    """A deployed program neither prints nor stops: the result is the operand."""
    for result in op.results:
        builder.bind(result, builder.names_of(op.operands[0]))


ROWS = (
    Row("builtin.parameter", build=_parameter),
    Row("builtin.set_parameter", build=_set_parameter),
    Row("data", build=_feed),
    Row("feed", build=_feed),
    Row("fetch", build=_fetch),
    Row("print", build=_pass_on),
    Row("assert", build=_pass_on),
    Row("builtin.shadow_output", build=_fetch),
    Row("builtin.shadow_feed", build=_split),
    Row("builtin.combine", build=_combine),
    Row("builtin.split", build=_split),
    Row("builtin.slice", build=_slice),
)
