"""What gains from integers on ONNX Runtime: small graphs, op by op."""

from __future__ import annotations

import pytest
from small_programs import Net, random

from slimkit.ir import Graph
from slimkit.quant import onnxruntime_conditions as conditions

MAX_POOL = {
    **{"pooling_type": "max", "ksize": [2, 2], "strides": [2, 2], "paddings": [0, 0], "adaptive": False},
    **{"global_pooling": False, "exclusive": True, "ceil_mode": False, "data_format": "NCHW"},
}


def _chain(*kinds: str, channels: int = 8) -> Graph:
    """x -> the ops in turn, named 0, 1, 2, ..."""
    net = Net()
    x = net.data("x", [-1, channels, 8, 8])
    for i, kind in enumerate(kinds):
        if kind == "conv2d":
            x = net.conv(x, random(i, 8, channels if i == 0 else 8, 3, 3), str(i))
        elif kind == "depthwise_conv2d":
            x = net.conv(x, random(i, 8, 1, 3, 3), str(i), kind, groups=8)
        elif kind == "bias":
            x = net.add(x, net.param(f"{i}.b", random(i, 8)), str(i), axis=1)
        else:
            x = net.op(kind, {"Out": str(i)}, MAX_POOL if kind == "pool2d" else None, X=x)
    return Graph(net.program, for_test=True)


def _op(graph: Graph, output: int):
    return next(op for op in graph.ops() if op.outputs[0].name == str(output))


@pytest.mark.parametrize(
    ("kinds", "in_float"),
    [
        (("conv2d", "bias", "relu", "depthwise_conv2d", "bias", "relu6", "conv2d"), False),
        (("conv2d", "bias", "hard_swish", "depthwise_conv2d", "bias", "relu", "conv2d"), True),
        (("conv2d", "bias", "relu", "depthwise_conv2d", "bias", "hard_swish", "conv2d"), True),
        (("conv2d", "bias", "relu", "depthwise_conv2d", "softmax"), True),
    ],
)
def test_depthwise_is_an_integer_op_between_integer_ops(kinds, in_float):
    op = _op(_chain(*kinds), kinds.index("depthwise_conv2d"))
    assert (conditions.depthwise_among_floats(op) is not None) == in_float
    assert conditions.depthwise_among_floats(_op(_chain(*kinds), 0)) is None, "no depthwise convolution"


@pytest.mark.parametrize(
    ("kinds", "channels", "in_float"),
    [
        (("conv2d", "relu", "pool2d", "conv2d"), 3, False),
        (("conv2d", "relu", "depthwise_conv2d", "relu", "conv2d"), 3, False),
        (("conv2d", "hard_swish", "conv2d"), 3, True),
        (("conv2d", "hard_swish", "conv2d"), 8, False),
        (("conv2d", "depthwise_conv2d", "hard_swish", "conv2d"), 3, True),
    ],
)
def test_first_convolution_is_float_before_floats(kinds, channels, in_float):
    op = _op(_chain(*kinds, channels=channels), 0)
    assert (conditions.first_before_floats(op) is not None) == in_float
