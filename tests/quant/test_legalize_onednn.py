"""``LegalizeOnednn``: the same arithmetic, and right on the real oneDNN int8 path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from small_programs import AVERAGE_POOL, CONV, Net, mobile_net, random

from slimkit.deploy import paddle_inference
from slimkit.ir import Graph, Model
from slimkit.quant import QatTrainer
from slimkit.quant.export import export_program
from slimkit.quant.passes.legalize_onednn import LegalizeOnednn
from slimkit.quant.ptq import post_training_quantize
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable

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


def _residual_net() -> Net:
    """stem, max pool, a block with a projection, one without, average pool, fully connected."""
    net = Net()

    def conv_bn(x, out, into, size, stride=1):
        attrs = {"strides": [stride, stride], "paddings": [size // 2, size // 2]}
        channels = {"x": 3}.get(x, widths.get(x, 0))
        y = net.conv(
            x, random(sum(map(ord, out)), into, channels, size, size, size=(2 / channels) ** 0.5 / size), out, **attrs
        )
        widths[out] = widths[f"{out}.bn"] = into
        return net.batch_norm(y, f"{out}.bn", into)

    def relu(x, out, shape):
        widths[out] = shape[1]
        net.block.vars[x].desc.set_shape(shape)
        net.relu(x, out)
        net.block.vars[out].desc.set_shape(shape)
        return out

    def block(x, out, width, side, stride):
        shape = [-1, width, side, side]
        y = relu(conv_bn(x, f"{out}.1", width, 3, stride), f"{out}.r", shape)
        y = conv_bn(y, f"{out}.2", width, 3)
        short = conv_bn(x, f"{out}.p", width, 1, stride) if stride > 1 else x
        for name in (y, short):
            net.block.vars[name].desc.set_shape(shape)
        return relu(net.add(y, short, f"{out}.sum"), out, shape)

    widths: dict = {}
    x = net.data("x", [-1, 3, 16, 16], grad=False)
    x = relu(conv_bn(x, "stem", 8, 3), "stem.r", [-1, 8, 16, 16])
    pool = {**AVERAGE_POOL, "pooling_type": "max", "ksize": [2, 2], "strides": [2, 2], "adaptive": False}
    x = net.op("pool2d", {"Out": "pooled"}, pool, X=x)
    widths["pooled"] = 8
    x = block(block(x, "a", 16, 4, 2), "b", 16, 4, 1)
    x = net.op("pool2d", {"Out": "gap"}, AVERAGE_POOL, X=x)
    attrs = {"start_axis": 1, "stop_axis": 3}
    x = net.op("flatten_contiguous_range", {"Out": "flat", "XShape": "flat.xshape"}, attrs, X=x)
    net.block.vars["flat"].desc.set_shape([-1, 16])
    net.add(net.linear(x, random(8, 16, 6), "fc", trans_x=False, trans_y=False), net.param("fc.b", random(9, 6)), "y")
    return net


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    """(images, post-training result, prefix of its export for oneDNN)."""
    images = random(4, 8, 3, 16, 16)
    result = post_training_quantize(
        _residual_net().model(["x"], ["y"]), [{"x": images}], ("paddle",), {"algo": "abs_max"}
    )
    quantized = result.quantized["paddle"]
    prefix = tmp_path_factory.mktemp("residual") / "m"
    export_program(quantized.model, quantized.table, runtime="onednn").save(prefix)
    return images, quantized, str(prefix)


def test_residual_networks_run_wholly_in_int8_and_right(residual):
    images, _, prefix = residual
    found = paddle_inference.executed_precision(prefix, images)
    assert found["int8"] == 6 and found["hazards"] == [], found["summary"]
    assert [row["weight"] for row in found["fallback"]] == ["fc.w"]  # a small product of one pixel
    (simulated,) = Model.load(prefix).run([images])
    (int8,) = paddle_inference.run(prefix, [[images]], int8=True)[0]
    assert _relative(int8, simulated) < 0.04


def test_without_the_rewrites_it_is_wrong(residual, tmp_path):
    images, quantized, _ = residual
    prefix = str(tmp_path / "plain")
    export_program(quantized.model, quantized.table).save(prefix)
    found = paddle_inference.executed_precision(prefix, images)
    assert found["hazards"], found["summary"]


def test_only_relus_behind_signed_residuals_change(residual):
    counts = Model.load(residual[2]).op_counts()
    assert counts["leaky_relu"] == 2 and counts["relu"] == 3
    assert counts["assign"] == 1  # in front of the average pool, none at the max pool


def test_names_of_weights_inputs_and_results_stay(residual):
    _, quantized, prefix = residual
    model = Model.load(prefix)
    assert model.feeds == ["x"] and model.fetches == ["y"]
    stored = {name for name, value in model.params.items() if value.dtype == np.int8}
    weights = {params.tensor for params in quantized.table.weights().values()}
    assert stored == weights
    others = [v.name for v in model.program.list_vars() if v.name not in {*quantized.model.params, "x", "y"}]
    assert max(map(len, others)) <= 4


@pytest.mark.parametrize("op_type", ["matmul_v2", "mul"])
def test_square_weights_that_are_only_stored_as_integers(tmp_path, op_type):
    """The runtime would read the scales of the columns as those of the rows."""
    net = Net()
    x = net.data("x", [-1, 5, 8] if op_type == "matmul_v2" else [-1, 8])
    weight = random(1, 8, 8) * np.arange(1, 9, dtype="float32") ** 2
    more = (
        {"trans_x": False, "trans_y": False} if op_type == "matmul_v2" else {"x_num_col_dims": 1, "y_num_col_dims": 1}
    )
    net.add(net.linear(x, weight, "y", op_type, **more), net.param("b", random(2, 8)), "out")
    axis = QuantParams("y.w", np.abs(weight).max(axis=0), axis=1, is_weight=True)
    table = QuantTable({"y.w": axis}, [QuantizedOp(op_type, "y", {"Y": "y.w"})])
    model = net.model(["x"], ["out"])
    export_program(model, table, runtime="onednn").save(tmp_path / "m")
    values = random(3, 2, 5, 8) if op_type == "matmul_v2" else random(3, 4, 8)
    (int8,) = paddle_inference.run(tmp_path / "m", [[values]], int8=True)[0]
    step = axis.scale / 127
    expected = values @ (np.round(weight / step) * step) + net.value("b")
    assert _relative(int8, expected) < 1e-5


@pytest.mark.parametrize("size", [6, 8])
def test_products_over_more_than_rows_are_left_to_float(tmp_path, size):
    net = Net()
    x, weight = net.data("x", [-1, 5, 8]), random(1, 8, size) * np.arange(1, size + 1, dtype="float32")
    product = net.linear(x, weight, "y", trans_x=False, trans_y=False)
    net.add(product, net.param("b", random(2, size)), "out")
    values = random(3, 2, 5, 8)
    found = post_training_quantize(net.model(["x"], ["out"]), [{"x": values}], ("paddle-onnx",), {"algo": "abs_max"})
    quantized = found.quantized["paddle-onnx"]
    export_program(quantized.model, quantized.table, runtime="onednn").save(tmp_path / "m")
    assert paddle_inference.executed_precision(tmp_path / "m", [values])["hazards"] == []
    (int8,) = paddle_inference.run(tmp_path / "m", [[values]], int8=True)[0]
    assert _relative(int8, values @ weight + net.value("b")) < 0.02


def test_the_program_is_smaller_than_the_plain_export(residual, tmp_path):
    _, quantized, prefix = residual
    export_program(quantized.model, quantized.table).save(tmp_path / "plain")
    plain, legal = (Path(f"{stem}.pdmodel").stat().st_size for stem in (tmp_path / "plain", prefix))
    assert legal < 0.8 * plain


def test_a_scale_op_in_front_of_a_quantizer(tmp_path):
    """The runtime would give the quantizer's scale to what is behind the factor, a third of its range."""
    net = Net()
    net.data("x", [-1, 3, 8, 8])
    net.relu(net.conv("x", random(1, 4, 3, 3, 3), "a"), "b")
    net.conv(net.op("scale", {"Out": "c"}, {"scale": 3.0, "bias": 0.0}, X="b"), random(2, 2, 4, 1, 1), "y")
    assert _real_against_simulated(net, random(3, 4, 3, 8, 8), tmp_path) < 0.02


