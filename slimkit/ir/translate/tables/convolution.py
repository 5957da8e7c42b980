"""Convolutions, pooling, resampling, padding and other image geometry."""

from __future__ import annotations

from typing import Any

from slimkit.ir.translate.operands import int32_inputs
from slimkit.ir.translate.records import OpRecord
from slimkit.ir.translate.rows import Fold, Row, unary
from slimkit.ir.translate.source import PirOp

__all__ = ["ROWS"]


def _conv(pir: str) -> Row:
    return Row(pir, pir, inputs={"input": "Input", "filter": "Filter"}, outputs={"out": "Output"})


def _conv_transpose(pir: str) -> Row:
    return Row(
        pir, pir, inputs={"x": "Input", "filter": "Filter", "bias": "Bias"}, outputs={"out": "Output"},
        folds={"output_size": Fold("output_size")},
    )  # fmt: skip


def _resample(kind: str) -> Row:
    return Row(
        f"{kind}_interp", f"{kind}_interp_v2",
        inputs={"x": "X", "out_size": "OutSize", "size_tensor": "SizeTensor", "scale_tensor": "Scale"},
        outputs={"output": "Out"}, attrs={"data_format": "data_layout"}, adapt=_known_size,
    )  # fmt: skip


def _known_size(op: PirOp, record: OpRecord, builder: Any) -> None:
    """A size given by constants is an attribute; Paddle-Lite takes no constant tensor for it."""
    for operand, slot in (("out_size", "OutSize"), ("size_tensor", "SizeTensor")):
        value = op.inputs.get(operand)
        known = None if value is None else builder.constants.value(value)
        if known is not None:
            sides = [int(side) for side in known.reshape(-1)]
            for name, side in zip(("out_d", "out_h", "out_w")[-len(sides) :], sides):
                record.attrs[name] = side
            record.inputs.pop(slot, None)
        elif value is not None and slot in record.inputs:
            record.inputs[slot] = int32_inputs(builder, value, record)


ROWS = (
    _conv("conv2d"),
    _conv("conv3d"),
    _conv("depthwise_conv2d"),
    _conv_transpose("conv2d_transpose"),
    _conv_transpose("depthwise_conv2d_transpose"),
    Row("conv3d_transpose", "conv3d_transpose", inputs={"x": "Input", "filter": "Filter"}, outputs={"out": "Output"}),
    Row(
        "deformable_conv", "deformable_conv",
        inputs={"x": "Input", "offset": "Offset", "filter": "Filter", "mask": "Mask"}, outputs={"out": "Output"},
    ),
    unary("pool2d", folds={"kernel_size": Fold("ksize")}),
    unary("pool3d", attrs={"kernel_size": "ksize"}),
    Row(
        "max_pool2d_with_index", "max_pool2d_with_index", inputs={"x": "X"}, outputs={"out": "Out", "mask": "Mask"},
        attrs={"kernel_size": "ksize"},
    ),
    _resample("nearest"),
    _resample("bilinear"),
    _resample("bicubic"),
    _resample("linear"),
    _resample("trilinear"),
    unary("pad", folds={"pad_value": Fold("pad_value", scalar=True)}),
    unary("pad3d", attrs={"pad_value": "value"}, folds={"paddings": Fold("paddings", tensor="Paddings")}),
    unary("pixel_shuffle"),
    unary("pixel_unshuffle"),
    unary("channel_shuffle"),
    unary("shuffle_channel"),
    unary("temporal_shift"),
    Row("unfold", "unfold", inputs={"x": "X"}, outputs={"out": "Y"}),
    Row("fold", "fold", inputs={"x": "X"}, outputs={"out": "Y"}),
    Row(
        "affine_grid", "affine_grid", inputs={"input": "Theta"}, outputs={"output": "Output"},
        folds={"output_shape": Fold("output_shape", tensor="OutputShape")},
    ),
    Row("grid_sample", "grid_sampler", inputs={"x": "X", "grid": "Grid"}, outputs={"out": "Output"}),
)  # fmt: skip
