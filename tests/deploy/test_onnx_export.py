"""ONNX export: what the file computes is what the quantization table says, and what cannot be said is told."""

from __future__ import annotations

from collections import Counter

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from small_programs import Net, random

from slimkit.deploy import onnx_convert, onnx_runtime
from slimkit.deploy.onnx_convert import can_convert
from slimkit.deploy.onnx_export import export_onnx, onnx_model
from slimkit.deploy.onnx_inspect import describe_onnx
from slimkit.errors import ModelError, RuntimeUnavailableError
from slimkit.ir import Model
from slimkit.quant.export import export_program
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable

from .onnx_zoo import activation, batch, weight, zoo, zoo_table

missing = can_convert() or onnx_runtime.available()
pytestmark = pytest.mark.skipif(missing is not None, reason=str(missing))

CASES = {
    "symmetric": {},
    "affine": {"affine": True},
    "one scale a weight": {"per_channel": False},
    "4 bits": {"bits": 4},
    "4 bits affine": {"bits": 4, "affine": True},
}
BIASED = {"conv.out": ("x", "conv.w"), "fc.out": ("flat", "fc.w")}


def _run(path, feed, mode="plain"):
    return onnx_runtime.run(path, [feed], mode=mode)[0]


@pytest.mark.parametrize("case", CASES)
def test_file_computes_what_paddle_simulates(case, tmp_path):
    model, options = zoo(), CASES[case]
    table = zoo_table(model, **options)
    feed = batch(options.get("bits", 8), options.get("affine", False))
    expected = export_program(model, table, "onnx").run([feed])
    path = export_onnx(model, table, tmp_path / "zoo")
    for mode in ("plain", "optimized"):
        found = dict(zip(model.fetches, _run(path, feed, mode)))
        for name, reference in zip(model.fetches, expected):
            scale = np.abs(reference).max()
            allowed, share = 4e-6 * scale + _half_a_bias_step(table, name), 0.9999
            if name == "second":  # rounding between two layers may turn either way
                # behind a relu, a symmetric 8-bit grid gets its levels closer: see activation_grid
                allowed, share = (0.02 * scale if case in ("symmetric", "one scale a weight") else allowed), 0.98
            difference = np.abs(found[name] - reference)
            assert (difference <= allowed).mean() >= share, (case, mode, name)
            assert difference.max() <= 0.1 * scale


def _half_a_bias_step(table, name):
    """Integer products have biases of step ``s_x * s_w``."""
    if name not in BIASED:
        return 0
    x, w = (table.params[key] for key in BIASED[name])
    return 0.51 * float(x.scale[0] / x.qmax * w.scale.max() / w.qmax)


def test_pairs_are_not_repeated_and_weights_are_integers(tmp_path):
    import onnx

    model = zoo()
    proto = onnx_model(model, zoo_table(model))
    quantizers = Counter(node.input[0] for node in proto.graph.node if node.op_type == "QuantizeLinear")
    # x; flat, which is x reshaped, on x's grid; middle and pooled
    assert len(quantizers) == 4 and set(quantizers.values()) == {1}
    stored = {t.name: t.data_type for t in proto.graph.initializer if t.data_type == onnx.TensorProto.INT8}
    names = ("conv.w", "depthwise.w", "transposed.w", "fc.w", "turned.w", "mul.w", "first.w", "second.w", "stored.w")
    assert all(f"{name}/i" in stored for name in names)
    floats = {t.name for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1}
    assert [name for name in floats if not name.endswith("/s")] == ["conv.w"], "one branch reads it in float"


def test_optimized_graph_runs_in_integers(tmp_path):
    model = zoo()
    path = export_onnx(model, zoo_table(model), tmp_path / "zoo.onnx")
    found = onnx_runtime.executed_precision(path, batch(), also={1: batch()[:1]})
    assert found["primitives"]["QLinearConv"] == {"int8": 1}, "only `first` has a result on a grid"
    assert found["int8"] >= 4, "and the three products with a matrix"
    reasons = Counter(item["reason"] for item in found["fallback"])
    assert reasons["ONNX Runtime has no integer kernel for transposed convolutions"] == 1
    assert reasons["its result has no grid"] == 4, "conv, depthwise, shared and second"
    assert reasons["its weight is stored in integers but its input has no grid"] == 1
    assert set(found["ms_at"][1]) <= {"int8 compute", "float compute", "reorder", "other"}
    layers = {layer.weight: layer for layer in describe_onnx(path).layers}
    assert layers["first.w/i"].result_on_grid and layers["first.w/i"].weight_scheme == "per channel"
    assert layers["first.w/i"].activation_bits == layers["first.w/i"].weight_bits == 8


