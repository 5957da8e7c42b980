"""The static API as PaddleSlim's tutorials use it: quant_aware, train, convert, save, load, run; and users' hooks."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from grids import by_type
from paddle.base import core
from paddle.base.layer_helper import LayerHelper
from small_programs import Net, mobile_net, random, run

from slimkit.errors import ConfigError, ModelError, TrainingError
from slimkit.ir import Graph, legacy_ir
from slimkit.quant import convert, initialise_scales, quant_aware

CPU = paddle.CPUPlace()
FEED = {"x": random(0, 16, 3, 8, 8), "label": (np.arange(16) % 5).astype("int64").reshape(-1, 1)}
CONFIG = {
    "weight_quantize_type": "channel_wise_abs_max",
    "activation_quantize_type": "moving_average_abs_max",
    "quantize_op_types": ["conv2d", "depthwise_conv2d", "mul", "matmul_v2"],
}


def _momentum():
    return paddle.optimizer.Momentum(0.05, momentum=0.9)


def _train(net, config, steps=5, feed=FEED, **functions):
    """(train program, test program), trained."""
    test = net.test_program()
    net.minimize(_momentum)
    train = quant_aware(net.program, CPU, config, scope=net.scope, for_test=False, **functions)
    functions.pop("optimizer_func", None)
    test = quant_aware(test, CPU, config, scope=net.scope, for_test=True, **functions)
    losses = [float(net.run(feed, ["loss"], train)[0]) for _ in range(steps)]
    assert losses[-1] < losses[0]
    return train, test


def _save_and_run(net, program, tmp_path, fetch="logits"):
    with legacy_ir():
        executor = paddle.static.Executor(CPU)
        block = program.global_block()
        with paddle.static.scope_guard(net.scope):
            paddle.static.save_inference_model(
                str(tmp_path / "m"), [block.vars["x"]], [block.vars[fetch]], executor, program=program
            )
        fresh = core.Scope()
        with paddle.static.scope_guard(fresh):
            loaded, feeds, fetches = paddle.static.load_inference_model(str(tmp_path / "m"), executor)
            out = executor.run(loaded, feed={feeds[0]: FEED["x"]}, fetch_list=fetches)[0]
        return np.asarray(out), loaded, fresh


@pytest.mark.parametrize("onnx_format", [True, False])
@pytest.mark.parametrize("bits", [8, 4])
def test_tutorial(tmp_path, onnx_format, bits):
    config = {**CONFIG, "onnx_format": onnx_format, "weight_bits": bits, "activation_bits": bits}
    net = mobile_net()
    _, test = _train(net, config)
    (simulated,) = net.run(FEED, ["logits"], test)
    frozen = convert(test, CPU, config, scope=net.scope)
    types = {op.type for op in frozen.global_block().ops}
    assert ("quantize_linear" in types) == onnx_format
    assert ("fake_quantize_moving_average_abs_max" in types) == (not onnx_format)
    out, _, _ = _save_and_run(net, frozen, tmp_path)
    assert np.abs(out - simulated).max() <= 1e-4 * np.abs(simulated).max()
    np.testing.assert_array_equal(out.argmax(1), simulated.argmax(1))


def test_the_global_scope_is_the_default():
    net = mobile_net()
    with paddle.static.scope_guard(net.scope):
        program = quant_aware(net.program, CPU, CONFIG)
        assert net.scope.find_var("x@scale") is not None
        net.run(FEED, ["loss"], program)
        convert(quant_aware(net.test_program(), CPU, CONFIG, for_test=True), CPU, CONFIG)


@pytest.mark.parametrize("onnx_format", [True, False])
def test_save_int8(tmp_path, onnx_format):
    config = {**CONFIG, "onnx_format": onnx_format}
    net = mobile_net()
    _, test = _train(net, config)
    (simulated,) = net.run(FEED, ["logits"], test)
    frozen, stored = convert(test, CPU, config, scope=net.scope, save_int8=True)
    for program in (frozen, stored):
        (value,) = net.run({"x": FEED["x"]}, ["logits"], _inference(program))
        assert np.abs(value - simulated).max() <= 1e-4 * np.abs(simulated).max()
    out, loaded, scope = _save_and_run(net, stored, tmp_path)
    assert np.abs(out - simulated).max() <= 1e-4 * np.abs(simulated).max()
    held = {
        v.name: np.array(scope.find_var(v.name).get_tensor())
        for v in loaded.list_vars()
        if v.persistable and scope.find_var(v.name) is not None and v.name not in ("feed", "fetch")
    }
    weights = {n: v for n, v in held.items() if n.split(".int8")[0] in ("stem.w", "dw.w", "project.w", "fc.w")}
    assert len(weights) == 4 and all(v.dtype == np.int8 for v in weights.values())


def _inference(program):
    with legacy_ir():
        return program._prune_with_input(["x"], [program.global_block().vars["logits"]])


def test_convert_runs_once():
    for onnx_format in (True, False):
        config = {**CONFIG, "onnx_format": onnx_format}
        net = mobile_net()
        _, test = _train(net, config)
        convert(test, CPU, config, scope=net.scope)
        with pytest.raises(ModelError, match="integers already"):
            convert(test, CPU, config, scope=net.scope)


def test_convert_wants_the_trained_scope():
    net = mobile_net()
    _, test = _train(net, CONFIG)
    with pytest.raises(ModelError, match="no value in the scope"):
        convert(test, CPU, CONFIG, scope=core.Scope())


def test_the_source_program_is_left_alone():
    net = mobile_net()
    net.minimize(_momentum)
    before = net.program.desc.serialize_to_string()
    quant_aware(net.program, CPU, CONFIG, scope=net.scope, act_preprocess_func="pact")
    assert net.program.desc.serialize_to_string() == before


def test_edits_grow_with_the_ops(monkeypatch):
    """Twice the network, at most twice the edits."""
    counts = []
    insert, replace = Graph.insert_op, Graph.replace_input

    def chain(depth):
        net = Net()
        x = net.data("x", [-1, 4])
        for i in range(depth):
            x = net.relu(net.linear(x, random(i, 4, 4), f"h{i}", trans_x=False, trans_y=False), f"a{i}")
        net.weighted_sum(x, random(1, 2, 4))
        net.minimize(_momentum)
        return net

    monkeypatch.setattr(Graph, "insert_op", lambda self, *a, **k: (counts.append(1), insert(self, *a, **k))[1])
    monkeypatch.setattr(Graph, "replace_input", lambda self, *a, **k: (counts.append(1), replace(self, *a, **k))[1])
    found = []
    for depth in (4, 8, 16):
        net = chain(depth)
        counts.clear()
        quant_aware(net.program, CPU, CONFIG, scope=net.scope)
        found.append(len(counts))
    assert found[1] - found[0] == 4 * (found[0] // 4) and found[2] - found[1] == 2 * (found[1] - found[0])


def test_modes_are_restored():
    assert paddle.in_dynamic_mode()
    net = mobile_net()
    state = paddle.get_rng_state()
    quant_aware(net.program, CPU, CONFIG, scope=net.scope, act_preprocess_func="pact")
    with pytest.raises(ConfigError):
        quant_aware(net.program, CPU, {"weight_bit": 1}, scope=net.scope)

    def broken(x):
        raise ValueError("no")

    with pytest.raises(ConfigError, match="broken"):
        quant_aware(net.program, CPU, CONFIG, scope=net.scope, act_preprocess_func=broken)
    assert paddle.in_dynamic_mode()
    held = paddle.rand([4]).numpy()
    paddle.set_rng_state(state)
    np.testing.assert_array_equal(paddle.rand([4]).numpy(), held)


# ---------------------------------------------------------------------------------------------- the user's hooks


def legacy_pact(x):
    """PACT as PaddleSlim's tutorials write it."""
    helper = LayerHelper("pact", **{})
    u_param = helper.create_parameter(
        attr=paddle.ParamAttr(
            name=x.name + "_pact",
            initializer=paddle.nn.initializer.Constant(value=1.2),
            regularizer=paddle.regularizer.L2Decay(0.0001),
            learning_rate=1,
        ),
        shape=[1],
        dtype=x.dtype,
    )
    x = paddle.subtract(x, paddle.nn.functional.relu(paddle.subtract(x, u_param)))
    return paddle.add(x, paddle.nn.functional.relu(paddle.subtract(-u_param, x)))


