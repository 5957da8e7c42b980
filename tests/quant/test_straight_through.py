"""Gradients of quantized programs: straight through, to the float weights, from the quantized values."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from grids import by_type
from small_programs import Net, minimize, mobile_net, random

from slimkit.quant import quant_aware
from slimkit.quant.config import ACTIVATION_TYPES, WEIGHT_TYPES

CPU = paddle.CPUPlace()
OP_TYPES = ["conv2d", "depthwise_conv2d", "mul", "matmul_v2"]
PAIRS = [(w, ACTIVATION_TYPES[i % len(ACTIVATION_TYPES)]) for i, w in enumerate(WEIGHT_TYPES)]
IMAGES = {"x": random(0, 4, 3, 8, 8), "label": np.array([[0], [1], [2], [3]], "int64")}


def _config(weight, activation, bits=4, **more):
    return {
        "weight_quantize_type": weight,
        "activation_quantize_type": activation,
        "weight_bits": bits,
        "activation_bits": bits,
        "quantize_op_types": OP_TYPES,
        **more,
    }


def _mlp():
    """x [4, 6] -> w1 [6, 5] -> relu -> w2 [5, 3] -> sum(y * r)."""
    net = Net()
    h = net.linear(net.data("x", [-1, 6]), random(1, 6, 5), "h", trans_x=False, trans_y=False)
    net.linear(net.relu(h, "a"), random(2, 5, 3), "y", trans_x=False, trans_y=False)
    net.weighted_sum("y", random(3, 4, 3))
    return net


def _quantized(net, config, order, learning_rate=0.0, **functions):
    def sgd():
        return paddle.optimizer.SGD(learning_rate)

    if order == "after":
        net.minimize(sgd)
        return quant_aware(net.program, CPU, config, scope=net.scope, **functions)
    program = quant_aware(net.program, CPU, config, scope=net.scope, **functions)
    minimize(program, sgd, "loss", net.scope)
    return program


GRADIENTS = ["h.w@GRAD", "y.w@GRAD", "x@GRAD"]


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("weight, activation", PAIRS)
def test_gradients_are_the_chain_rule_at_the_quantized_values(weight, activation, order):
    net, x, r = _mlp(), random(9, 4, 6), random(3, 4, 3).astype("float64")
    w1, w2 = net.value("h.w"), net.value("y.w")
    program = _quantized(net, _config(weight, activation), order)
    got = net.run({"x": x}, GRADIENTS, program)
    xq, w1q, w2q = by_type(activation, x, 4), by_type(weight, w1, 4, 1), by_type(weight, w2, 4, 1)
    h = xq @ w1q
    aq = by_type(activation, np.maximum(h, 0).astype("float32"), 4)
    dh = (r @ w2q.T) * (h > 0)
    for value, want in zip(got, (xq.T @ dh, aq.T @ r, dh @ w1q.T)):
        np.testing.assert_allclose(value, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
def test_finite_differences_and_autodiff_of_the_float_network(op):
    """loss = sum(r * y * y) is quadratic, so central differences are exact for any step."""
    groups = 3 if op == "depthwise_conv2d" else 1

    def build():
        net = Net()
        shape = (3, 1, 3, 3) if groups > 1 else (2, 3, 3, 3)
        net.conv(net.data("x", [-1, 3, 4, 4]), random(1, *shape), "y", op, groups=groups)
        net.op("elementwise_mul", {"Out": "yy"}, {"axis": -1}, X="y", Y="y")
        net.weighted_sum("yy", random(3, 2, shape[0], 4, 4))
        return net

    net, x = build(), random(9, 2, 3, 4, 4)
    w = net.value("y.w")
    program = _quantized(net, _config("channel_wise_abs_max", "abs_max"), "after")
    dw, dx = net.run({"x": x}, ["y.w@GRAD", "x@GRAD"], program)
    xq = by_type("abs_max", x, 4).astype("float32")
    wq = by_type("channel_wise_abs_max", w, 4, 0).astype("float32")

    plain = build()
    plain.scope.find_var("y.w").get_tensor().set(wq, CPU)

    def loss(w_now, x_now):
        plain.scope.find_var("y.w").get_tensor().set(w_now, CPU)
        return float(plain.run({"x": x_now}, ["loss"])[0])

    scale = np.abs(dw).max()
    for index in [(0, 0, 0, 0), (1, 0, 1, 1), (1, 0, 2, 0)]:
        bump = np.zeros_like(wq)
        bump[index] = 0.5
        numeric = loss(wq + bump, xq) - loss(wq - bump, xq)
        np.testing.assert_allclose(dw[index], numeric, atol=2e-4 * scale, rtol=1e-3)
    bump = np.zeros_like(xq)
    bump[1, 2, 3, 1] = 0.5
    np.testing.assert_allclose(dx[1, 2, 3, 1], loss(wq, xq + bump) - loss(wq, xq - bump), rtol=1e-3, atol=2e-3)

    plain = build()
    plain.scope.find_var("y.w").get_tensor().set(wq, CPU)
    plain.minimize(lambda: paddle.optimizer.SGD(0.0))
    want = plain.run({"x": xq}, ["y.w@GRAD", "x@GRAD"])
    np.testing.assert_allclose(dw, want[0], rtol=1e-3, atol=1e-4 * scale)
    np.testing.assert_allclose(dx, want[1], rtol=1e-3, atol=1e-4 * np.abs(dx).max())


@pytest.mark.parametrize("weight, activation", PAIRS[1::2])
def test_before_and_after_minimize_give_the_same_gradients(weight, activation):
    found = []
    for order in ("before", "after"):
        net = mobile_net()
        names = [f"{p.name}@GRAD" for p in net.program.all_parameters()]
        program = _quantized(net, _config(weight, activation, 8), order)
        found.append(dict(zip(names, net.run(IMAGES, names, program))))
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert np.abs(found[0]["stem.w@GRAD"]).max() > 0


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_float_weights_are_trained(order):
    net, x = _mlp(), random(9, 4, 6)
    w = net.value("h.w")
    program = _quantized(net, _config("channel_wise_abs_max", "abs_max", 2), order, learning_rate=0.01)
    (gradient,) = net.run({"x": x}, ["h.w@GRAD"], program)
    np.testing.assert_allclose(net.value("h.w"), w - np.float32(0.01) * gradient, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("order", ["before", "after"])
def test_gradient_ops_read_the_dequantized_tensors(order):
    net = mobile_net()
    program = _quantized(net, _config("channel_wise_abs_max", "moving_average_abs_max", 8), order)
    ops = program.global_block().ops
    seen = 0
    for op in ops:
        if op.type in ("conv2d", "depthwise_conv2d", "matmul_v2"):
            for gradient in (o for o in ops if o.type == f"{op.type}_grad"):
                slots = ("X", "Y") if op.type == "matmul_v2" else ("Input", "Filter")
                out = op.output_arg_names[0]
                if f"{out}@GRAD" not in gradient.input_arg_names:
                    continue
                seen += 1
                for slot in slots:
                    assert gradient.input(slot) == op.input(slot)
                    assert "quantized" in op.input(slot)[0]
    assert seen == 6


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_tensor_read_by_quantized_and_float_ops(order):
    """x goes to two quantized products (of one weight, too) and to a float sum: three gradients meet."""
    net, x, r = Net(), random(9, 4, 6), random(3, 4, 6).astype("float64")
    net.data("x", [-1, 6])
    net.linear("x", random(1, 6, 6), "p", trans_x=False, trans_y=False)
    net.op("matmul_v2", {"Out": "q"}, {"trans_x": False, "trans_y": True}, X="x", Y="p.w")
    net.add(net.add("p", "q", "s"), "x", "y")
    net.weighted_sum("y", r.astype("float32"))
    w = net.value("p.w")
    program = _quantized(net, _config("channel_wise_abs_max", "abs_max"), order)
    dw, dx = net.run({"x": x}, ["p.w@GRAD", "x@GRAD"], program)
    xq = by_type("abs_max", x, 4)
    columns, rows = by_type("channel_wise_abs_max", w, 4, 1), by_type("channel_wise_abs_max", w, 4, 0)
    np.testing.assert_allclose(dw, xq.T @ r + r.T @ xq, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dx, r @ columns.T + r @ rows + r, rtol=1e-4, atol=1e-4)


def test_two_ops_of_one_input_and_weight_keep_their_gradients_apart():
    """One is quantized, its twin is skipped by a rule: only the first one's gradient op is rewired."""
    net, r = Net(), random(3, 4, 3).astype("float64")
    x = net.data("x", [-1, 6])
    net.linear(x, random(1, 6, 3), "p", trans_x=False, trans_y=False)
    net.op("matmul_v2", {"Out": "q"}, {"trans_x": False, "trans_y": False}, X=x, Y="p.w")
    net.weighted_sum(net.op("elementwise_mul", {"Out": "y"}, {"axis": -1}, X="p", Y="q"), r.astype("float32"))
    w, value = net.value("p.w"), random(9, 4, 6)
    config = _config("abs_max", "abs_max", rules=[{"names": ["q"], "skip": True}])
    program = _quantized(net, config, "after")
    dw, p, q = net.run({"x": value}, ["p.w@GRAD", "p", "q"], program)
    xq, wq = by_type("abs_max", value, 4), by_type("abs_max", w, 4)
    np.testing.assert_allclose(p, xq @ wq, atol=1e-4)
    np.testing.assert_allclose(q, value @ w, atol=1e-4)
    np.testing.assert_allclose(dw, xq.T @ (r * q) + value.T @ (r * p), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("order", ["before", "after"])
def test_concat_of_several_tensors_is_quantized_whole(order):
    net = Net()
    parts = [net.relu(net.data(f"x{i}", [-1, 3]), f"a{i}") for i in range(3)]
    net.op("concat", {"Out": "y"}, {"axis": 1}, X=parts)
    net.op("elementwise_mul", {"Out": "yy"}, {"axis": -1}, X="y", Y="y")
    net.weighted_sum("yy", np.ones((2, 9), "float32"))
    net.param("unused", np.ones(1, "float32"))
    values = {f"x{i}": random(i, 2, 3) for i in range(3)}
    config = _config("abs_max", "abs_max", quantize_op_types=["concat"])
    if order == "after":
        net.op("scale", {"Out": "z"}, {"scale": 1.0}, X="loss")
    program = quant_aware(net.program, CPU, config, scope=net.scope)
    want = [by_type("abs_max", np.maximum(v, 0), 4) for v in values.values()]
    np.testing.assert_allclose(net.run(values, ["y"], program)[0], np.concatenate(want, 1), atol=1e-5)
