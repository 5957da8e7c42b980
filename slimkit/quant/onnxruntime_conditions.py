"""When ONNX Runtime on CPU computes an op in integers: conditions on the float graph. Measured on 1.31, AVX512-VNNI."""

from __future__ import annotations

from typing import Optional

from slimkit.ir.graph import GraphOp, GraphVar

__all__ = ["depthwise_among_floats", "no_integer_kernel"]

#: Ops that ONNX Runtime computes in one with the convolution before them, or on its integers.
FUSED = ("relu", "relu6", "clip", "elementwise_add", "batch_norm")
CONVOLUTIONS = ("conv2d", "depthwise_conv2d")


def no_integer_kernel(op: GraphOp) -> Optional[str]:
    """Transposed convolutions: there is no QLinearConvTranspose."""
    return "ONNX Runtime has no integer kernel for transposed convolutions" if op.type == "conv2d_transpose" else None


def depthwise_among_floats(op: GraphOp) -> Optional[str]:
    """Depthwise convolutions next to a float op such as hard_swish.

    Their integer kernel is hardly faster than the float one, and the Q and DQ that it then needs of its own cost more
    than it gains: PP-OCR's cls takes 1.6x of float with them and 1.1x without. Between convolutions (MobileNetV1 and
    V2) the tensors are integers anyway, and it pays.
    """
    if op.type != "depthwise_conv2d":
        return None
    source = op.input_var("Input")
    if source is not None and _from_integers(source) and _to_integers(op.outputs[0]):
        return None
    return "a depthwise convolution next to a float activation is faster in float"


def _from_integers(var: GraphVar) -> bool:
    """Whether a tensor comes out of a convolution through ops that are fused with it."""
    while var.producer is not None and var.producer.type in FUSED:
        inputs = [v for v in var.producer.inputs if not v.persistable]
        if len(inputs) != 1:
            return True  # a residual sum, which is computed on integers
        var = inputs[0]
    return var.producer is not None and var.producer.type in (*CONVOLUTIONS, "pool2d")


def _to_integers(var: GraphVar) -> bool:
    """Whether a convolution reads the tensor, behind ops that are fused with the one before."""
    while len(var.consumers) == 1 and var.consumers[0].type in FUSED:
        var = var.consumers[0].outputs[0]
    return any(op.type in CONVOLUTIONS for op in var.consumers)