R = random(3, 4, 3)
X = random(9, 4, 6, size=2.0)
PLAIN = {**CONFIG, "activation_quantize_type": "abs_max", "weight_bits": 16, "activation_bits": 16}


def _one_layer():
    net = Net()
    net.linear(net.data("x", [-1, 6]), random(1, 6, 3), "y", trans_x=False, trans_y=False)
    net.weighted_sum("y", R)
    return net


def _sgd(rate=0.1):
    return lambda: paddle.optimizer.SGD(rate)


def test_legacy_pact_trains_its_parameter():
    net = _one_layer()
    w = net.value("y.w").astype("float64")
    net.minimize(_sgd(0.0))
    program = quant_aware(
        net.program, CPU, PLAIN, scope=net.scope, act_preprocess_func=legacy_pact, optimizer_func=_sgd(0.01)
    )
    y, d_x = net.run({"x": X}, ["y", "x@GRAD"], program)
    upstream = R.astype("float64") @ w.T
    np.testing.assert_allclose(y, np.clip(X, -1.2, 1.2) @ w, atol=5e-3)
    np.testing.assert_allclose(d_x, upstream * (np.abs(X) < 1.2), rtol=2e-3, atol=2e-3)
    gradient = (upstream * np.sign(X) * (np.abs(X) > 1.2)).sum()
    (name,) = [v.name for v in program.list_vars() if v.persistable and v.name.endswith("_pact")]
    got = (np.float32(1.2) - net.value(name)[0]) / 0.01
    assert min(abs(got - gradient), abs(got - gradient - 1e-4 * 1.2)) < 5e-3


