"""Exported programs give what the trained simulation gave."""

from __future__ import annotations

import itertools

import numpy as np
import paddle
import pytest
from small_programs import CONV, Net, mobile_net, random

from slimkit.errors import ConfigError
from slimkit.ir import Model
from slimkit.quant import QatTrainer
from slimkit.quant.config import ACTIVATION_TYPES, WEIGHT_TYPES

TYPES = ["conv2d", "depthwise_conv2d", "conv2d_transpose", "mul", "matmul", "matmul_v2"]
CROSS = list(itertools.product(WEIGHT_TYPES, ACTIVATION_TYPES, (2, 4, 8, 16), ("onnx", "old")))
SAMPLE = [
    (weight, ACTIVATION_TYPES[(i + 3 * j) % 6], (8, 4, 16, 2)[(i + j) % 4], ("onnx", "old")[(i + j) % 2])
    for j in range(2)
    for i, weight in enumerate(WEIGHT_TYPES)
]
USUAL = [("channel_wise_abs_max", "moving_average_abs_max", b, f) for b in (8, 4) for f in ("onnx", "old")]
IMAGES = random(0, 16, 3, 8, 8)
FEED = {"x": IMAGES, "label": (np.arange(16) % 5).astype("int64").reshape(-1, 1)}


def _config(weight="channel_wise_abs_max", activation="moving_average_abs_max", bits=8, **more):
    return {
        "weight_quantize_type": weight,
        "activation_quantize_type": activation,
        "weight_bits": bits,
        "activation_bits": bits,
        "quantize_op_types": TYPES,
        "window_size": 4,
        **more,
    }


def _train(net, feed, fetch, config, steps=3, pact=None):
    model = net.model(list(feed), [fetch, "loss"])
    qat = QatTrainer(model, config, "loss", lambda: paddle.optimizer.SGD(0.01), pact=pact, place=paddle.CPUPlace())
    qat.initialise([feed])
    for _ in range(steps):
        qat.train_step(feed, ["loss"])
    return qat


def _both(qat, feed, fetch, tmp_path, fmt, runtime=None):
    """(simulated, exported and loaded, the loaded model)."""
    (simulated,) = qat.eval_step(feed, [fetch])
    path = qat.export(tmp_path / fmt, fmt, runtime)
    model = Model.load(path)
    return simulated, model.run({n: feed[n] for n in model.feeds})[0], model


def _assert_equal(simulated, exported, tolerance=1e-4):
    assert np.abs(simulated - exported).max() <= tolerance * np.abs(simulated).max()
    np.testing.assert_array_equal(simulated.argmax(-1), exported.argmax(-1))


def _check(tmp_path, weight, activation, bits, fmt):
    qat = _train(mobile_net(), FEED, "logits", _config(weight, activation, bits))
    simulated, exported, _ = _both(qat, FEED, "logits", tmp_path, fmt)
    _assert_equal(simulated, exported)
    assert np.abs(simulated - qat.float_step(FEED, ["logits"])[0]).max() > 0  # it was quantized


@pytest.mark.parametrize("weight, activation, bits, fmt", [*USUAL, *SAMPLE])
def test_exported_equals_simulated(tmp_path, weight, activation, bits, fmt):
    _check(tmp_path, weight, activation, bits, fmt)


@pytest.mark.slow
@pytest.mark.parametrize("weight, activation, bits, fmt", CROSS)
def test_exported_equals_simulated_for_all(tmp_path, weight, activation, bits, fmt):
    _check(tmp_path, weight, activation, bits, fmt)


@pytest.mark.parametrize("fmt", ["onnx", "old"])
@pytest.mark.parametrize("form", ["two_sided", "relu"])
def test_pact_leaves_no_trace(tmp_path, fmt, form):
    qat = _train(mobile_net(), FEED, "logits", _config(bits=4), pact={"form": form, "learning_rate": 0.1})
    simulated, exported, model = _both(qat, FEED, "logits", tmp_path, fmt)
    _assert_equal(simulated, exported)
    names = [v.name for v in model.program.list_vars()] + [op.type for op in model.program.global_block().ops]
    assert not [n for n in names if any(word in n.lower() for word in ("alpha", "pact", "clip"))]
    table = qat.table()
    assert table.params["flat"].scale[0] == np.float32(qat.alphas().get("flat", table.params["flat"].scale[0]))


@pytest.mark.parametrize("bits, dtype", [(8, np.int8), (4, np.int8), (16, np.int16)])
def test_weights_are_stored_as_integers(tmp_path, bits, dtype):
    qat = _train(mobile_net(), FEED, "logits", _config(bits=bits))
    model = Model.load(qat.export(tmp_path / "m", "onnx"))
    for name in ("stem.w", "dw.w", "se.reduce.w", "project.w", "fc.w"):
        value = model.params[name]
        assert value.dtype == dtype and np.abs(value.astype(int)).max() == 2 ** (bits - 1) - 1
    assert model.params["fc.b"].dtype == np.float32


def test_the_old_format_holds_whole_numbers(tmp_path):
    qat = _train(mobile_net(), FEED, "logits", _config())
    value = Model.load(qat.export(tmp_path / "m", "old")).params["stem.w"]
    np.testing.assert_array_equal(value, np.round(value))
    assert np.abs(value).max() == 127


def test_export_does_not_touch_the_trainer(tmp_path):
    qat = _train(mobile_net(), FEED, "logits", _config())
    before = qat.state_dict()
    for fmt in ("onnx", "old"):
        qat.export(tmp_path / fmt, fmt)
    after = qat.state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


