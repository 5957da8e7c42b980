"""When ONNX Runtime on CPU computes an op in integers: conditions on the float graph. Measured on 1.31, AVX512-VNNI."""

from __future__ import annotations

from typing import Optional

from slimkit.ir.graph import GraphOp, GraphVar

__all__ = ["depthwise_among_floats", "first_before_floats", "no_integer_kernel"]

#: Ops that ONNX Runtime computes in one with the convolution before them, or on its integers.
FUSED = ("relu", "relu6", "clip", "elementwise_add", "batch_norm")
FEW_CHANNELS = 4
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


def first_before_floats(op: GraphOp) -> Optional[str]:
    """The convolution of the image, where what follows is float.

    It has 27 products a result, so integers gain little, and a grid on its result, which nothing else needs, loses
    much: its channels differ most in range. On PP-OCRv4's det that one grid costs more than all others together.
    """
    weight = op.input_var("Filter") if op.type == "conv2d" else None
    if weight is None or weight.shape[1] > FEW_CHANNELS or max(weight.shape[2:]) == 1 or _to_integers(op.outputs[0]):
        return None
    return "the convolution of the image before a float op is as fast in float, and its result is hard to quantize"


def _from_integers(var: GraphVar) -> bool:
    """Whether a tensor comes out of a convolution through ops that are fused with it."""
    while var.producer is not None and var.producer.type in FUSED:
        inputs = [v for v in var.producer.inputs if not v.persistable]
        if len(inputs) != 1:
            return len(inputs) > 1  # a residual sum, which is computed on integers
        var = inputs[0]
    return var.producer is not None and var.producer.type in (*CONVOLUTIONS, "pool2d")


def _to_integers(var: GraphVar) -> bool:
    """Whether an integer op reads the tensor, behind ops that are fused with the one before, or a pool."""
    while len(var.consumers) == 1 and var.consumers[0].type in (*FUSED, "pool2d") and not _residual(var.consumers[0]):
        var = var.consumers[0].outputs[0]
    return any(
        op.type == "conv2d" or _residual(op) or (op.type == "depthwise_conv2d" and depthwise_among_floats(op) is None)
        for op in var.consumers
    )


def _residual(op: GraphOp) -> bool:
    """A sum of two activations, which is computed on integers."""
    return op.type == "elementwise_add" and sum(not v.persistable for v in op.inputs) > 1