def test_hooks_of_train_and_test_share_parameters(tmp_path):
    net = mobile_net()
    functions = {"act_preprocess_func": legacy_pact, "optimizer_func": _sgd(0.01)}
    train, test = _train(net, CONFIG, **functions)
    names = [sorted(v.name for v in p.list_vars() if v.persistable and v.name.endswith("_pact")) for p in (train, test)]
    assert names[0] == names[1] and len(names[0]) == 6
    assert any(net.value(n)[0] != np.float32(1.2) for n in names[0])
    (simulated,) = net.run(FEED, ["logits"], test)
    out, _, _ = _save_and_run(net, convert(test, CPU, CONFIG, scope=net.scope), tmp_path)
    assert np.abs(out - simulated).max() <= 1e-4 * np.abs(simulated).max()


def test_hooks_that_create_parameters_need_an_optimizer():
    net = _one_layer()
    net.minimize(_sgd())
    with pytest.raises(ConfigError, match="optimizer_func"):
        quant_aware(net.program, CPU, PLAIN, scope=net.scope, act_preprocess_func=legacy_pact)


def half(x):
    return paddle.scale(x, 0.5)


def squash(x):
    return paddle.tanh(x)


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_weight_preprocess_without_parameters(order):
    net = _one_layer()
    w = net.value("y.w")
    if order == "after":
        net.minimize(_sgd(0.0))
    program = quant_aware(net.program, CPU, PLAIN, scope=net.scope, weight_preprocess_func=squash)
    if order == "before":
        from small_programs import minimize

        minimize(program, _sgd(0.0), "loss", net.scope)
    y, gradient = net.run({"x": X}, ["y", "y.w@GRAD"], program)
    np.testing.assert_allclose(y, X @ np.tanh(w), atol=5e-3)
    np.testing.assert_allclose(gradient, (X.T @ R) * (1 - np.tanh(w) ** 2), rtol=2e-3, atol=2e-3)


