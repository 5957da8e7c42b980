"""FoldLinear and RemoveIdentity keep what the model computes and leave one canonical form."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from small_programs import BATCH_NORM, Net, random

from slimkit.ir import Graph, Model, legacy_ir
from slimkit.quant.passes.fold_linear import FoldLinear
from slimkit.quant.passes.remove_identity import RemoveIdentity


def _norm(net: Net, x: str, out: str, channels: int, seed: int = 1) -> str:
    names = {
        slot: net.param(f"{out}.{slot}", value)
        for slot, value in {
            "Scale": random(seed, channels) + 1,
            "Bias": random(seed + 1, channels),
            "Mean": random(seed + 2, channels),
            "Variance": np.abs(random(seed + 3, channels)) + 0.5,
        }.items()
    }
    outputs = {
        "Y": out,
        "MeanOut": names["Mean"],
        "VarianceOut": names["Variance"],
        "SavedMean": f"{out}.m",
        "SavedVariance": f"{out}.v",
    }
    net.op("batch_norm", outputs, {**BATCH_NORM, "is_test": True}, X=x, **names)
    return out


def _apply(model: Model, *passes) -> Model:
    copy = model.clone(copy_params=True)
    with legacy_ir():
        graph = Graph(copy.program, for_test=True)
        for one in passes:
            one(copy).apply(graph)
        copy.program = graph.to_program()
    return copy


def _fold(model: Model) -> Model:
    return _apply(model, lambda m: FoldLinear(m.scope, m.fetches))


def _same(a: Model, b: Model, x: np.ndarray) -> None:
    for one, other in zip(a.run([x]), b.run([x])):
        assert np.abs(one).max() > 0.1
        np.testing.assert_allclose(other, one, rtol=2e-5, atol=2e-5)


def test_batch_norm_bias_and_scalars_become_weight_and_one_bias():
    net = Net()
    x = net.data("x", [-1, 3, 8, 8])
    y = net.conv(x, random(0, 4, 3, 3, 3), "c")
    y = net.op("elementwise_add", {"Out": "b"}, {"axis": 1}, X=y, Y=net.param("bias", random(1, 4)))
    y = _norm(net, y, "n", 4)
    y = net.op("elementwise_mul", {"Out": "s"}, {"axis": -1}, X=net.param("gain", random(2, 1)), Y=y)
    y = net.op("elementwise_add", {"Out": "t"}, {"axis": -1}, X=y, Y=net.param("shift", random(3, 1, 4, 1, 1)))
    y = net.op("scale", {"Out": "u"}, {"scale": 0.5, "bias": 0.25, "bias_after_scale": False}, X=y)
    model = Model(net.program, net.scope, ["x"], [net.relu(y, "r")])
    folded = _fold(model)
    assert folded.op_counts() == {"conv2d": 1, "elementwise_add": 1, "relu": 1}
    _same(model, folded, random(9, 2, 3, 8, 8))


@pytest.mark.parametrize("kind", ["depthwise_conv2d", "conv2d_transpose"])
def test_other_convolutions(kind: str):
    net = Net()
    x = net.data("x", [-1, 4, 8, 8])
    weight = random(0, 4, 1, 3, 3) if kind == "depthwise_conv2d" else random(0, 4, 5, 3, 3)
    channels = 4 if kind == "depthwise_conv2d" else 5
    more = {"groups": 4} if kind == "depthwise_conv2d" else {"output_padding": [], "output_size": []}
    y = _norm(net, net.conv(x, weight, "c", kind, **more), "n", channels)
    model = Model(net.program, net.scope, ["x"], [net.relu(y, "r")])
    folded = _fold(model)
    assert "batch_norm" not in folded.op_counts()
    _same(model, folded, random(9, 2, 4, 8, 8))


@pytest.mark.parametrize("transposed", [False, True])
def test_matrix_product(transposed: bool):
    net = Net()
    x = net.data("x", [-1, 6])
    weight = random(0, 6, 5)
    w = net.param("w", np.ascontiguousarray(weight.T) if transposed else weight)
    y = net.op("matmul_v2", {"Out": "m"}, {"trans_x": False, "trans_y": transposed}, X=x, Y=w)
    y = net.op("elementwise_mul", {"Out": "g"}, {"axis": -1}, X=y, Y=net.param("gain", random(1, 5)))
    y = net.op("elementwise_add", {"Out": "b"}, {"axis": -1}, X=y, Y=net.param("bias", random(2, 5)))
    model = Model(net.program, net.scope, ["x"], [net.relu(y, "r")])
    folded = _fold(model)
    assert folded.op_counts() == {"matmul_v2": 1, "elementwise_add": 1, "relu": 1}
    _same(model, folded, random(9, 3, 6))


def test_what_somebody_else_reads_stays():
    net = Net()
    x = net.data("x", [-1, 3, 8, 8])
    y = net.conv(x, random(0, 4, 3, 3, 3), "c")
    z = _norm(net, y, "n", 4)
    model = Model(net.program, net.scope, ["x"], [net.relu(z, "r"), net.relu(y, "r2")])
    folded = _fold(model)
    assert folded.op_counts()["batch_norm"] == 1
    fetched = Model(net.program, net.scope, ["x"], ["c", "r"])
    assert _fold(fetched).op_counts()["batch_norm"] == 1


def test_a_shared_weight_is_not_changed_for_its_other_reader():
    net = Net()
    x = net.data("x", [-1, 4, 8, 8])
    y = _norm(net, net.conv(x, random(0, 4, 4, 3, 3), "c"), "n", 4)
    z = net.op(
        "conv2d",
        {"Output": "d"},
        {"strides": [1, 1], "paddings": [1, 1], "dilations": [1, 1], "groups": 1, "data_format": "NCHW"},
        Input=y,
        Filter="c.w",
    )
    model = Model(net.program, net.scope, ["x"], [net.relu(z, "r")])
    folded = _fold(model)
    assert "batch_norm" not in folded.op_counts()
    _same(model, folded, random(9, 1, 4, 8, 8))


def test_a_wrong_axis_is_not_folded():
    """A vector of as many values as channels, but along another dimension."""
    net = Net()
    x = net.data("x", [-1, 3, 4, 4])
    y = net.conv(x, random(0, 4, 3, 3, 3), "c")
    y = net.op("elementwise_mul", {"Out": "g"}, {"axis": -1}, X=y, Y=net.param("row", random(1, 4)))
    model = Model(net.program, net.scope, ["x"], [net.relu(y, "r")])
    folded = _fold(model)
    assert folded.op_counts()["elementwise_mul"] == 1
    _same(model, folded, random(9, 2, 3, 4, 4))


def test_a_canonical_bias_is_left_alone():
    net = Net()
    x = net.data("x", [-1, 3, 8, 8])
    y = net.conv(x, random(0, 4, 3, 3, 3), "c")
    y = net.op("elementwise_add", {"Out": "b"}, {"axis": 1}, X=y, Y=net.param("bias", random(1, 4)))
    model = Model(net.program, net.scope, ["x"], [y])
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        assert FoldLinear(model.scope, model.fetches).apply(graph) == {}


def test_identities_go_and_results_stay():
    net = Net()
    x = net.data("x", [-1, 3])
    y = net.op("assign", {"Out": "a"}, X=x)
    y = net.op("scale", {"Out": "s"}, {"scale": 1.0, "bias": 0.0, "bias_after_scale": True}, X=y)
    attrs = {"dropout_prob": 0.3, "is_test": True, "dropout_implementation": "upscale_in_train"}
    y = net.op("dropout", {"Out": "d", "Mask": "mask"}, attrs, X=y)
    attrs = {"dropout_prob": 0.3, "is_test": True, "dropout_implementation": "downgrade_in_infer"}
    y = net.op("dropout", {"Out": "e", "Mask": "mask2"}, attrs, X=y)
    y = net.op("assign", {"Out": "last"}, X=y)
    model = Model(net.program, net.scope, ["x"], ["last"])
    cleaned = _apply(model, lambda m: RemoveIdentity(m.fetches))
    assert cleaned.op_counts() == {"dropout": 1, "assign": 1}  # the one that scales, and the result
    _same(model, cleaned, random(1, 4, 3))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
def test_real_networks(name: str):
    paddle.seed(0)
    layer = getattr(paddle.vision.models, name)(num_classes=7)
    layer.eval()
    model = Model.from_layer(layer, [paddle.static.InputSpec([None, 3, 64, 64], "float32", "x")])
    folded = _apply(model, lambda m: RemoveIdentity(m.fetches), lambda m: FoldLinear(m.scope, m.fetches))
    assert "batch_norm" not in folded.op_counts()
    x = random(5, 2, 3, 64, 64)
    a, b = model.run([x])[0], folded.run([x])[0]
    np.testing.assert_allclose(b, a, atol=1e-5 * max(1.0, np.abs(a).max()))
