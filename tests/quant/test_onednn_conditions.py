"""What gains from integers on oneDNN: small graphs, op by op."""

from __future__ import annotations

import pytest
from small_programs import AVERAGE_POOL, Net, random

from slimkit.ir import Graph
from slimkit.quant import onednn_conditions as conditions

SHAPE = [-1, 4, 8, 8]


def _shaped(net: Net, **shapes: list) -> Graph:
    for name, shape in shapes.items():
        net.block.vars[name].desc.set_shape(shape)
    return Graph(net.program, for_test=True)


def _op(graph: Graph, output: str):
    return next(op for op in graph.ops() if op.outputs[0].name == output)


def _residual(order: str = "xy", projected: bool = False, then: str = "conv2d") -> Graph:
    """input -> conv -> + input or a projection of it -> relu -> conv or pool."""
    net = Net()
    x = net.relu(net.data("in", SHAPE), "x")
    main = net.conv(x, random(1, 4, 4, 3, 3), "main")
    short = net.conv(x, random(2, 4, 4, 1, 1), "short", paddings=[0, 0]) if projected else x
    net.add(main, short, "sum") if order == "xy" else net.add(short, main, "sum")
    net.relu("sum", "r")
    if then == "conv2d":
        net.conv("r", random(3, 4, 4, 3, 3), "out")
    elif then == "pool2d":
        net.op("pool2d", {"Out": "out"}, AVERAGE_POOL, X="r")
    else:
        net.op("softmax", {"Out": "out"}, {"axis": 1}, X="r")
    names = ["x", "main", "sum", "r"] + (["short"] if projected else [])
    return _shaped(net, **dict.fromkeys(names, SHAPE))


@pytest.mark.parametrize(("order", "slot"), [("xy", "Y"), ("yx", "X")])
def test_the_shortcut_lies_on_a_grid(order, slot):
    assert conditions.residual_slots(_op(_residual(order), "sum")) == (slot,)
    assert conditions.not_a_residual(_op(_residual(order), "sum")) is None


def test_one_of_two_convolutions_is_the_residual():
    assert len(conditions.residual_slots(_op(_residual(projected=True), "sum"))) == 1


def test_a_sum_that_nobody_quantizes_is_refused():
    assert "no residual add" in conditions.not_a_residual(_op(_residual(then="softmax"), "sum"))


def test_a_sum_of_no_convolution_is_refused():
    net = Net()
    x = net.relu(net.data("in", SHAPE), "x")
    net.add(x, net.relu(x, "y"), "sum")
    net.conv("sum", random(3, 4, 4, 3, 3), "out")
    graph = _shaped(net, x=SHAPE, y=SHAPE, sum=SHAPE)
    assert "no residual add" in conditions.not_a_residual(_op(graph, "sum"))


def test_the_average_pool_behind_a_residual_reads_a_grid():
    assert conditions.not_behind_a_residual(_op(_residual(then="pool2d"), "out")) is None
    net = Net()
    net.op("pool2d", {"Out": "out"}, AVERAGE_POOL, X=net.relu(net.data("in", SHAPE), "x"))
    assert conditions.not_behind_a_residual(_op(_shaped(net, x=SHAPE), "out"))


def _squeezed(channels: int) -> Graph:
    net = Net()
    s = net.op("pool2d", {"Out": "pool"}, AVERAGE_POOL, X=net.data("in", [-1, channels, 8, 8]))
    s = net.relu(net.conv(s, random(1, channels, channels, 1, 1), "reduce", paddings=[0, 0]), "r")
    net.conv(s, random(2, channels, channels, 1, 1), "expand", paddings=[0, 0])
    net.conv("in", random(3, 4, channels, 1, 1), "map", paddings=[0, 0])
    return Graph(net.program, for_test=True)


def test_products_of_one_pixel_store_their_weight_only():
    graph = _squeezed(8)
    assert "one pixel" in conditions.one_pixel(_op(graph, "reduce"))
    assert "one pixel" in conditions.one_pixel(_op(graph, "expand"))
    assert conditions.one_pixel(_op(graph, "map")) is None


def test_large_products_of_one_pixel_are_quantized():
    assert conditions.one_pixel(_op(_squeezed(640), "reduce")) is None


def test_products_of_more_than_rows_and_of_activations():
    net = Net()
    x = net.data("in", [-1, 5, 8])
    net.linear(x, random(1, 8, 6), "three", trans_x=False, trans_y=False)
    rows = net.data("rows", [-1, 8])
    net.linear(rows, random(2, 8, 6), "two", trans_x=False, trans_y=False)
    net.op("matmul_v2", {"Out": "square"}, {"trans_x": False, "trans_y": True}, X=x, Y=x)
    graph = Graph(net.program, for_test=True)
    assert "more than rows" in conditions.no_matrix_of_rows(_op(graph, "three"))
    assert conditions.no_matrix_of_rows(_op(graph, "two")) is None
    assert "computed" in conditions.both_computed(_op(graph, "square"))
    assert conditions.both_computed(_op(graph, "three")) is None
