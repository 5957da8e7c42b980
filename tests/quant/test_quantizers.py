"""Every range type at every width: values of the quantized program against formulas written by hand."""

from __future__ import annotations

import itertools

import numpy as np
import paddle
import pytest
from grids import assert_same_grid, by_type, conv2d, conv2d_transpose, step_of, symmetric
from small_programs import CONV, Net, random

from slimkit.quant import quant_aware
from slimkit.quant.config import ACTIVATION_TYPES, WEIGHT_TYPES

CPU = paddle.CPUPlace()
BITS = (2, 4, 8, 16)
DYNAMIC = ("abs_max", "min_max")
CROSS = list(itertools.product(WEIGHT_TYPES, ACTIVATION_TYPES, BITS))
#: Every weight type, activation type and width at least once.
SAMPLE = [
    (weight, ACTIVATION_TYPES[(i + 2 * j) % len(ACTIVATION_TYPES)], BITS[(i + j) % len(BITS)])
    for j in range(3)
    for i, weight in enumerate(WEIGHT_TYPES)
]
K = 0.9


def _conv(type_="conv2d", groups=1, shape=(4, 3, 3, 3)):
    def build():
        net = Net()
        x = net.data("x", [-1, 4 if type_ == "conv2d_transpose" or groups > 1 else 3, 5, 5])
        attrs = {**CONV, "groups": groups}
        if type_ == "conv2d_transpose":
            attrs.update(output_size=[], output_padding=[])
        net.op(type_, {"Output": "y"}, attrs, Input=x, Filter=net.param("w", random(1, *shape)))
        return net

    return build


def _fc(type_, shape, **attrs):
    def build():
        net = Net()
        net.op(type_, {"Out": "y"}, attrs, X=net.data("x", [-1, 6]), Y=net.param("w", random(1, *shape)))
        return net

    return build


MUL = {"x_num_col_dims": 1, "y_num_col_dims": 1}
MATMUL = {"transpose_X": False, "alpha": 1.0}
#: op -> (network, channel axis of the weight, shape of x, the op in numpy)
OPS = {
    "conv2d": (_conv(), 0, (2, 3, 5, 5), conv2d),
    "depthwise_conv2d": (
        _conv("depthwise_conv2d", 4, (4, 1, 3, 3)),
        0,
        (2, 4, 5, 5),
        lambda x, w: conv2d(x, w, groups=4),
    ),
    "conv2d_transpose": (_conv("conv2d_transpose", 1, (4, 3, 3, 3)), 1, (2, 4, 5, 5), conv2d_transpose),
    "mul": (_fc("mul", (6, 5), **MUL), 1, (3, 6), np.matmul),
    "matmul": (_fc("matmul", (6, 5), transpose_Y=False, **MATMUL), 1, (3, 6), np.matmul),
    "matmul transposed": (_fc("matmul", (5, 6), transpose_Y=True, **MATMUL), 0, (3, 6), lambda x, w: x @ w.T),
    "matmul_v2": (_fc("matmul_v2", (6, 5), trans_x=False, trans_y=False), 1, (3, 6), np.matmul),
    "matmul_v2 transposed": (
        _fc("matmul_v2", (5, 6), trans_x=False, trans_y=True),
        0,
        (3, 6),
        lambda x, w: x @ w.T,
    ),
}


def _config(weight="abs_max", activation="abs_max", bits=8, **more):
    return {
        "weight_quantize_type": weight,
        "activation_quantize_type": activation,
        "weight_bits": bits,
        "activation_bits": bits,
        "quantize_op_types": ["conv2d", "depthwise_conv2d", "conv2d_transpose", "mul", "matmul", "matmul_v2"],
        **more,
    }


def _read_by(program, op_type):
    (op,) = [o for o in program.global_block().ops if o.type == op_type]
    return [n for slot in ("Input", "X", "Filter", "Y") if slot in op.input_names for n in op.input(slot)]


