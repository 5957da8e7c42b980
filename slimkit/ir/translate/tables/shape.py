"""Reshaping, joining, splitting, indexing."""

from __future__ import annotations

from slimkit.ir.translate.rows import Fold, Row, unary

__all__ = ["ROWS"]

ROWS = (
    unary(
        "reshape", "reshape2", folds={"shape": Fold("shape", tensor="Shape", tensors="ShapeTensor")}, xshape="XShape"
    ),
    unary("flatten", "flatten_contiguous_range", xshape="XShape"),
    unary("squeeze", "squeeze2", folds={"axis": Fold("axes")}, xshape="XShape"),
    unary("transpose", "transpose2", attrs={"perm": "axis"}, xshape="XShape"),
    Row(
        "concat", "concat", inputs={"x": "X"}, outputs={"out": "Out"},
        folds={"axis": Fold("axis", tensor="AxisTensor", scalar=True)},
    ),
)  # fmt: skip
