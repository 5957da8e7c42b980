"""Quantize-and-dequantize ops, which quantization-aware layers emit while they are traced."""

from __future__ import annotations

from slimkit.ir.translate.rows import Row

__all__ = ["ROWS"]

ROWS = (
    Row(
        "fake_quantize_dequantize_moving_average_abs_max",
        "fake_quantize_dequantize_moving_average_abs_max",
        inputs={"x": "X", "in_scale": "InScale", "in_accum": "InAccum", "in_state": "InState"},
        outputs={"out": "Out", "out_scale": "OutScale", "out_state": "OutState", "out_accum": "OutAccum"},
        in_place={"out_scale": "in_scale", "out_state": "in_state", "out_accum": "in_accum"},
    ),
    Row(
        "fake_quantize_dequantize_abs_max", "fake_quantize_dequantize_abs_max",
        inputs={"x": "X"}, outputs={"out": "Out", "out_scale": "OutScale"},
    ),
    Row(
        "fake_channel_wise_quantize_dequantize_abs_max", "fake_channel_wise_quantize_dequantize_abs_max",
        inputs={"x": "X"}, outputs={"out": "Out", "out_scale": "OutScale"},
    ),
)  # fmt: skip
