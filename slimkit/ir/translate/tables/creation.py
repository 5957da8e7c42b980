"""Making tensors: constants, ranges, random numbers, copies."""

from __future__ import annotations

from typing import Any

from slimkit.ir.translate.operands import filled_with
from slimkit.ir.translate.records import OpRecord
from slimkit.ir.translate.rows import Fold, Row, unary
from slimkit.ir.translate.source import PirOp, vartype

__all__ = ["ROWS"]


def _constant(op: PirOp, builder: Any) -> None:
    if op.name == "full":
        _full(op, builder)
        return
    value = op.results[0]
    known = builder.constants.value(value)
    (name,) = builder.result(value, builder.begin("assign_value"), 0)
    numbers = known.reshape(-1).tolist() if known is not None else list(op.attrs["values"])
    shape = [int(side) for side in op.attrs.get("shape", value.shape)]
    attrs = {"shape": shape, "dtype": vartype(value.dtype), "values": numbers}
    builder.emit(OpRecord("assign_value", {}, {"Out": [name]}, attrs, origin=f"{op.full_name} from {op.where()}"))


def _full(op: PirOp, builder: Any) -> None:
    value = op.results[0]
    (name,) = builder.result(value, builder.begin("fill_constant"), 0)
    attrs = {
        "shape": [int(side) for side in op.attrs["shape"]],
        "dtype": vartype(value.dtype),
        "place_type": -1,
        **filled_with(op.attrs["value"], vartype(value.dtype)),
    }
    builder.emit(OpRecord("fill_constant", {}, {"Out": [name]}, attrs, origin=f"{op.full_name} from {op.where()}"))


def _known_filling(op: PirOp, record: OpRecord, builder: Any) -> None:
    """A constant value is an attribute: Paddle-Lite checks the size of a value tensor before it has one."""
    known = builder.constants.value(op.inputs["value"])
    if known is not None:
        del record.inputs["ValueTensor"]
        record.attrs.update(filled_with(known.reshape(-1)[0].item(), vartype(op.results[0].dtype)))


def _range_inputs(op: PirOp, record: OpRecord, builder: Any) -> None:
    """The legacy op takes its dtype from its inputs."""
    dtype = vartype(op.results[0].dtype)
    for operand, slot in (("start", "Start"), ("end", "End"), ("step", "Step")):
        value = op.inputs[operand]
        if vartype(value.dtype) != dtype:
            narrow = builder.temporary(value, builder.begin("cast"), dtype=dtype)
            builder.emit_cast(record.inputs[slot][0], value.dtype, narrow, dtype, record.origin)
            record.inputs[slot] = [narrow]


_SHAPE = Fold("shape", tensor="ShapeTensor", tensors="ShapeTensorList")
_OUT = {"out": "Out"}

ROWS = (
    Row("full", build=_constant),
    Row("full_int_array", build=_constant),
    Row("assign_value", build=_constant),
    Row("assign_out_", "assign", inputs={"x": "X"}, outputs=_OUT, in_place={"out": "output"}, ignored=("output",)),
    Row(
        "full_with_tensor", "fill_constant", inputs={"value": "ValueTensor"}, outputs=_OUT, folds={"shape": _SHAPE},
        adapt=_known_filling,
    ),
    unary("full_like", "fill_any_like", folds={"value": Fold("value", scalar=True)}),
    Row(
        "full_batch_size_like", "fill_constant_batch_size_like", inputs={"input": "Input"}, outputs=_OUT,
    ),
    Row("empty", "empty", outputs=_OUT, folds={"shape": _SHAPE}),
    Row(
        "arange", "range", inputs={"start": "Start", "end": "End", "step": "Step"}, outputs=_OUT,
        dropped=("dtype",), adapt=_range_inputs,
    ),
    Row("linspace", "linspace", inputs={"start": "Start", "stop": "Stop", "number": "Num"}, outputs=_OUT),
    Row(
        "eye", "eye", outputs=_OUT,
        folds={"num_rows": Fold("num_rows", scalar=True), "num_columns": Fold("num_columns", scalar=True)},
    ),
    unary("assign"),
    unary("share_data", "assign"),
    unary("increment", attrs={"value": "step"}),
    Row("gaussian", "gaussian_random", outputs=_OUT, folds={"shape": _SHAPE}),
    Row(
        "uniform", "uniform_random", outputs=_OUT,
        folds={"shape": _SHAPE, "min": Fold("min", scalar=True), "max": Fold("max", scalar=True)},
    ),
    Row("randint", "randint", outputs=_OUT, folds={"shape": _SHAPE}),
    unary("bernoulli"),
)  # fmt: skip