# ------------------------------------------------------------------------------------------- shared and doubled

R = random(3, 4, 5)


def _two_products(second_transposed=False):
    """p = x w and q = x w (or x w^T), y = p * q; one weight, one input."""
    net = Net()
    x, w = net.relu(net.data("x", [-1, 5]), "a"), net.param("w", random(1, 5, 5))
    net.op("matmul_v2", {"Out": "p"}, {"trans_x": False, "trans_y": False}, X=x, Y=w)
    net.op("matmul_v2", {"Out": "q"}, {"trans_x": False, "trans_y": second_transposed}, X=x, Y=w)
    net.op("elementwise_mul", {"Out": "y"}, {"axis": -1}, X="p", Y="q")
    net.weighted_sum("y", R)
    return net


ACTIVATIONS = ["moving_average_abs_max", "moving_average_min_max", "abs_max"]
DOUBLES = {
    "shared with a float op": ([{"names": ["q"], "skip": True}], False),
    "activation on two grids": ([{"names": ["q"], "activation_bits": 4}], False),
    "weight on two grids": ([{"names": ["q"], "weight_bits": 4}], False),
    "both on two grids": ([{"names": ["p"], "weight_bits": 3, "activation_bits": 5}], False),
    "weight on two axes": ([], True),
    "two axes and two grids": ([{"names": ["q"], "weight_bits": 4, "activation_bits": 3}], True),
}


@pytest.mark.parametrize("fmt", ["onnx", "old"])
@pytest.mark.parametrize("weight", ["channel_wise_abs_max", "abs_max", "channel_wise_min_max"])
@pytest.mark.parametrize("case", DOUBLES)
def test_shared_and_doubled_tensors(tmp_path, case, weight, fmt):
    rules, transposed = DOUBLES[case]
    feed = {"x": random(9, 4, 5)}
    activation = ACTIVATIONS[len(case + weight) % 3]
    qat = _train(_two_products(transposed), feed, "y", _config(weight, activation, rules=rules))
    simulated, exported, _ = _both(qat, feed, "y", tmp_path, fmt)
    np.testing.assert_allclose(exported, simulated, atol=1e-4 * np.abs(simulated).max())


@pytest.mark.parametrize("fmt", ["onnx", "old"])
@pytest.mark.parametrize("weight", ["channel_wise_abs_max", "abs_max"])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_transpose(tmp_path, weight, fmt, groups):
    net = Net()
    attrs = {**CONV, "groups": groups, "output_size": [], "output_padding": []}
    widths = (1 + np.arange(6 // groups, dtype="float32"))[None, :, None, None]
    w = net.param("w", random(1, 4, 6 // groups, 3, 3) * widths)
    x = net.relu(net.data("x", [-1, 4, 5, 5]), "a")
    net.op("conv2d_transpose", {"Output": "y"}, attrs, Input=x, Filter=w)
    net.weighted_sum("y", random(3, 2, 6, 5, 5))
    feed = {"x": random(9, 2, 4, 5, 5)}
    qat = _train(net, feed, "y", _config(weight), steps=1)
    simulated, exported, _ = _both(qat, feed, "y", tmp_path, fmt)
    np.testing.assert_allclose(exported, simulated, atol=1e-4 * np.abs(simulated).max())


@pytest.mark.parametrize("fmt", ["onnx", "old"])
@pytest.mark.parametrize("op, attrs", [("mul", {"x_num_col_dims": 2, "y_num_col_dims": 1}), ("matmul_v2", {})])
def test_products_of_rank_3(tmp_path, op, attrs, fmt):
    net = Net()
    net.linear(net.relu(net.data("x", [-1, 3, 5]), "a"), random(1, 5, 6), "y", op, **attrs)
    net.weighted_sum("y", random(3, 2, 3, 6))
    feed = {"x": random(9, 2, 3, 5)}
    qat = _train(net, feed, "y", _config(), steps=1)
    simulated, exported, _ = _both(qat, feed, "y", tmp_path, fmt)
    np.testing.assert_allclose(exported, simulated, atol=1e-4 * np.abs(simulated).max())


@pytest.mark.parametrize("fmt", ["onnx", "old"])
def test_full_quantize(tmp_path, fmt):
    qat = _train(mobile_net(), FEED, "logits", _config(is_full_quantize=True), steps=2)
    simulated, exported, _ = _both(qat, FEED, "logits", tmp_path, fmt)
    assert np.abs(simulated - exported).max() <= 1e-4 * np.abs(simulated).max()


def test_a_channel_of_zeros(tmp_path):
    net = mobile_net()
    w = net.value("stem.w")
    w[2] = 0
    net.scope.find_var("stem.w").get_tensor().set(w, paddle.CPUPlace())
    qat = _train(net, FEED, "logits", _config(), steps=0)
    for fmt in ("onnx", "old"):
        simulated, exported, _ = _both(qat, FEED, "logits", tmp_path, fmt)
        _assert_equal(simulated, exported)


def test_unknown_formats_and_runtimes(tmp_path):
    qat = _train(mobile_net(), FEED, "logits", _config(), steps=0)
    with pytest.raises(ConfigError, match=r"'onx'.*onnx, old"):
        qat.export(tmp_path / "m", "onx")
    with pytest.raises(ConfigError, match=r"'tpu'.*onednn"):
        qat.export(tmp_path / "m", "onnx", "tpu")
    assert not list(tmp_path.iterdir())