def _check(op, weight, activation, bits):
    build, axis, shape, reference = OPS[op]
    net, x = build(), random(2, *shape)
    program = quant_aware(net.program, CPU, _config(weight, activation, bits), scope=net.scope)
    read = _read_by(program, op.split()[0])
    assert len(set(read)) == 2 and "x" not in read and "w" not in read
    xq, wq, y = net.run({"x": x}, [*read, "y"], program)
    w = net.value("w")
    want_x = by_type(activation, x, bits)  # the first step of every type sees its own range
    want_w = by_type(weight, w, bits, axis)
    assert_same_grid(xq, want_x, step_of(activation, x, bits))
    assert_same_grid(wq, want_w, step_of(weight, w, bits))
    np.testing.assert_allclose(y, reference(xq.astype("float64"), wq.astype("float64")), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weight, activation, bits", SAMPLE)
def test_values_of_the_types(weight, activation, bits):
    _check("conv2d", weight, activation, bits)


@pytest.mark.parametrize("op", OPS)
def test_values_of_the_ops(op):
    _check(op, "channel_wise_abs_max", "moving_average_abs_max", 4)
    _check(op, "channel_wise_min_max", "min_max", 4)


@pytest.mark.slow
@pytest.mark.parametrize("weight, activation, bits", CROSS)
@pytest.mark.parametrize("op", OPS)
def test_values_of_all(op, weight, activation, bits):
    _check(op, weight, activation, bits)


def test_sample_covers_every_type_and_width():
    assert {w for w, _, _ in SAMPLE} == set(WEIGHT_TYPES)
    assert {a for _, a, _ in SAMPLE} == set(ACTIVATION_TYPES)
    assert {b for _, _, b in SAMPLE} == set(BITS)


def test_weights_and_activations_have_bits_of_their_own():
    build, _, shape, _ = OPS["conv2d"]
    net, x = build(), random(2, *shape)
    config = _config("channel_wise_abs_max", "abs_max", 8, weight_bits=3, activation_bits=5)
    program = quant_aware(net.program, CPU, config, scope=net.scope)
    xq, wq = net.run({"x": x}, _read_by(program, "conv2d"), program)
    assert_same_grid(xq, by_type("abs_max", x, 5), step_of("abs_max", x, 5))
    assert_same_grid(wq, by_type("channel_wise_abs_max", net.value("w"), 3, 0), step_of("abs_max", x, 3))


# ---------------------------------------------------------------------------------------------- state over steps


def _steps(kind, bits=8, steps=6, for_weight=False, prepare=None, **more):
    """(per step: batch, quantized) of an activation, or of a weight that is changed between the steps."""
    net = OPS["mul"][0]()
    config = _config(kind if for_weight else "abs_max", "abs_max" if for_weight else kind, bits, **more)
    program = quant_aware(net.program, CPU, config, scope=net.scope)
    if prepare:
        prepare(net)
    read = _read_by(program, "mul")
    found = []
    for t in range(steps):
        value = random(10 + t, 6, 5) if for_weight else random(10 + t, 3, 6)
        value *= np.float32(1 + (t * 7) % 5)
        if for_weight:
            net.scope.find_var("w").get_tensor().set(value, CPU)
        xq, wq = net.run({"x": random(3, 3, 6) if for_weight else value}, read, program)
        found.append((value, wq if for_weight else xq))
    return net, config, found


@pytest.mark.parametrize("for_weight", [False, True])
@pytest.mark.parametrize("bits", [8, 4])
def test_moving_average_from_a_settled_start(for_weight, bits):
    name, tail = "w" if for_weight else "x", "" if bits == 8 else "4"

    def settle(net):
        for state, value in (("scale", 2.0), ("state", 1 / (1 - K)), ("accum", 2.0 / (1 - K))):
            net.scope.find_var(f"{name}@{state}{tail}").get_tensor().set(np.full(1, value, "float32"), CPU)

    net, _, found = _steps("moving_average_abs_max", bits, for_weight=for_weight, prepare=settle)
    v = 2.0
    for value, quantized in found:
        v = (1 - K) * np.abs(value).max() + K * v
        assert_same_grid(quantized, symmetric(value, v, bits), v / (2 ** (bits - 1) - 1))
    np.testing.assert_allclose(net.value(f"{name}@scale{tail}"), [v], rtol=1e-5)


def test_moving_average_from_nothing_has_no_bias():
    """Without a settled start the average is over the batches seen, weighted k**age."""
    net, _, found = _steps("moving_average_abs_max", steps=4)
    peaks = np.array([np.abs(value).max() for value, _ in found])
    weights = K ** np.arange(len(peaks))[::-1]
    np.testing.assert_allclose(net.value("x@scale"), [(peaks * weights).sum() / weights.sum()], rtol=1e-5)


@pytest.mark.parametrize("for_weight", [False, True])
def test_window_max_wraps_around(for_weight):
    name = "w" if for_weight else "x"
    net, _, found = _steps("range_abs_max", steps=7, for_weight=for_weight, window_size=3)
    peaks = [np.abs(value).max() for value, _ in found]
    for t, (value, quantized) in enumerate(found):
        m = max(peaks[max(0, t - 2) : t + 1])
        assert_same_grid(quantized, symmetric(value, m, 8), m / 127)
    np.testing.assert_allclose(net.value(f"{name}@scale"), [max(peaks[-3:])], rtol=1e-6)
    assert max(peaks[-3:]) < max(peaks)  # the window has forgotten the largest


def test_window_mean_wraps_around():
    net, _, found = _steps("window_mean_abs_max", steps=7, window_size=3)
    peaks = [np.abs(value).max() for value, _ in found]
    for t, (value, quantized) in enumerate(found):
        m = np.mean(peaks[max(0, t - 2) : t + 1])
        assert_same_grid(quantized, symmetric(value, m, 8), m / 127)
    np.testing.assert_allclose(net.value("x@scale"), [np.mean(peaks[-3:])], rtol=1e-6)


def test_moving_average_of_min_and_max():
    def settle(net):
        for state, value in (("range_state", 1.0), ("low_accum", -1.0), ("high_accum", 3.0)):
            start = np.full(1, value / (1 - K), "float32")
            net.scope.find_var(f"x@{state}").get_tensor().set(start, CPU)

    net, _, found = _steps("moving_average_min_max", steps=4, prepare=settle)
    low, high = -1.0, 3.0
    for value, quantized in found:
        low, high = (1 - K) * value.min() + K * low, (1 - K) * value.max() + K * high
        want = by_type("moving_average_min_max", value, 8, ranges=(low, high))
        assert_same_grid(quantized, want, (max(high, 0) - min(low, 0)) / 255)
    np.testing.assert_allclose([net.value("x@low")[0], net.value("x@high")[0]], [low, high], rtol=1e-5)


@pytest.mark.parametrize("kind", [k for k in ACTIVATION_TYPES if k not in DYNAMIC])
def test_test_programs_read_the_scales_and_do_not_move_them(kind):
    net, config, _ = _steps(kind, steps=3, window_size=2)
    test = quant_aware(net.program, CPU, config, scope=net.scope, for_test=True)
    names = [n for n in ("x@scale", "x@low", "x@high") if net.scope.find_var(n) is not None]
    before = [net.value(n) for n in names]
    value = random(50, 3, 6, size=9.0)
    xq, _ = net.run({"x": value}, _read_by(test, "mul"), test)
    ranges = before[0] if len(before) == 1 else (before[0], before[1])
    assert_same_grid(xq, by_type(kind, value, 8, ranges=ranges), step_of(kind, value, 8))
    for name, held in zip(names, before):
        np.testing.assert_array_equal(net.value(name), held)


def test_scale_trainable_false_freezes_the_scales():
    net = OPS["mul"][0]()
    config = _config("abs_max", "moving_average_abs_max", scale_trainable=False)
    program = quant_aware(net.program, CPU, config, scope=net.scope)
    net.scope.find_var("x@scale").get_tensor().set(np.full(1, 1.5, "float32"), CPU)
    x = random(1, 3, 6, size=3.0)
    xq, _ = net.run({"x": x}, _read_by(program, "mul"), program)
    assert_same_grid(xq, symmetric(x, 1.5, 8), 1.5 / 127)
    assert net.value("x@scale")[0] == np.float32(1.5)


@pytest.mark.parametrize("kind", ACTIVATION_TYPES)
def test_a_tensor_of_zeros_stays_zero(kind):
    net = OPS["mul"][0]()
    program = quant_aware(net.program, CPU, _config("abs_max", kind), scope=net.scope)
    xq, _ = net.run({"x": np.zeros((2, 6), "float32")}, _read_by(program, "mul"), program)
    np.testing.assert_array_equal(xq, np.zeros((2, 6)))


# ---------------------------------------------------------------------------------------------- activations only


def test_product_of_two_activations():
    net = Net()
    a, b = net.data("a", [-1, 3, 4]), net.data("b", [-1, 4, 2])
    net.op("matmul_v2", {"Out": "y"}, {"trans_x": False, "trans_y": False}, X=a, Y=b)
    program = quant_aware(net.program, CPU, _config("channel_wise_abs_max", "abs_max"), scope=net.scope)
    values = {"a": random(1, 2, 3, 4), "b": random(2, 2, 4, 2)}
    (y,) = net.run(values, ["y"], program)
    np.testing.assert_allclose(y, np.matmul(*(by_type("abs_max", v, 8) for v in values.values())), atol=1e-4)


def _one(op, attrs, inputs, reference, out="Out", extra=None):
    return pytest.param(op, attrs, inputs, reference, out, extra or {}, id=op)


ADAPTIVE = {"pooling_type": "avg", "ksize": [1, 1], "adaptive": True, "strides": [1, 1], "paddings": [0, 0]}
SAMPLES = [
    _one("relu", {}, {"X": 1}, lambda x: np.maximum(x, 0)),
    _one("elementwise_add", {"axis": -1}, {"X": 1, "Y": 1}, np.add),
    _one("elementwise_mul", {"axis": -1}, {"X": 1, "Y": 1}, np.multiply),
    _one("concat", {"axis": 1}, {"X": 3}, lambda *x: np.concatenate(x, 1)),
    _one("softmax", {"axis": -1}, {"X": 1}, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    _one("transpose2", {"axis": [0, 2, 1]}, {"X": 1}, lambda x: x.transpose(0, 2, 1), extra={"XShape": "xs"}),
    _one("reduce_mean", {"dim": [2], "keep_dim": False, "reduce_all": False}, {"X": 1}, lambda x: x.mean(2)),
    _one("sigmoid", {}, {"X": 1}, lambda x: 1 / (1 + np.exp(-x))),
    _one("scale", {"scale": 3.0}, {"X": 1}, lambda x: 3 * x),
]


@pytest.mark.parametrize("op, attrs, inputs, reference, out, extra", SAMPLES)
def test_full_quantize(op, attrs, inputs, reference, out, extra):
    net, values, slots = Net(), {}, {}
    for slot, count in inputs.items():
        slots[slot] = [net.data(f"{slot}{i}", [-1, 3, 4]) for i in range(count)]
        values.update({n: random(len(values) + i, 2, 3, 4) for i, n in enumerate(slots[slot])})
    net.op(op, {out: "y", **extra}, attrs, **slots)
    config = _config("abs_max", "abs_max", 4, is_full_quantize=True)
    (y,) = net.run(values, ["y"], quant_aware(net.program, CPU, config, scope=net.scope))
    np.testing.assert_allclose(y, reference(*(by_type("abs_max", v, 4) for v in values.values())), atol=1e-5)
