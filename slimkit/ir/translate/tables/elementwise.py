"""Arithmetic, comparison and logic of two tensors, and matrix products."""

from __future__ import annotations

from typing import Any

from slimkit.ir.translate.records import OpRecord
from slimkit.ir.translate.rows import Fold, Row, binary
from slimkit.ir.translate.source import PirOp

__all__ = ["ROWS"]


def _channel_operand(op: PirOp, record: OpRecord, builder: Any) -> None:
    """``x + reshape(b, [1, -1, 1, 1])`` becomes ``elementwise_add(x, b, axis=1)``.

    That is how a convolution's bias is written in legacy programs, and the form in which the runtimes' fusions
    look for it.
    """
    x, y = op.inputs["x"], op.inputs["y"]
    found = builder.reshapes.get(y.id)
    if found is None:
        return
    source, target = found
    wide = [axis for axis, side in enumerate(target) if side != 1]
    if len(source.shape) == 1 and len(target) == len(x.shape) and len(wide) == 1:
        record.inputs["Y"] = builder.names_of(source)
        record.attrs["axis"] = wide[0]


def _arithmetic(pir: str, legacy: str) -> Row:
    return binary(pir, f"elementwise_{legacy}", constants={"axis": -1}, adapt=_channel_operand)


_COMPARISONS = ("equal", "greater_equal", "greater_than", "less_equal", "less_than", "not_equal")
_SAME = (
    "bitwise_and", "bitwise_or", "bitwise_xor", "bmm", "dot", "kron", "logical_and", "logical_or", "logical_xor",
)  # fmt: skip

ROWS = (
    _arithmetic("add", "add"),
    _arithmetic("subtract", "sub"),
    _arithmetic("multiply", "mul"),
    _arithmetic("divide", "div"),
    _arithmetic("maximum", "max"),
    _arithmetic("minimum", "min"),
    _arithmetic("remainder", "mod"),
    _arithmetic("floor_divide", "floordiv"),
    _arithmetic("elementwise_pow", "pow"),
    binary("fmax", "elementwise_fmax"),
    binary("fmin", "elementwise_fmin"),
    *(binary(name, constants={"axis": -1}) for name in _COMPARISONS),
    *(binary(name) for name in _SAME),
    binary("cross", attrs={"axis": "dim"}),
    binary("matmul", "matmul_v2", attrs={"transpose_x": "trans_x", "transpose_y": "trans_y"}),
    binary("matmul_with_flatten", "mul"),
    binary("equal_all"),
    binary("solve"),
    Row(
        "isclose", "isclose", inputs={"x": "Input", "y": "Other"}, outputs={"out": "Out"},
        folds={"rtol": Fold("rtol", tensor="Rtol", scalar=True), "atol": Fold("atol", tensor="Atol", scalar=True)},
    ),
    Row("lerp", "lerp", inputs={"x": "X", "y": "Y", "weight": "Weight"}, outputs={"out": "Out"}),
    Row(
        "bilinear", "bilinear_tensor_product", inputs={"x": "X", "y": "Y", "weight": "Weight", "bias": "Bias"},
        outputs={"out": "Out"},
    ),
    Row("inverse", "inverse", inputs={"x": "Input"}, outputs={"out": "Output"}),
    Row("atan2", "atan2", inputs={"x": "X1", "y": "X2"}, outputs={"out": "Out"}),
    Row("mv", "mv", inputs={"x": "X", "vec": "Vec"}, outputs={"out": "Out"}),
    Row(
        "addmm", "addmm", inputs={"input": "Input", "x": "X", "y": "Y"}, outputs={"out": "Out"},
        attrs={"alpha": "Alpha", "beta": "Beta"},
    ),
    Row("add_n", "sum", inputs={"inputs": "X"}, outputs={"out": "Out"}),
    Row(
        "where", "where", inputs={"condition": "Condition", "x": "X", "y": "Y"}, outputs={"out": "Out"},
    ),
    Row(
        "einsum", "einsum", inputs={"x": "Operands"},
        outputs={"out": "Out", "inner_cache": "InnerCache", "xshape": "XShape"},
    ),
)  # fmt: skip
