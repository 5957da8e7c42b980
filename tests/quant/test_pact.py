"""PACT: the clip, its gradients by finite differences, alpha's own optimizer, no traces."""

from __future__ import annotations

import os

import numpy as np
import paddle
import pytest
from grids import symmetric
from small_programs import Net, minimize, mobile_net, random

from slimkit.quant import PactConfig, quant_aware
from slimkit.quant.passes.insert_pact import ALPHA_FLOOR

CPU = paddle.CPUPlace()
CONFIG = {"quantize_op_types": ["matmul_v2"], "weight_bits": 16, "activation_bits": 16}
R, X = random(3, 4, 3), random(9, 4, 6, size=2.0)


def _net(readers=1, form="two_sided", float_reader=False):
    """x -> (relu) -> a -> w -> sum(y * r); with two readers two products are added."""
    net = Net()
    a = net.relu(net.data("x", [-1, 6]), "a") if form == "relu" else net.data("x", [-1, 6])
    outs = [net.linear(a, random(i, 6, 3), f"p{i}", trans_x=False, trans_y=False) for i in range(readers)]
    y = outs[0] if readers == 1 else net.add(*outs, "y")
    net.weighted_sum(y, R)
    return net, a


def _program(net, order, pact, config=CONFIG):
    def sgd():
        return paddle.optimizer.SGD(0.0)

    if order == "after":
        net.minimize(sgd)
        return quant_aware(net.program, CPU, config, scope=net.scope, act_preprocess_func=pact)
    program = quant_aware(net.program, CPU, config, scope=net.scope, act_preprocess_func=pact)
    minimize(program, sgd, "loss", net.scope)
    return program


def _set(net, name, value):
    net.scope.find_var(name).get_tensor().set(np.full(1, value, "float32"), CPU)


def _alpha_gradient(program, alpha):
    """The name of the gradient that alpha's optimizer op reads."""
    (op,) = [o for o in program.global_block().ops if "Param" in o.input_names and o.input("Param") == [alpha]]
    return op.input("Grad")[0]


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("form", ["two_sided", "relu"])
@pytest.mark.parametrize("alpha", [1.3, 50.0])
@pytest.mark.parametrize("readers", [1, 2])
def test_gradients_against_finite_differences(order, form, alpha, readers):
    net, a = _net(readers, form)
    weights = [net.value(f"p{i}.w").astype("float64") for i in range(readers)]
    program = _program(net, order, PactConfig(form=form, l2=0.0, optimizer="sgd"))
    _set(net, f"{a}@alpha", alpha)
    fetch = ["loss", _alpha_gradient(program, f"{a}@alpha"), "x@GRAD"]
    loss, d_alpha, d_x = net.run({"x": X}, fetch, program)

    def reference(x, level):
        y = np.maximum(x, 0) if form == "relu" else x
        y = np.clip(y, -level, level)
        return sum((y @ w * R).sum() for w in weights)

    np.testing.assert_allclose(loss, reference(X, alpha), rtol=1e-3, atol=2e-2)
    x, e = X.astype("float64"), 1e-6
    numeric = (reference(x, alpha + e) - reference(x, alpha - e)) / (2 * e)
    assert (numeric != 0) == (alpha < np.abs(X).max())
    np.testing.assert_allclose(np.ravel(d_alpha), [numeric], rtol=2e-3, atol=2e-3)
    for i in range(4):
        for j in range(6):
            bump = np.zeros_like(x)
            bump[i, j] = e
            numeric = (reference(x + bump, alpha) - reference(x - bump, alpha)) / (2 * e)
            np.testing.assert_allclose(d_x[i, j], numeric, rtol=2e-3, atol=2e-3)


