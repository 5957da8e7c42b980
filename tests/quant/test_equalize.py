"""Equalize keeps what the model computes and makes one scale fit all channels of a depthwise convolution's input."""

from __future__ import annotations

import numpy as np
import pytest
from small_programs import Net, random

from slimkit import ConfigError
from slimkit.ir import Graph, Model, legacy_ir
from slimkit.numerics import sqnr_db
from slimkit.quant import export_program, post_training_quantize
from slimkit.quant.passes.equalize import Equalize, equalizable
from slimkit.quant.ptq import equalize, prepare

SPREAD = np.array([1.0, 10.0, 0.1, 3.0], np.float32)


def _net(between: str = "relu", second_reader: bool = False) -> Model:
    """conv with channels of very different sizes -> something -> depthwise."""
    net = Net()
    x = net.data("x", [-1, 3, 8, 8])
    y = net.conv(x, random(0, 4, 3, 3, 3) * SPREAD.reshape(4, 1, 1, 1), "c")
    y = net.add(y, net.param("b", random(1, 4) * SPREAD), "a", axis=1)
    if between:
        attrs = {"threshold": 6.0, "scale": 6.0, "offset": 3.0} if between == "hard_swish" else {}
        y = net.op(between, {"Out": "r"}, attrs, X=y)
    weight = random(2, 4, 1, 3, 3) / SPREAD.reshape(4, 1, 1, 1)  # so that every channel matters as much
    z = net.conv(y, weight, "d", "depthwise_conv2d", groups=4)
    fetches = [net.relu(z, "out")]
    if second_reader:
        fetches.append(net.op("sigmoid", {"Out": "other"}, X=y))
    return net.model(["x"], fetches)


def _feeds() -> list:
    return [{"x": random(10 + i, 2, 3, 8, 8)} for i in range(5)]


@pytest.mark.parametrize("between", ["", "relu", "hard_swish"])
@pytest.mark.parametrize("second_reader", [False, True])
def test_the_model_computes_the_same(between: str, second_reader: bool):
    model = _net(between, second_reader)
    equal = prepare(model)
    folds = between != "hard_swish" and not second_reader
    assert equalize(equal, _feeds()) == {"folded" if folds else "multiplied": 1}
    assert equal.op_counts().get("elementwise_mul", 0) == (0 if folds else 1)
    x = random(3, 2, 3, 8, 8)
    for one, other in zip(model.run([x]), equal.run([x])):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)


def test_channels_have_one_range_afterwards():
    model = prepare(_net())
    before = np.max([np.abs(model.run(feed, ["r"])[0]).max(axis=(0, 2, 3)) for feed in _feeds()[::4]], axis=0)
    equalize(model, _feeds())
    with legacy_ir():
        name = equalizable(Graph(model.program, for_test=True))[0]
    seen = [model.run(feed, [name])[0] for feed in _feeds()[::4]]  # every fourth batch is observed
    ranges = np.max([np.abs(values).max(axis=(0, 2, 3)) for values in seen], axis=0)
    np.testing.assert_allclose(ranges, np.minimum(before.max(), before * 32), rtol=1e-4)  # stretched 32 times at most
    assert before.max() / before.min() > 50


def test_quantization_gains():
    model = _net()
    x = random(4, 8, 3, 8, 8)
    found = {}
    for wanted in (True, False):
        result = post_training_quantize(model, _feeds(), config={"equalize": wanted, "algo": "abs_max"})
        quantized = result.quantized["paddle"]
        found[wanted] = sqnr_db(model.run([x])[0], export_program(quantized.model, quantized.table).run([x])[0])
    assert found[True] > found[False] + 3


def test_a_small_gain_is_not_worth_an_op():
    model = prepare(_net("hard_swish"))
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        ranges = {"r": np.array([1.0, 0.9, 1.1, 1.0], np.float32)}
        assert Equalize(model.scope, ranges, model.fetches).apply(graph) == {}
        assert Equalize(model.scope, {"r": np.zeros(4, np.float32)}, model.fetches).apply(graph) == {}


def test_a_result_of_the_model_stays_what_it_is():
    net = Net()
    x = net.data("x", [-1, 3, 8, 8])
    y = net.relu(net.conv(x, random(0, 4, 3, 3, 3) * SPREAD.reshape(4, 1, 1, 1), "c"), "r")
    z = net.conv(y, random(2, 4, 1, 3, 3), "d", "depthwise_conv2d", groups=4)
    model = net.model(["x"], [z, "r"])
    equal = prepare(model)
    equalize(equal, _feeds())
    x = random(3, 2, 3, 8, 8)
    for one, other in zip(model.run([x]), equal.run([x])):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)


def test_it_belongs_to_the_calibration():
    result = post_training_quantize(_net(), _feeds())
    with pytest.raises(ConfigError, match="equalize cannot be changed"):
        result.requantize({"equalize": False})
    assert equalize(prepare(_net()), iter(_feeds())) == {}  # data that can be read once only is left for calibration
