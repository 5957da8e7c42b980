"""Quantized models load back into a float model and a table, and go out again as what they were.

``paddleslim_models.zip`` holds files that PaddleSlim 2.6 wrote, and what its Paddle computed for them.
"""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from grids import symmetric
from small_programs import CONV, Net, mobile_net, random
from test_freeze import ACTIVATIONS, DOUBLES, FEED, SAMPLE, USUAL, _config, _train, _two_products

from slimkit.errors import ModelError
from slimkit.ir import Model, legacy_ir
from slimkit.quant import export_program, post_training_quantize
from slimkit.quant.load_quantized import is_quantized, load_quantized, read_quantized
from slimkit.quant.passes.extract_table import is_quantizer

ONNX = ["post_onnx", "post_onnx_full", "aware_onnx", "dygraph_onnx"]
OLD = ["post_old", "post_old_tensor", "aware_old", "aware_old_4"]
ALL = [*ONNX, *OLD, "dygraph_old", "unfrozen_onnx", "unfrozen_old", "dynamic_8"]
CONVS = {"conv2d": 4, "depthwise_conv2d": 1, "conv2d_transpose": 1, "matmul_v2": 1}


def _out(model, x):
    return model.run([x])[0]


def _quantizers(model):
    return [op for op in model.op_counts() if is_quantizer(op)]


@pytest.mark.parametrize("name", ALL)
def test_the_same_is_computed_again(peers, reference, tmp_path, name):
    """In its own format to the bit; in the other up to the order of float32's multiplications."""
    x, wanted = reference["x"], reference[name]
    found = load_quantized(peers / name)
    assert _quantizers(found.model) == []
    for fmt in ("onnx", "old"):
        model = Model.load(export_program(found.model, found.table, fmt).save(tmp_path / fmt))
        assert _quantizers(model)
        if name in (OLD if fmt == "old" else [*ONNX, "unfrozen_onnx", "unfrozen_old"]):
            np.testing.assert_array_equal(_out(model, x), wanted)
        np.testing.assert_allclose(_out(model, x), wanted, atol=2e-6)
    if name != "dynamic_8":  # whose activations are float
        assert np.abs(_out(found.model, x) - wanted).max() > 1e-4