def test_the_edge_belongs_to_the_inside():
    net, _ = _net()
    program = _program(net, "after", PactConfig(l2=0.0))
    _set(net, "x@alpha", 1.5)
    value = np.full((4, 6), 1.5, "float32")
    d_alpha, d_x = net.run({"x": value}, [_alpha_gradient(program, "x@alpha"), "x@GRAD"], program)
    np.testing.assert_array_equal(d_alpha, [0.0])
    assert np.abs(d_x).min() > 0


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_alpha_is_the_scale(bits):
    net, _ = _net()
    config = {**CONFIG, "activation_bits": bits}
    program = quant_aware(net.program, CPU, config, scope=net.scope, act_preprocess_func="pact", for_test=True)
    _set(net, "x@alpha", 1.7)
    (op,) = [o for o in program.global_block().ops if o.type == "matmul_v2"]
    (xq,) = net.run({"x": X}, [op.input("X")[0]], program)
    np.testing.assert_allclose(xq, symmetric(X, 1.7, bits), atol=1e-5)


def test_the_papers_form_takes_only_what_a_relu_makes():
    net, _ = _net(form="relu")
    net.linear("x", random(5, 6, 2), "other", trans_x=False, trans_y=False)
    quant_aware(net.program, CPU, CONFIG, scope=net.scope, act_preprocess_func=PactConfig(form="relu"))
    assert net.scope.find_var("a@alpha") is not None and net.scope.find_var("x@alpha") is None
    assert net.scope.find_var("x@scale16") is not None


def _updates(kind, gradients, alpha, rate, l2):
    """alpha after each step by hand: SGD, momentum 0.9, Adam; L2 adds l2 * alpha to the gradient."""
    v = m = s = 0.0
    found = []
    for t, gradient in enumerate(gradients, 1):
        g = gradient(alpha) + l2 * alpha
        if kind == "sgd":
            alpha -= rate * g
        elif kind == "momentum":
            v = 0.9 * v + g
            alpha -= rate * v
        else:
            m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
            alpha -= rate * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        found.append(alpha)
    return found


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam"])
def test_alphas_own_optimizer(kind):
    net, _ = _net()
    w = net.value("p0.w").astype("float64")
    pact = PactConfig(optimizer=kind, learning_rate=0.02, l2=0.05)
    program = _program(net, "after", pact)
    _set(net, "x@alpha", 2.0)
    batches = [random(20 + t, 4, 6, size=2.0) for t in range(4)]

    def gradient(x):
        upstream = R.astype("float64") @ w.T
        return lambda alpha: (upstream * np.sign(x) * (np.abs(x) > alpha)).sum()

    want = _updates(kind, [gradient(x) for x in batches], 2.0, 0.02, 0.05)
    got = []
    for x in batches:
        net.run({"x": x}, ["loss"], program)
        got.append(float(net.value("x@alpha")[0]))
    np.testing.assert_allclose(got, want, rtol=1e-3)


def test_an_optimizer_of_the_users_takes_its_place():
    net, _ = _net()
    w = net.value("p0.w").astype("float64")
    net.minimize(lambda: paddle.optimizer.SGD(0.0))
    program = quant_aware(
        net.program,
        CPU,
        CONFIG,
        scope=net.scope,
        act_preprocess_func="pact",
        optimizer_func=lambda: paddle.optimizer.SGD(0.5),
    )
    _set(net, "x@alpha", 2.0)
    net.run({"x": X}, ["loss"], program)
    gradient = ((R.astype("float64") @ w.T) * np.sign(X) * (np.abs(X) > 2.0)).sum()
    np.testing.assert_allclose(net.value("x@alpha"), [max(2.0 - 0.5 * gradient, ALPHA_FLOOR)], rtol=1e-3)


def test_alpha_has_a_floor():
    net, _ = _net()
    program = _program(net, "after", PactConfig(optimizer="sgd", learning_rate=1e4, l2=1.0))
    _set(net, "x@alpha", 100.0)
    net.run({"x": X}, ["loss"], program)
    assert net.value("x@alpha")[0] == np.float32(ALPHA_FLOOR)


