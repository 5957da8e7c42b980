"""``LegalizeOnednn``: the same arithmetic, and right on the real oneDNN int8 path."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from small_programs import CONV, Net, mobile_net, random

from slimkit.deploy import paddle_inference
from slimkit.ir import Graph, Model
from slimkit.quant import QatTrainer
from slimkit.quant.passes.legalize_onednn import LegalizeOnednn

CPU = paddle.CPUPlace()
TYPES = ["conv2d", "depthwise_conv2d", "conv2d_transpose", "matmul_v2", "mul"]
FEED = {"x": random(0, 32, 3, 8, 8), "label": (np.arange(32) % 5).astype("int64").reshape(-1, 1)}


def _relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def _train(net, feed, fetch, **config):
    model = net.model(list(feed), [fetch, "loss"])
    config = {"quantize_op_types": TYPES, **config}
    qat = QatTrainer(model, config, "loss", lambda: paddle.optimizer.SGD(0.01), place=CPU)
    qat.initialise([feed])
    for _ in range(2):
        qat.train_step(feed, ["loss"])
    return qat


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Prefixes of the plain and the legalized export, and the simulated outputs."""
    folder = tmp_path_factory.mktemp("onednn")
    qat = _train(mobile_net(), FEED, "logits")
    plain = str(qat.export(folder / "plain", "onnx"))[: -len(".pdmodel")]
    legal = str(qat.export(folder / "legal", "onnx", "onednn"))[: -len(".pdmodel")]
    return plain, legal, qat.eval_step(FEED, ["logits"])[0]


def test_plain_outputs_do_not_change(exported):
    plain, legal, simulated = exported
    values = [Model.load(prefix).run([FEED["x"]])[0] for prefix in (plain, legal)]
    assert np.abs(values[1] - values[0]).max() <= 1e-6 * np.abs(values[0]).max()
    assert _relative(values[1], simulated) < 1e-4


def test_on_the_int8_path_it_agrees_and_the_plain_export_does_not(exported):
    plain, legal, simulated = exported
    (right,) = paddle_inference.run(legal, [[FEED["x"]]], int8=True)[0]
    (wrong,) = paddle_inference.run(plain, [[FEED["x"]]], int8=True)[0]
    assert _relative(right, simulated) < 0.08
    assert _relative(wrong, simulated) > 2 * _relative(right, simulated)


def test_convolutions_and_the_fully_connected_layer_run_in_int8(exported):
    found = paddle_inference.executed_precision(exported[1], FEED["x"])
    assert found["int8"] == 6 and found["float"] == 0, found["summary"]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("weight", ["channel_wise_abs_max", "abs_max"])
@pytest.mark.parametrize("size", [5, 8])
def test_fully_connected_layers(tmp_path, transposed, weight, size):
    """As 1x1 convolutions, also of a square weight, whose scales the runtime would read along the wrong axis."""
    net = Net()
    w = random(1, 8, size) * np.arange(1, size + 1, dtype="float32")
    x = net.relu(net.data("x", [-1, 8]), "a")
    y = net.linear(x, np.ascontiguousarray(w.T if transposed else w), "y", trans_x=False, trans_y=transposed)
    net.add(y, net.param("b", random(2, size)), "out")
    net.weighted_sum("out", random(3, 16, size, size=0.1))
    feed = {"x": random(9, 16, 8)}
    qat = _train(net, feed, "out", weight_quantize_type=weight)
    (simulated,) = qat.eval_step(feed, ["out"])
    prefix = str(qat.export(tmp_path / "m", "onnx", "onednn"))[: -len(".pdmodel")]
    model = Model.load(prefix)
    assert "conv2d" in model.op_counts() and "matmul_v2" not in model.op_counts()
    assert _relative(model.run([feed["x"]])[0], simulated) < 1e-5
    assert _relative(paddle_inference.run(prefix, [[feed["x"]]], int8=True)[0][0], simulated) < 0.02


def test_conv2d_transpose_does_not_abort(tmp_path):
    net = Net()
    x = net.relu(net.conv(net.data("x", [-1, 3, 6, 6], grad=False), random(1, 4, 3, 3, 3, size=0.4), "c"), "a")
    attrs = {**CONV, "output_size": [], "output_padding": []}
    net.op("conv2d_transpose", {"Output": "y"}, attrs, Input=x, Filter=net.param("w", random(2, 4, 2, 3, 3)))
    net.weighted_sum("y", random(3, 2, 2, 6, 6, size=0.1))
    feed = {"x": random(9, 2, 3, 6, 6)}
    qat = _train(net, feed, "y")
    (simulated,) = qat.eval_step(feed, ["y"])
    prefix = str(qat.export(tmp_path / "m", "onnx", "onednn"))[: -len(".pdmodel")]
    assert _relative(Model.load(prefix).run([feed["x"]])[0], simulated) < 1e-5
    assert _relative(paddle_inference.run(prefix, [[feed["x"]]], int8=True)[0][0], simulated) < 0.05


def test_it_counts_its_rewrites(exported):
    model = Model.load(exported[0])
    graph = Graph(model.program, for_test=True)
    counts = LegalizeOnednn(model.scope).apply(graph)
    assert counts["fully connected as 1x1 convolution"] == 1
    assert counts["scale stopped by assign"] >= 1
    again = LegalizeOnednn(model.scope).apply(graph)
    assert again["fully connected as 1x1 convolution"] == 0 and again["scale stopped by assign"] == 0