@pytest.mark.parametrize("name", ALL)
def test_weights_lie_on_their_grids(peers, name):
    found = load_quantized(peers / name)
    weights = found.table.weights()
    counts = {kind: sum(op.type == kind for op in found.table.ops) for kind in CONVS}
    if name == "dynamic_8":
        counts.update(conv2d_transpose=1, matmul_v2=1)  # not asked for
    assert counts == CONVS
    for params in weights.values():
        value = found.model.params[params.tensor]
        others = tuple(d for d in range(value.ndim) if d != params.axis) if params.axis is not None else None
        m = params.scale.reshape([-1 if d == params.axis else 1 for d in range(value.ndim)])
        assert value.dtype == np.float32
        assert params.scale.size == (1 if params.axis is None else value.shape[params.axis])
        np.testing.assert_allclose(value, symmetric(value, m, params.bits), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(np.abs(value).max(others, keepdims=True).reshape(-1), m.reshape(-1), rtol=1e-6)


def test_axes_and_widths(peers):
    axes = {"conv2d": 0, "depthwise_conv2d": 0, "conv2d_transpose": 1, "matmul_v2": 1}
    found = load_quantized(peers / "post_onnx").table
    for op in found.ops:
        weight = next(found.params[key] for key in op.inputs.values() if found.params[key].is_weight)
        assert weight.axis == axes[op.type] and weight.bits == 8
    four = load_quantized(peers / "aware_old_4").table
    assert {p.bits for p in four.weights().values()} == {4}
    assert {four.params[k].bits for op in four.ops for k in op.inputs.values()} == {4, 6}
    assert {p.axis for p in four.weights().values()} == {None}


def test_observed_results_are_not_computed_but_noted(peers):
    """PaddleSlim's onnx format has a pair with only_observer behind every op; executors pass values on."""
    found = load_quantized(peers / "post_onnx")
    assert {op.type for op in found.table.ops} == set(CONVS)
    stored = Model.load(peers / "post_onnx").params
    results = {tensor: key for op in found.table.ops for tensor, key in op.outputs.items()}
    for tensor, key in results.items():
        np.testing.assert_array_equal(found.table.params[key].scale, stored[f"{tensor}@scale"])
    # read by the next convolution on its grid; measured only, but going into the residual add, behind batch norm
    assert set(results) == {"relu_0.tmp_0", "batch_norm_2.tmp_2"}
    assert results["batch_norm_2.tmp_2"] not in {key for op in found.table.ops for key in op.inputs.values()}


def test_computed_results_are_grids_of_their_readers(peers):
    """The dygraph exporter puts pairs on results that are computed."""
    table = load_quantized(peers / "dygraph_onnx").table
    assert {"relu", "relu6", "hard_swish", "hard_sigmoid"} & {op.type for op in table.ops}
    assert any(set(op.outputs.values()) & {k for o in table.ops for k in o.inputs.values()} for op in table.ops)


# ------------------------------------------------------------------------------------------- slimkit's own


def _grids(table):
    return {
        key: (p.tensor, p.dynamic or p.scale.tobytes(), p.bits, p.axis, p.symmetric, p.zero_point.tobytes())
        for key, p in table.params.items()
    }


def _rows(table):
    return {op.output: (op.type, dict(op.inputs)) for op in table.ops}


def _round_trip(qat, feed, fetch, fmt, tmp_path, runtime=None):
    """(what the first export computes, what the one from the loaded table computes, tables)."""
    table = qat.table()
    first = Model.load(export_program(qat.float_model(), table, fmt, runtime=runtime).save(tmp_path / "a"))
    loaded = read_quantized(first)
    again = Model.load(export_program(loaded.model, loaded.table, fmt, runtime=runtime).save(tmp_path / "b"))
    arrays = {name: feed[name] for name in first.feeds}
    return first.run(arrays)[0], again.run(arrays)[0], table, loaded.table


@pytest.mark.parametrize("weight, activation, bits, fmt", [*USUAL, *SAMPLE])
def test_round_trip(tmp_path, weight, activation, bits, fmt):
    qat = _train(mobile_net(), FEED, "logits", _config(weight, activation, bits), steps=1)
    first, again, table, found = _round_trip(qat, FEED, "logits", fmt, tmp_path)
    np.testing.assert_array_equal(again, first)
    assert _rows(found) == _rows(table)
    exact = not (weight.endswith("min_max") or (fmt == "old" and "channel" not in weight))
    if exact:  # else a scale comes back from a step or a quotient, which float32 rounds
        assert _grids(found) == _grids(table)
    for key, params in table.params.items():
        if not params.dynamic:
            np.testing.assert_allclose(found.params[key].scale, params.scale, rtol=3e-7)


@pytest.mark.parametrize("fmt", ["onnx", "old"])
@pytest.mark.parametrize("case", DOUBLES)
def test_round_trip_of_shared_and_doubled_tensors(tmp_path, case, fmt):
    rules, transposed = DOUBLES[case]
    feed = {"x": random(9, 4, 5)}
    weight = ["channel_wise_abs_max", "abs_max", "channel_wise_min_max"][len(case) % 3]
    config = _config(weight, ACTIVATIONS[len(case) % 2], rules=rules)
    qat = _train(_two_products(transposed), feed, "y", config, steps=1)
    first, again, *_ = _round_trip(qat, feed, "y", fmt, tmp_path)
    np.testing.assert_array_equal(again, first)


def test_legalized_models_load_as_plain_ops(tmp_path):
    qat = _train(mobile_net(), FEED, "logits", _config(), steps=1)
    first, again, _, found = _round_trip(qat, FEED, "logits", "onnx", tmp_path, "onednn")
    np.testing.assert_array_equal(again, first)
    assert "matmul_v2" not in {op.type for op in found.ops} and len(found.weights()) == 6


# ------------------------------------------------------------------------------------------- odd graphs


def _pair(net, x, scale, name, out=None, **attrs):
    inputs = {"Scale": net.param(f"{name}.s", np.array([scale], "float32"), trainable=False)}
    inputs["ZeroPoint"] = net.param(f"{name}.z", np.zeros(1, "int32"), trainable=False)
    attrs = {"quant_axis": -1, "bit_length": 8, **attrs}
    q = net.op("quantize_linear", {"Y": f"{name}.q"}, attrs, X=x, **inputs)
    return net.op("dequantize_linear", {"Y": out or f"{name}.dq"}, attrs, X=q, **inputs)


@pytest.mark.parametrize("second", [1.0, 3.0])
@pytest.mark.parametrize("fmt", ["onnx", "old"])
def test_a_tensor_quantized_twice(tmp_path, second, fmt):
    net = Net()
    x = _pair(net, _pair(net, net.data("x", [-1, 4, 5, 5]), 1.0, "a"), second, "b")
    net.conv(x, random(1, 3, 4, 3, 3), "y")
    _same_again(net.model(["x"], ["y"]), {"x": random(2, 2, 4, 5, 5)}, fmt, tmp_path)


@pytest.mark.parametrize("fmt", ["onnx", "old"])
def test_a_result_on_a_grid(tmp_path, fmt):
    net = Net()
    y = net.relu(net.data("x", [-1, 4]), "y")
    _pair(net, y, 1.5, "a", out="result")
    found = _same_again(net.model(["x"], ["result"]), {"x": random(2, 3, 4)}, fmt, tmp_path)
    assert found.model.fetches == ["result"]


@pytest.mark.parametrize("fmt", ["onnx", "old"])
def test_one_tensor_on_a_grid_of_each_reader(tmp_path, fmt):
    """As dygraph quantization does: each layer has a scale of its own for the input they share."""
    net = Net()
    x = net.data("x", [-1, 4, 5, 5])
    a = net.conv(_pair(net, x, 1.0, "a"), random(1, 3, 4, 3, 3), "ya")
    b = net.conv(_pair(net, x, 2.0, "b"), random(2, 3, 4, 3, 3), "yb")
    net.add(a, b, "y")
    found = _same_again(net.model(["x"], ["y"]), {"x": random(2, 2, 4, 5, 5)}, fmt, tmp_path)
    assert sorted(float(p.scale[0]) for p in found.table.params.values()) == [1.0, 2.0]


class _Loop(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.before, self.inside = (paddle.nn.Conv2D(n, 4, 3, padding=1) for n in (3, 4))

    def forward(self, x, times):
        y, i = self.before(x), paddle.zeros([1], "int64")
        while i < times:
            y, i = paddle.nn.functional.relu(self.inside(y)) + y * 0.1, i + 1
        return y


@pytest.mark.parametrize("fmt", ["onnx", "old"])
def test_a_convolution_inside_a_loop(tmp_path, fmt):
    spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x"), paddle.static.InputSpec([1], "int64", "n")]
    model = Model.from_layer(_Loop(), spec)
    feed = dict(zip(model.feeds, [random(1, 2, 3, 8, 8), np.array([3])]))
    made = post_training_quantize(model, [feed], (f"paddle-{fmt}",)).quantized[f"paddle-{fmt}"]
    stored = Model.load(export_program(made.model, made.table, fmt).save(tmp_path / "m"))
    assert np.abs(stored.run(feed)[0] - model.run(feed)[0]).max() > 1e-4
    found = _same_again(stored, feed, fmt, tmp_path)
    assert _rows(found.table) == _rows(made.table) and len(found.table.ops) == 2
    block = found.model.program.global_block()
    for params in found.table.weights().values():
        assert found.model.params[params.tensor].dtype == np.float32
        assert "float32" in str(block.var(params.tensor).dtype).lower().replace("fp", "float")


def _same_again(model, feed, fmt, tmp_path):
    found = read_quantized(model)
    assert _quantizers(found.model) == []
    again = Model.load(export_program(found.model, found.table, fmt).save(tmp_path / "m"))
    # In the old format Paddle's op halves round away from zero by default; grids keep their own rounding.
    np.testing.assert_array_equal(again.run(feed)[0], model.run(feed)[0])
    return found


def test_float_models_are_refused(tmp_path):
    net = Net()
    net.conv(net.data("x", [-1, 4, 5, 5]), random(1, 3, 4, 3, 3), "y")
    model = net.model(["x"], ["y"])
    assert not is_quantized(model)
    with pytest.raises(ModelError, match=r"holds no quantized op.*slimkit ptq"):
        load_quantized(model.save(tmp_path / "float"))


def test_unknown_and_lone_quantize_ops_are_refused():
    net = Net()
    x = net.data("x", [-1, 4])
    net.op("quantize_linear", {"Y": "q"}, {"quant_axis": -1, "bit_length": 8}, X=x,
           Scale=net.param("s", np.ones(1, "float32"), trainable=False),
           ZeroPoint=net.param("z", np.zeros(1, "int32"), trainable=False))  # fmt: skip
    net.relu("q", "y")
    assert is_quantized(net.model(["x"], ["y"]))
    with pytest.raises(ModelError, match=r"quantize_linear 'q'.*counterpart"):
        read_quantized(net.model(["x"], ["y"]))
    net = Net()
    x = net.data("x", [-1, 4, 5, 5])
    attrs = {"bit_length": 8, "round_type": 1}
    q = net.op("fake_quantize_abs_max", {"Out": "q", "OutScale": "q.s"}, attrs, X=x)
    net.conv(q, random(1, 3, 4, 3, 3), "y")
    with pytest.raises(ModelError, match=r"conv2d 'y' reads integers of fake_quantize_abs_max"):
        read_quantized(net.model(["x"], ["y"]))


def test_scales_that_fit_no_channel(peers):
    model = Model.load(peers / "post_onnx")
    with legacy_ir():
        model.scope.var("linear_0.w_0@scale").get_tensor().set(np.ones(3, "float32"), paddle.CPUPlace())
    with pytest.raises(ModelError, match=r"linear_0.w_0.*\[6, 10\].*3 scales along axis 1"):
        read_quantized(model)


def test_the_loaded_model_is_not_changed(peers):
    model = Model.load(peers / "post_old")
    before = {name: value.copy() for name, value in model.params.items()}
    counts = model.op_counts()
    read_quantized(model)
    assert model.op_counts() == counts
    for name, value in before.items():
        np.testing.assert_array_equal(model.params[name], value)


def test_groups_of_a_transposed_convolution(tmp_path):
    net = Net()
    attrs = {**CONV, "groups": 2, "output_size": [], "output_padding": []}
    w = net.param("w", random(1, 4, 3, 3, 3))
    net.op("conv2d_transpose", {"Output": "y"}, attrs, Input=net.relu(net.data("x", [-1, 4, 5, 5]), "a"), Filter=w)
    net.weighted_sum("y", random(3, 2, 6, 5, 5))
    feed = {"x": random(9, 2, 4, 5, 5)}
    for fmt in ("onnx", "old"):
        first, again, table, found = _round_trip(_train(net, feed, "y", _config(), steps=1), feed, "y", fmt, tmp_path)
        np.testing.assert_array_equal(again, first)
        assert _grids(found) == _grids(table)