def test_dead_channel_keeps_its_bias(tmp_path):
    """A channel whose weights are all but 0 has a step too small for its bias in 32 bits."""
    net = Net()
    x = net.data("x", [-1, 3, 6, 6])
    value = random(0, 4, 3, 3, 3, size=0.2)
    value[1] = 0
    value[2] *= 1e-12
    net.relu(net.add(net.conv(x, value, "c"), net.param("b", np.array([1, 2, 3, 0.5], "float32")), "s", axis=1), "r")
    net.relu("r", "out")
    model, table = net.model(["x"], ["out"]), QuantTable()
    table.add(activation("x", -3, 3))
    table.add(activation("r", 0, 6, affine=True))
    table.add(weight("c.w", value, 0))
    table.ops.append(QuantizedOp("conv2d", "c", {"Input": "x", "Filter": "c.w"}, {"r": "r"}))
    feed = random(1, 1, 3, 6, 6)
    reference = model.run([feed])[0]
    path = export_onnx(model, table, tmp_path / "dead")
    for mode in ("plain", "optimized"):
        assert np.abs(_run(path, feed, mode)[0] - reference).max() < 0.06
        np.testing.assert_allclose(_run(path, feed, mode)[0][:, 1:3], reference[:, 1:3], atol=0.6 * 6 / 255)


def test_stretched_channels_in_front_of_a_float_depthwise_convolution_cost_nothing(tmp_path):
    net = Net()
    net.data("x", [-1, 4, 6, 6])
    stretch = net.param("s", np.array([1, 2, 4, 8], "float32").reshape(1, 4, 1, 1))
    net.op("elementwise_mul", {"Out": "wide"}, {"axis": -1}, X="x", Y=stretch)
    net.conv("wide", random(0, 4, 1, 3, 3), "out", "depthwise_conv2d", groups=4)
    model, table = net.model(["x"], ["out"]), QuantTable()
    table.add(weight("out.w", model.params["out.w"], 0))
    table.ops.append(QuantizedOp("depthwise_conv2d", "out", {"Filter": "out.w"}))
    path, feed = export_onnx(model, table, tmp_path / "m"), random(1, 2, 4, 6, 6)
    reference = export_program(model, table, "onnx").run([feed])[0]
    np.testing.assert_allclose(_run(path, feed)[0], reference, rtol=1e-5, atol=1e-5)
    assert describe_onnx(path).ops == {"Conv": 1, "Cast": 1, "Mul": 1}


def test_a_stretched_depthwise_convolution_between_grids_is_an_integer_one(tmp_path):
    net = Net()
    net.data("x", [-1, 4, 6, 6])
    stretch = net.param("s", np.array([1, 2, 4, 8], "float32").reshape(1, 4, 1, 1))
    net.op("elementwise_mul", {"Out": "wide"}, {"axis": -1}, X="x", Y=stretch)
    net.relu(net.conv("wide", random(0, 4, 1, 3, 3, size=0.1), "c", "depthwise_conv2d", groups=4), "r")
    net.conv("r", random(1, 5, 4, 3, 3, size=0.1), "out")
    model, table = net.model(["x"], ["out"]), QuantTable()
    for params in (activation("x", -3, 3, affine=True), activation("r", 0, 8, affine=True)):
        table.add(params)
    for name in ("c.w", "out.w"):
        table.add(weight(name, model.params[name], 0))
    rows = [("elementwise_mul", "wide", {"X": "x"}), ("depthwise_conv2d", "c", {"Filter": "c.w"})]
    rows.append(("conv2d", "out", {"Input": "r", "Filter": "out.w"}))
    table.ops += [QuantizedOp(*row) for row in rows]
    path, feed = export_onnx(model, table, tmp_path / "m"), random(1, 2, 4, 6, 6)
    reference = export_program(model, table, "onnx").run([feed])[0]
    assert np.abs(_run(path, feed)[0] - reference).max() < 0.02
    assert np.abs(_run(path, feed, "optimized")[0] - reference).max() < 0.02
    first, second = describe_onnx(path).layers
    assert (first.weight, first.activation_bits, first.result_on_grid) == ("c.w/i", 8, True)
    assert (second.weight, second.weight_bits, second.weight_scheme) == ("out.w/i", 8, "per channel")
    found = onnx_runtime.executed_precision(path, feed)
    assert found["primitives"]["QLinearConv"] == {"int8": 1}
    assert [item["weight"] for item in found["fallback"]] == ["out.w/i"]


def _one_conv():
    net = Net()
    net.data("x", [-1, 3, 6, 6])
    net.conv("x", random(0, 4, 3, 3, 3), "c")
    net.relu("c", "out")
    return net.model(["x"], ["out"])