def test_preprocess_and_quantize_of_one_tensor_chain():
    """w -> tanh -> 0.5 * (the user's quantizer): both derivatives reach w."""
    net = _one_layer()
    w = net.value("y.w")
    net.minimize(_sgd(0.0))
    program = quant_aware(
        net.program, CPU, PLAIN, scope=net.scope, weight_preprocess_func=squash, weight_quantize_func=half
    )
    y, gradient = net.run({"x": X}, ["y", "y.w@GRAD"], program)
    np.testing.assert_allclose(y, X @ (0.5 * np.tanh(w)), atol=5e-3)
    np.testing.assert_allclose(gradient, 0.5 * (X.T @ R) * (1 - np.tanh(w) ** 2), rtol=2e-3, atol=2e-3)


def test_a_hooked_tensor_on_two_grids():
    """Each grid has the function once; its parameter is one."""
    net = Net()
    x = net.data("x", [-1, 6])
    for i in range(2):
        net.linear(x, random(i, 6, 3), f"p{i}", trans_x=False, trans_y=False)
    net.weighted_sum(net.add("p0", "p1", "y"), R)
    weights = [net.value(f"p{i}.w").astype("float64") for i in range(2)]
    net.minimize(_sgd(0.0))
    config = {**PLAIN, "rules": [{"names": ["p1"], "activation_bits": 12}]}
    functions = {"act_preprocess_func": legacy_pact, "optimizer_func": _sgd(0.01)}
    program = quant_aware(net.program, CPU, config, scope=net.scope, **functions)
    y, d_x = net.run({"x": X}, ["y", "x@GRAD"], program)
    upstream = sum(R.astype("float64") @ w.T for w in weights)
    np.testing.assert_allclose(y, np.clip(X, -1.2, 1.2) @ sum(weights), atol=2e-2)
    np.testing.assert_allclose(d_x, upstream * (np.abs(X) < 1.2), rtol=2e-3, atol=2e-3)
    (name,) = {v.name for v in program.list_vars() if v.persistable and v.name.endswith("_pact")}
    gradient = (upstream * np.sign(X) * (np.abs(X) > 1.2)).sum()
    assert abs((np.float32(1.2) - net.value(name)[0]) / 0.01 - gradient) < 1e-2


def test_an_activation_quantizer_of_the_users():
    net = _one_layer()
    net.minimize(_sgd(0.0))
    config = {**PLAIN, "weight_quantize_type": "abs_max", "weight_bits": 4}
    program = quant_aware(net.program, CPU, config, scope=net.scope, act_quantize_func=half)
    y, d_x = net.run({"x": X}, ["y", "x@GRAD"], program)
    w = by_type("abs_max", net.value("y.w"), 4)
    np.testing.assert_allclose(y, 0.5 * X @ w, atol=1e-4)
    np.testing.assert_allclose(d_x, 0.5 * R @ w.T, atol=1e-4)


@pytest.mark.parametrize("value, words", [("pakt", "'pakt'.*pact"), (3, "must be a function")])
def test_hooks_that_are_none(value, words):
    with pytest.raises(ConfigError, match=words):
        quant_aware(_one_layer().program, CPU, PLAIN, scope=core.Scope(), act_preprocess_func=value)


def test_return_program_is_accepted():
    net = _one_layer()
    program = quant_aware(net.program, CPU, PLAIN, scope=net.scope, return_program=True)
    assert isinstance(program, paddle.static.Program) or type(program).__name__ == "Program"
    run(program, net.scope, {"x": X}, ["y"])