def test_alpha_alone_is_decayed():
    """L2 of PACT is alpha's; a weight with rate 0 stays to the bit."""
    net, _ = _net()
    w = net.value("p0.w")
    program = _program(net, "after", PactConfig(optimizer="sgd", learning_rate=0.1, l2=0.5))
    _set(net, "x@alpha", 100.0)
    net.run({"x": X}, ["loss"], program)
    np.testing.assert_allclose(net.value("x@alpha"), [100 - 0.1 * 0.5 * 100], rtol=1e-5)
    np.testing.assert_array_equal(net.value("p0.w"), w)


def test_before_minimize_alpha_is_a_parameter_with_its_decay():
    net, _ = _net()
    program = quant_aware(net.program, CPU, CONFIG, scope=net.scope, act_preprocess_func=PactConfig(l2=0.25))
    (alpha,) = [p for p in program.all_parameters() if p.name == "x@alpha"]
    assert alpha.trainable and "0.25" in str(alpha.regularizer)


def test_two_widths_of_one_tensor_share_alpha():
    net, _ = _net(readers=2)
    config = {**CONFIG, "rules": [{"names": ["p1"], "activation_bits": 4}]}
    program = _program(net, "after", PactConfig(l2=0.0, optimizer="sgd", learning_rate=0.1), config)
    _set(net, "x@alpha", 1.3)
    read = [o.input("X")[0] for o in program.global_block().ops if o.type == "matmul_v2"]
    wide, narrow, gradient = net.run({"x": X}, [*read, _alpha_gradient(program, "x@alpha")], program)
    np.testing.assert_allclose(wide, symmetric(X, 1.3, 16), atol=1e-5)
    np.testing.assert_allclose(narrow, symmetric(X, 1.3, 4), atol=1e-5)
    np.testing.assert_allclose(net.value("x@alpha"), [1.3 - 0.1 * np.ravel(gradient)[0]], rtol=1e-4)


def test_ops_whose_gradient_does_not_read_their_input():
    """relu_grad reads the output only; its clip must get a gradient all the same."""
    net = Net()
    net.relu(net.data("x", [-1, 6]), "y")
    net.linear("y", random(0, 6, 3), "z", trans_x=False, trans_y=False)
    net.weighted_sum("z", R)
    w = net.value("z.w").astype("float64")
    config = {**CONFIG, "quantize_op_types": ["relu"]}
    program = _program(net, "after", PactConfig(l2=0.0, optimizer="sgd"), config)
    _set(net, "x@alpha", 1.3)
    d_alpha, d_x = net.run({"x": X}, [_alpha_gradient(program, "x@alpha"), "x@GRAD"], program)
    upstream = R.astype("float64") @ w.T
    np.testing.assert_allclose(np.ravel(d_alpha), [(upstream * (X > 1.3)).sum()], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(d_x, upstream * ((X > 0) & (X <= 1.3)), rtol=1e-3, atol=1e-3)


def test_a_feed_has_a_scale_and_no_alpha():
    """No gradient reaches the image, so an alpha there could not be trained: it gets the configured quantizer."""
    net = mobile_net()
    net.minimize(lambda: paddle.optimizer.SGD(0.1))
    config = {"quantize_op_types": ["conv2d", "depthwise_conv2d", "matmul_v2"]}
    program = quant_aware(net.program, CPU, config, scope=net.scope, act_preprocess_func="pact")
    feed = {"x": random(0, 4, 3, 8, 8), "label": np.zeros((4, 1), "int64")}
    inner = net.value("flat@alpha")
    net.run(feed, ["loss"], program)
    assert net.scope.find_var("x@alpha") is None
    np.testing.assert_allclose(net.value("x@scale"), [np.abs(feed["x"]).max()], rtol=1e-6)
    assert np.abs(net.value("flat@alpha") - inner).max() > 0


def test_nothing_is_written_to_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net, _ = _net()
    program = _program(net, "after", "pact")
    net.run({"x": X}, ["loss"], program)
    assert os.listdir(tmp_path) == []