def _table(model, **params):
    table = QuantTable()
    table.add(QuantParams("x", **{"scale": np.array([3.0], "float32"), **params}))
    table.add(weight("c.w", model.params["c.w"], 0))
    table.ops.append(QuantizedOp("conv2d", "c", {"Input": "x", "Filter": "c.w"}))
    return table


@pytest.mark.parametrize(
    ("params", "told"),
    [({"bits": 16}, "16 bits"), ({"dynamic": True}, "computed in every run"), ({"scale": np.ones(3)}, "3 scales")],
)
def test_grids_onnx_cannot_say(params, told, tmp_path):
    model = _one_conv()
    with pytest.raises(ModelError, match=f"'x'.*{told}"):
        export_onnx(model, _table(model, **params), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_table_of_another_model(tmp_path):
    model = _one_conv()
    table = _table(model)
    table.ops[0] = QuantizedOp("conv2d", "nothing", table.ops[0].inputs)
    with pytest.raises(ModelError, match="'nothing' and the program has none"):
        export_onnx(model, table, tmp_path / "m")


def test_op_that_paddle2onnx_does_not_know(tmp_path):
    net = Net()
    net.data("x", [-1, 3, 6, 6])
    slots = {"Scale": net.param("s", np.ones(3, "float32")), "Bias": net.param("b", np.ones(3, "float32"))}
    net.op("affine_channel", {"Out": "out"}, {"data_layout": "NCHW"}, X="x", **slots)
    with pytest.raises(ModelError, match=r"cannot convert.*affine_channel"):
        export_onnx(net.model(["x"], ["out"]), None, tmp_path / "m")
    assert not list(tmp_path.iterdir())


IN_DOUBLES = {
    "two slopes": lambda x: F.leaky_relu(F.leaky_relu(x, 0.1) - 0.2, 0.3),
    "one slope": lambda x: F.leaky_relu(x, 0.1),
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.7),
    "pad": lambda x: F.pad(x, [1, 2, 0, 1], value=0.3),
}


@pytest.mark.parametrize("case", IN_DOUBLES)
def test_attributes_that_paddle_holds_in_doubles(case, tmp_path):
    """paddle2onnx reads these as numbers near 0, without a word: YOLOv3 found nothing."""
    net = paddle.nn.Conv2D(3, 4, 1)
    forward = net.forward
    net.forward = lambda x: IN_DOUBLES[case](forward(x) * 3)
    model = Model.from_layer(net, [paddle.static.InputSpec([2, 3, 5, 5], "float32", "x")])
    feed = random(1, 2, 3, 5, 5)
    export_onnx(model, None, tmp_path / "m")
    (expected,) = model.run([feed])
    (found,) = _run(tmp_path / "m.onnx", [feed])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_attribute_that_paddle2onnx_cannot_convert(tmp_path):
    net = Net()
    net.data("x", [-1, 6, 6, 3])
    net.conv("x", np.ones((4, 3, 3, 3), "float32"), "out", data_format="NHWC")
    with pytest.raises(ModelError, match=r"cannot convert this model: conv2d: .*NHWC[^\n]*; leave it") as told:
        export_onnx(net.model(["x"], ["out"]), None, tmp_path / "m")
    assert "SIGABRT" not in str(told.value)


def test_missing_package_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_convert.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'slimkit\[onnx\]'"):
        onnx_convert.converted(_one_conv())
    assert "slimkit[onnx]" in str(onnx_runtime.available())
    with pytest.raises(RuntimeUnavailableError, match="onnxruntime"):
        onnx_runtime.open_session()


REAL = {"cls": [(1, 3, 48, 192), (2, 3, 48, 100)], "rec": [(1, 3, 48, 160), (2, 3, 48, 320)]}
REAL["det"] = [(1, 3, 64, 96), (2, 3, 96, 64)]


@pytest.mark.parametrize("name", REAL)
def test_ppocr_models_are_valid_and_dynamic(name, rapidocr_models, tmp_path):
    from slimkit.recipe.data.real_models import ppocr_model

    model = Model.load(ppocr_model(name))
    path = export_onnx(model, None, tmp_path / name)  # checks the model
    feeds = [random(i, *shape) for i, shape in enumerate(REAL[name])]
    described = describe_onnx(path)
    assert [entry[0] for entry in described.inputs] == model.feeds
    assert [entry[0] for entry in described.outputs] == model.fetches
    for feed, (found,) in zip(feeds, onnx_runtime.run(path, feeds)):
        reference = model.run([feed])[0]
        assert found.shape == reference.shape
        np.testing.assert_allclose(found, reference, atol=2e-5)
