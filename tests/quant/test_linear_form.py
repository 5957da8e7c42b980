"""Layers as matrices: a few places of the result computed from patches, against Paddle's own ops."""

import numpy as np
import pytest
from small_programs import Net, random

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph
from slimkit.quant.linear_form import linear_form

CONVS = {
    "plain": ("conv2d", (6, 3, 3, 3), {}),
    "stride": ("conv2d", (6, 3, 3, 3), {"strides": [2, 1]}),
    "dilated": ("conv2d", (4, 3, 3, 3), {"dilations": [2, 1], "paddings": [2, 0]}),
    "four paddings": ("conv2d", (4, 3, 2, 3), {"paddings": [0, 1, 2, 1]}),
    "same": ("conv2d", (4, 3, 3, 2), {"padding_algorithm": "SAME", "strides": [2, 3]}),
    "valid": ("conv2d", (4, 3, 3, 3), {"padding_algorithm": "VALID"}),
    "grouped": ("conv2d", (6, 2, 3, 3), {"groups": 2}),
    "depthwise": ("depthwise_conv2d", (4, 1, 5, 5), {"groups": 4, "paddings": [2, 2], "strides": [2, 2]}),
    "multiplier": ("depthwise_conv2d", (8, 1, 3, 3), {"groups": 4}),
    "pointwise": ("conv2d", (5, 3, 1, 1), {"paddings": [0, 0]}),
    "channels last": ("conv2d", (5, 3, 3, 3), {"data_format": "NHWC", "strides": [2, 1]}),
    "transpose": ("conv2d_transpose", (3, 5, 3, 3), {"strides": [2, 2], "output_size": [], "output_padding": []}),
    "transpose, uneven": (
        "conv2d_transpose",
        (3, 5, 2, 4),
        {"strides": [2, 1], "dilations": [1, 2], "paddings": [0, 2]},
    ),
    "transpose, grouped": ("conv2d_transpose", (4, 3, 3, 3), {"groups": 2, "strides": [3, 2]}),
}
MATRICES = {
    "mul": ("mul", (12, 5), {"x_num_col_dims": 1, "y_num_col_dims": 1}, (3, 4, 3)),
    "mul, two rows": ("mul", (3, 5), {"x_num_col_dims": 2, "y_num_col_dims": 1}, (3, 4, 3)),
    "matmul_v2": ("matmul_v2", (6, 5), {"trans_x": False, "trans_y": False}, (3, 4, 6)),
    "matmul_v2, transposed": ("matmul_v2", (5, 6), {"trans_x": False, "trans_y": True}, (2, 6)),
    "matmul": ("matmul", (6, 5), {"transpose_X": False, "transpose_Y": False, "alpha": 1.0}, (2, 3, 6)),
}


def check(net, x, weight):
    """The form of the op named y, at some of its places."""
    (result,) = net.run({"x": x}, ["y"])
    (op,) = Graph(net.program).ops()
    form = linear_form(op, weight.shape)
    assert np.array_equal(form.weight(form.matrix(weight)), weight)
    count = form.places(result.shape)
    places = np.random.default_rng(0).permutation(count)[: max(1, count * 2 // 3)]
    got = form.inputs(x, places, result.shape) @ form.matrix(weight).transpose(0, 2, 1)
    assert got == pytest.approx(form.results(result, places), rel=1e-4, abs=1e-4)
    every = form.results(result, np.arange(count))
    assert every.size == result.size and np.sort(every.ravel()) == pytest.approx(np.sort(result.ravel()))


@pytest.mark.parametrize("name", sorted(CONVS))
def test_convolutions(name):
    kind, shape, attrs = CONVS[name]
    net = Net()
    channels = shape[0] if kind == "conv2d_transpose" else shape[1] * attrs.get("groups", 1)
    size = (2, 7, 9, channels) if attrs.get("data_format") == "NHWC" else (2, channels, 7, 9)
    weight = random(1, *shape)
    net.data("x", [-1, *size[1:]])
    net.conv("x", weight, "y", kind, **attrs)
    check(net, random(2, *size), weight)


@pytest.mark.parametrize("name", sorted(MATRICES))
def test_products(name):
    kind, shape, attrs, size = MATRICES[name]
    net = Net()
    weight = random(1, *shape)
    net.data("x", [-1, *size[1:]])
    net.linear("x", weight, "y", kind, **attrs)
    check(net, random(2, *size), weight)


@pytest.mark.parametrize(
    "kind, attrs", [("matmul_v2", {"trans_x": True, "trans_y": False}), ("matmul", {"alpha": 0.5})]
)
def test_products_that_are_none(kind, attrs):
    net = Net()
    net.data("x", [-1, 4])
    net.linear("x", random(1, 4, 4), "y", kind, **attrs)
    with pytest.raises(ModelError, match="no plain product"):
        linear_form(Graph(net.program).ops()[0], (4, 4))
    with pytest.raises(ModelError, match=r"weight of shape \[2, 4, 4\]"):
        linear_form(Graph(net.program).ops()[0], (2, 4, 4))
