"""Arithmetic and comparison of tensors, element by element, and matrix products."""

from __future__ import annotations

from slimkit.ir.translate.rows import Fold, binary, unary

__all__ = ["ROWS"]

ROWS = (
    binary("add", "elementwise_add", constants={"axis": -1}),
    binary("subtract", "elementwise_sub", constants={"axis": -1}),
    binary("multiply", "elementwise_mul", constants={"axis": -1}),
    binary("divide", "elementwise_div", constants={"axis": -1}),
    binary("matmul", "matmul_v2", attrs={"transpose_x": "trans_x", "transpose_y": "trans_y"}),
    unary("scale", folds={"scale": Fold("scale", tensor="ScaleTensor", scalar=True)}),
)
