"""``FoldForward`` and ``FactorGate``: fewer passes over feature maps, the same function."""

from __future__ import annotations

import numpy as np
import pytest
from small_programs import AVERAGE_POOL, Net, random

from slimkit.ir import Graph, Model, legacy_ir
from slimkit.quant.passes.factor_gate import FactorGate
from slimkit.quant.passes.fold_forward import FoldForward

X = random(0, 2, 3, 6, 6)


def _apply(net: Net, fetch: str, make):
    """(what the pass says, op counts, outputs before and after)."""
    model = net.model(["x"], [fetch])
    (before,) = model.run([X])
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        counts = make(model).apply(graph)
        after = Model(graph.to_program(), model.scope, ["x"], [fetch])
    return counts, after.op_counts(), before, after.run([X])[0]


def _scaled(net: Net, x: str, factor: float, shift: float, tag: str) -> str:
    """``factor * x + shift``, the parameter first in the product as PP-LCNetV3 has it."""
    parameter = net.param(f"{tag}.a", np.array([factor], "float32"))
    y = net.op("elementwise_mul", {"Out": f"{tag}.mul"}, {"axis": -1}, X=parameter, Y=x)
    return net.add(y, net.param(f"{tag}.b", np.array([shift], "float32")), f"{tag}.add")


def _same(before, after):
    assert np.abs(after - before).max() < 1e-5 * np.abs(before).max()


def test_factor_and_shift_move_into_products_that_do_not_pad():
    net = Net()
    y = _scaled(net, net.relu(net.data("x", [-1, 3, 6, 6]), "r"), -1.7, 0.4, "lab")
    one = net.conv(y, random(1, 4, 3, 1, 1), "one", paddings=[0, 0])
    two = net.conv(y, random(2, 4, 3, 1, 1), "two", paddings=[0, 0])
    net.add(one, two, "out")
    counts, ops, before, after = _apply(net, "out", lambda m: FoldForward(m.scope, m.fetches))
    assert counts == {"factor": 1, "shift": 1}
    assert "elementwise_mul" not in ops and ops["elementwise_add"] == 3  # two biases and the sum
    _same(before, after)


def test_in_front_of_padding_the_shift_stays():
    net = Net()
    y = _scaled(net, net.data("x", [-1, 3, 6, 6]), 0.6, 0.9, "lab")
    net.conv(y, random(1, 3, 1, 3, 3), "out", "depthwise_conv2d", groups=3)
    counts, ops, before, after = _apply(net, "out", lambda m: FoldForward(m.scope, m.fetches))
    assert counts == {"factor": 1} and ops == {"elementwise_add": 1, "depthwise_conv2d": 1}
    _same(before, after)


@pytest.mark.parametrize("transposed", [False, True])
def test_matrix_products(transposed):
    net = Net()
    y = _scaled(net, net.data("x", [-1, 3, 6, 6]), 2.5, -0.3, "lab")
    w = random(1, 6, 5)
    net.linear(y, np.ascontiguousarray(w.T if transposed else w), "out", trans_x=False, trans_y=transposed)
    counts, ops, before, after = _apply(net, "out", lambda m: FoldForward(m.scope, m.fetches))
    assert counts == {"factor": 1, "shift": 1} and ops == {"matmul_v2": 1, "elementwise_add": 1}
    _same(before, after)


def test_what_something_else_reads_stays():
    net = Net()
    y = _scaled(net, net.data("x", [-1, 3, 6, 6]), 2.5, -0.3, "lab")
    one = net.conv(y, random(1, 3, 3, 1, 1), "one", paddings=[0, 0])
    net.add(net.relu(y, "also"), one, "out")
    counts, ops, before, after = _apply(net, "out", lambda m: FoldForward(m.scope, m.fetches))
    assert counts == {} and ops["elementwise_mul"] == 1
    _same(before, after)


def _gated(net: Net, gate_first: bool, pooled: bool = True) -> str:
    x = net.relu(net.data("x", [-1, 3, 6, 6]), "r")
    gate = net.op("pool2d", {"Out": "gate"}, AVERAGE_POOL, X=x) if pooled else net.relu(x, "gate")
    net.block.vars["gate"].desc.set_shape([-1, 3, 1, 1] if pooled else [-1, 3, 6, 6])
    net.block.vars["r"].desc.set_shape([-1, 3, 6, 6])
    product = net.op("elementwise_mul", {"Out": "p"}, {"axis": -1}, X=x, Y=gate)
    return net.add(product, x, "out") if gate_first else net.add(x, product, "out")


@pytest.mark.parametrize("gate_first", [False, True])
def test_a_gate_that_is_added_to_its_input(gate_first):
    net = Net()
    _gated(net, gate_first)
    counts, ops, before, after = _apply(net, "out", lambda m: FactorGate(m.fetches))
    assert counts == {"elementwise_add": 1} and "elementwise_add" not in ops and ops["scale"] == 1
    _same(before, after)


def test_a_product_of_two_maps_stays():
    net = Net()
    _gated(net, False, pooled=False)
    counts, ops, _, _ = _apply(net, "out", lambda m: FactorGate(m.fetches))
    assert counts == {} and ops["elementwise_add"] == 1
