"""Convolutions and pooling."""

from __future__ import annotations

from slimkit.ir.translate.rows import Fold, Row

__all__ = ["ROWS"]

_CONV = {"inputs": {"input": "Input", "filter": "Filter"}, "outputs": {"out": "Output"}}

ROWS = (
    Row("conv2d", "conv2d", **_CONV),
    Row("depthwise_conv2d", "depthwise_conv2d", **_CONV),
    Row(
        "pool2d", "pool2d", inputs={"x": "X"}, outputs={"out": "Out"}, folds={"kernel_size": Fold("ksize")},
    ),
)  # fmt: skip
