"""Gathering, scattering, writing into tensors, embedding."""

from __future__ import annotations

from typing import Any

from slimkit.ir.translate.records import OpRecord
from slimkit.ir.translate.rows import Fold, Row
from slimkit.ir.translate.source import PirOp, vartype

__all__ = ["ROWS"]


def _written_dtype(op: PirOp, record: OpRecord, builder: Any) -> None:
    record.attrs["dtype"] = vartype(op.operands[0].dtype)


_BOUNDS = {
    "starts": Fold("starts", tensors="StartsTensorList"),
    "ends": Fold("ends", tensors="EndsTensorList"),
    "steps": Fold("steps", tensors="StepsTensorList"),
}
_INDEXED = {"x": "X", "index": "Index"}
_OUT = {"out": "Out"}

ROWS = (
    Row(
        "gather", "gather", inputs=_INDEXED, outputs=_OUT,
        folds={"axis": Fold("axis", tensor="Axis", scalar=True)},
    ),
    Row("gather_nd", "gather_nd", inputs=_INDEXED, outputs=_OUT),
    Row("index_select", "index_select", inputs=_INDEXED, outputs=_OUT, attrs={"axis": "dim"}),
    Row("index_sample", "index_sample", inputs=_INDEXED, outputs=_OUT),
    Row(
        "take_along_axis", "take_along_axis", inputs={"arr": "Input", "indices": "Index"}, outputs={"out": "Result"},
        attrs={"axis": "Axis"},
    ),
    Row(
        "put_along_axis", "put_along_axis", inputs={"arr": "Input", "indices": "Index", "values": "Value"},
        outputs={"out": "Result"},
        attrs={"axis": "Axis", "reduce": "Reduce", "include_self": "Include_self"},
    ),
    Row("scatter", "scatter", inputs={"x": "X", "index": "Ids", "updates": "Updates"}, outputs=_OUT),
    Row(
        "scatter_nd_add", "scatter_nd_add", inputs={"x": "X", "index": "Index", "updates": "Updates"}, outputs=_OUT,
    ),
    Row("index_add", "index_add", inputs={"x": "X", "index": "Index", "add_value": "AddValue"}, outputs=_OUT),
    Row(
        "index_put", "index_put", inputs={"x": "x", "indices": "indices", "value": "value"}, outputs={"out": "out"},
    ),
    Row("multiplex", "multiplex", inputs={"inputs": "X", "index": "Ids"}, outputs=_OUT),
    Row("masked_select", "masked_select", inputs={"x": "X", "mask": "Mask"}, outputs={"out": "Y"}),
    Row("nonzero", "where_index", inputs={"condition": "Condition"}, outputs=_OUT),
    Row("set_value", "set_value", inputs={"x": "Input"}, outputs=_OUT, folds=_BOUNDS, adapt=_written_dtype),
    Row(
        "set_value_with_tensor", "set_value", inputs={"x": "Input", "values": "ValueTensor"}, outputs=_OUT,
        folds=_BOUNDS, adapt=_written_dtype,
    ),
    Row(
        "embedding", "lookup_table_v2", inputs={"x": "Ids", "weight": "W"}, outputs=_OUT,
        attrs={"sparse": "is_sparse"},
    ),
    Row(
        "one_hot", "one_hot_v2", inputs={"x": "X"}, outputs=_OUT,
        folds={"num_classes": Fold("depth", tensor="depth_tensor", scalar=True)},
    ),
)  # fmt: skip
