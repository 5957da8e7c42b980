"""Reshaping, joining and splitting."""

from __future__ import annotations

from typing import Any

from slimkit.ir.translate.records import OpRecord
from slimkit.ir.translate.rows import Fold, Row, unary
from slimkit.ir.translate.source import PirOp, vartype

__all__ = ["ROWS"]


def _note_reshape(op: PirOp, record: OpRecord, builder: Any) -> None:
    if "ShapeTensor" not in record.inputs and "Shape" not in record.inputs:
        builder.reshapes[op.results[0].id] = (op.operands[0], list(record.attrs["shape"]))


def _cast(op: PirOp, record: OpRecord, builder: Any) -> None:
    record.attrs["in_dtype"] = vartype(op.operands[0].dtype)


def _shape64(op: PirOp, builder: Any) -> None:
    """The legacy op gives int32; what takes a shape takes that, everything else an int64 copy."""
    source, value = op.operands[0], op.results[0]
    prefix = builder.begin("shape")
    narrow = builder.variable(builder.fresh(f"{prefix}.int32"), builder.int32, [len(source.shape)], stop_gradient=True)
    origin = f"{op.full_name} from {op.where()}"
    builder.emit(OpRecord("shape", {"Input": [builder.name_of(source)]}, {"Out": [narrow]}, origin=origin))
    (wide,) = builder.result(value, prefix, 0)
    builder.emit_cast(narrow, builder.int32, wide, value.dtype, origin)
    builder.int32_twins[value.id] = narrow


def _slice_of_shape(op: PirOp, record: OpRecord, builder: Any) -> None:
    """One side of a shape is taken from the int32 shape too, in the form a list of tensors wants: shape [1]."""
    narrow = builder.int32_twins.get(op.operands[0].id)
    starts, ends = record.attrs.get("starts"), record.attrs.get("ends")
    if narrow is None or starts is None or ends is None or len(starts) != 1 or ends[0] - starts[0] != 1:
        return
    twin = builder.variable(builder.fresh(f"{narrow}.{starts[0]}"), builder.int32, [1], stop_gradient=True)
    attrs = {"axes": [0], "starts": list(starts), "ends": list(ends), "infer_flags": [1], "decrease_axis": []}
    builder.emit(OpRecord("slice", {"Input": [narrow]}, {"Out": [twin]}, attrs, origin=record.origin))
    builder.int32_twins[op.results[0].id] = twin


def _known_bounds(op: PirOp, record: OpRecord, builder: Any) -> None:
    """One flag per axis: 1 if its bounds are attributes, -1 if tensors give them."""
    record.attrs["infer_flags"] = [-1 if record.inputs.keys() - {"Input"} else 1] * len(record.attrs["axes"])
    record.attrs["decrease_axis"] = []


_AXIS = Fold("axis", tensor="AxisTensor", scalar=True)
_STARTS = Fold("starts", tensor="StartsTensor", tensors="StartsTensorList")
_ENDS = Fold("ends", tensor="EndsTensor", tensors="EndsTensorList")
_STRIDES = Fold("strides", tensor="StridesTensor", tensors="StridesTensorList")

ROWS = (
    unary(
        "reshape", "reshape2", folds={"shape": Fold("shape", tensor="Shape", tensors="ShapeTensor")},
        xshape="XShape", adapt=_note_reshape,
    ),
    unary("flatten", "flatten_contiguous_range", xshape="XShape"),
    unary("squeeze", "squeeze2", folds={"axis": Fold("axes")}, xshape="XShape"),
    unary(
        "unsqueeze", "unsqueeze2", folds={"axis": Fold("axes", tensor="AxesTensor", tensors="AxesTensorList")},
        xshape="XShape",
    ),
    unary("transpose", "transpose2", attrs={"perm": "axis"}, xshape="XShape"),
    unary("cast", attrs={"dtype": "out_dtype"}, adapt=_cast),
    unary("concat", folds={"axis": _AXIS}),
    Row("stack", "stack", inputs={"x": "X"}, outputs={"out": "Y"}),
    unary("split", folds={"sections": Fold("sections", tensors="SectionsTensorList"), "axis": _AXIS}),
    unary("split_with_num", "split", folds={"axis": _AXIS}),
    Row("unbind", "unbind", inputs={"input": "X"}, outputs={"out": "Out"}),
    Row("unstack", "unstack", inputs={"x": "X"}, outputs={"out": "Y"}),
    Row("meshgrid", "meshgrid", inputs={"inputs": "X"}, outputs={"out": "Out"}),
    unary("tile", folds={"repeat_times": Fold("repeat_times", tensor="RepeatTimes", tensors="repeat_times_tensor")}),
    unary("expand", "expand_v2", folds={"shape": Fold("shape", tensor="Shape", tensors="expand_shapes_tensor")}),
    Row("broadcast_tensors", "broadcast_tensors", inputs={"input": "X"}, outputs={"out": "Out"}),
    unary("repeat_interleave", attrs={"repeats": "Repeats", "axis": "dim"}),
    unary("diag", "diag_v2"),
    Row("diag_embed", "diag_embed", inputs={"input": "Input"}, outputs={"out": "Out"}),
    Row("diagonal", "diagonal", inputs={"x": "Input"}, outputs={"out": "Out"}),
    Row("expand_as", "expand_as_v2", inputs={"x": "X", "y": "Y"}, outputs={"out": "Out"}),
    unary("flip"),
    unary("roll", folds={"shifts": Fold("shifts", tensor="ShiftsTensor")}),
    unary("tril", "tril_triu", constants={"lower": True}),
    unary("triu", "tril_triu", constants={"lower": False}),
    Row("shape", "shape", inputs={"input": "Input"}, outputs={"out": "Out"}),
    Row("shape64", build=_shape64),
    Row("numel", "size", inputs={"x": "Input"}, outputs={"size": "Out"}),
    Row(
        "slice", "slice", inputs={"input": "Input"}, outputs={"out": "Out"}, folds={"starts": _STARTS, "ends": _ENDS},
        adapt=_slice_of_shape,
    ),
    Row(
        "strided_slice", "strided_slice", inputs={"x": "Input"}, outputs={"out": "Out"},
        folds={"starts": _STARTS, "ends": _ENDS, "strides": _STRIDES}, adapt=_known_bounds,
    ),
    Row(
        "crop", "crop_tensor", inputs={"x": "X"}, outputs={"out": "Out"},
        folds={
            "shape": Fold("shape", tensor="Shape", tensors="ShapeTensor"),
            "offsets": Fold("offsets", tensor="Offsets", tensors="OffsetsTensor"),
        },
    ),
)  # fmt: skip