def test_a_square_weight_that_two_layers_share(tmp_path):
    """Products over three dimensions are float there, their weights integers."""
    net = Net()
    net.data("x", [-1, 5, 8])
    net.relu(net.linear("x", random(1, 8, 8) * np.arange(1, 9, dtype="float32"), "a"), "b")
    net.op("matmul_v2", {"Out": "y"}, {"trans_x": False, "trans_y": False}, X="b", Y="a.w")
    assert _real_against_simulated(net, random(3, 4, 5, 8), tmp_path) < 1e-4


def test_the_bias_of_a_depthwise_conv2d_transpose(tmp_path):
    """Between other transposed convolutions the runtime failed on a bias of shape (C,)."""
    net = Net()
    net.data("x", [-1, 3, 8, 8])
    net.relu(net.conv("x", random(1, 8, 3, 3, 3), "a"), "b")
    net.relu(net.conv("b", random(2, 8, 8, 2, 2), "c", "conv2d_transpose"), "d")
    net.conv("d", random(3, 8, 1, 2, 2), "e", "depthwise_conv2d_transpose", groups=8)
    net.relu(net.add("e", net.param("f", random(4, 8)), "g", axis=1), "h")
    net.conv("h", random(5, 8, 8, 2, 2), "y", "conv2d_transpose")
    assert _real_against_simulated(net, random(6, 4, 3, 8, 8), tmp_path) < 0.02


def _real_against_simulated(net, x, folder):
    """The relative difference of oneDNN int8 from the simulation."""
    result = post_training_quantize(net.model(["x"], ["y"]), [{"x": x}])
    quantized = result.quantized["paddle"]
    (simulated,) = export_program(quantized.model, quantized.table).run([x])
    prefix = str(export_program(quantized.model, quantized.table, runtime="onednn").save(folder / "m"))
    (real,) = paddle_inference.run(prefix, [[x]], int8=True)[0]
    return _relative(real, simulated)


def test_a_float_weight_of_whole_numbers(tmp_path):
    """The mean of a distribution over 0, 1, 2, ... in the heads of detectors: the runtime took it for integers."""
    net = Net()
    net.data("x", [-1, 3, 8, 8])
    net.conv("x", random(1, 4, 3, 8, 8), "a")
    net.op("reshape2", {"Out": "b", "XShape": "b.shape"}, {"shape": [-1, 4]}, X="a")
    net.linear("b", np.arange(4, dtype="float32"), "y", trans_x=False, trans_y=False)
    assert _real_against_simulated(net, random(3, 4, 3, 8, 8), tmp_path) < 0.02