@pytest.mark.parametrize("onnx_format", [True, False])
def test_a_block_of_control_flow(onnx_format):
    """The product inside a while loop is quantized like any other."""
    net = Net()
    net.data("x", [2, 2], grad=False)
    net.param("w", random(3, 2, 2, size=0.5))
    with legacy_ir(), paddle.static.program_guard(net.program):
        block = net.block
        ints = int(core.VarDesc.VarType.INT64)
        for name, value in (("i", 0.0), ("n", 2.0)):
            block.create_var(name=name, shape=[1], dtype="int64")
            attrs = {"shape": [1], "dtype": ints, "value": value}
            block.append_op(type="fill_constant", outputs={"Out": [name]}, attrs=attrs)
        acc = block.create_var(name="acc", shape=[2, 2], dtype="float32")
        more = block.create_var(name="more", shape=[1], dtype="bool")
        less = {"type": "less_than", "inputs": {"X": ["i"], "Y": ["n"]}, "attrs": {"axis": -1}}
        block.append_op(type="assign", inputs={"X": ["x"]}, outputs={"Out": ["acc"]})
        block.append_op(outputs={"Out": ["more"]}, **less)
        inner = net.program._create_block()
        inner.create_var(name="product", shape=[2, 2], dtype="float32")
        inner.append_op(type="matmul_v2", inputs={"X": ["acc"], "Y": ["w"]}, outputs={"Out": ["product"]})
        inner.append_op(type="assign", inputs={"X": ["product"]}, outputs={"Out": [acc]})
        attrs = {"step": 1.0}
        inner.append_op(type="increment", inputs={"X": ["i"]}, outputs={"Out": [block.vars["i"]]}, attrs=attrs)
        inner.append_op(outputs={"Out": [more]}, **less)
        net.program._rollback()
        scopes = block.create_var(name="scopes", type=core.VarDesc.VarType.STEP_SCOPES)
        block.append_op(
            type="while",
            inputs={"X": ["acc", "w", "i", "n"], "Condition": ["more"]},
            outputs={"Out": ["acc", "i", "more"], "StepScopes": [scopes]},
            attrs={"sub_block": inner, "is_test": True},
        )
        block.create_var(name="y", shape=[2, 2], dtype="float32")
        block.append_op(type="assign", inputs={"X": ["acc"]}, outputs={"Out": ["y"]})
    config = {**CONFIG, "weight_quantize_type": "abs_max", "onnx_format": onnx_format}
    test = quant_aware(net.program, CPU, config, scope=net.scope, for_test=True)
    net.scope.find_var("acc@scale").get_tensor().set(np.full(1, 3.0, "float32"), CPU)
    x, w = random(5, 2, 2), by_type("abs_max", net.value("w"), 8)
    want = x
    for _ in range(2):
        want = by_type("abs_max", want, 8, ranges=3.0) @ w
    np.testing.assert_allclose(net.run({"x": x}, ["y"], test)[0], want, atol=1e-4)
    frozen = convert(test, CPU, config, scope=net.scope)
    np.testing.assert_allclose(net.run({"x": x}, ["y"], frozen)[0], want, atol=1e-4)


@pytest.mark.parametrize("functions", [{}, {"act_preprocess_func": "pact"}])
def test_initialise_scales(functions):
    """Scales and alpha start from the float network's activations, and a feed gets a scale, not an alpha."""
    net = mobile_net()
    test, float_test = net.test_program(), net.test_program()
    net.minimize(_momentum)
    quant_aware(net.program, CPU, CONFIG, scope=net.scope, **functions)
    test = quant_aware(test, CPU, CONFIG, scope=net.scope, for_test=True, **functions)
    initialise_scales(test, [FEED, FEED], CPU, CONFIG, net.scope, {"init": "max"})

    assert net.scope.find_var("x@alpha") is None
    np.testing.assert_allclose(net.value("x@scale"), [np.abs(FEED["x"]).max()], rtol=1e-6)
    states = [op.input("InScale")[0] for op in test.global_block().ops if "InScale" in op.input_names]
    assert any(name.endswith("@alpha") for name in states) == bool(functions)
    for state in states:
        tensor = state.rsplit("@", 1)[0]
        (values,) = net.run(FEED, [tensor], float_test)
        np.testing.assert_allclose(net.value(state), [np.abs(values).max()], rtol=1e-5)


def test_initialise_scales_needs_a_batch():
    net = mobile_net()
    test = quant_aware(net.test_program(), CPU, CONFIG, scope=net.scope, for_test=True)
    with pytest.raises(TrainingError, match="no batch"):
        initialise_scales(test, [], CPU, CONFIG, net.scope)
