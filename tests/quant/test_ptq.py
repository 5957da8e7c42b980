"""Post-training quantization: plans per runtime, tables from statistics, what comes out computes nearly the same."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from small_programs import Net, random

from slimkit import ConfigError, ModelError, TrainingError
from slimkit.ir import Model
from slimkit.numerics import sqnr_db
from slimkit.numerics.observers import observer
from slimkit.quant import PtqConfig, export_program, post_training_quantize
from slimkit.quant.capabilities import CAPABILITIES

RUNTIMES = ["paddle", "onnx", "lite-arm", "lite-x86"]


def _small(seed: int = 0) -> Model:
    """conv + bias + relu -> depthwise -> residual add -> pool -> fc."""
    net = Net()
    x = net.data("x", [-1, 3, 8, 8])
    y = net.conv(x, random(seed, 4, 3, 3, 3, size=0.3), "c1")
    y = net.relu(net.add(y, net.param("b1", random(seed + 1, 4)), "a1", axis=1), "r1")
    z = net.conv(y, random(seed + 2, 4, 1, 3, 3), "c2", "depthwise_conv2d", groups=4)
    z = net.relu(net.add(z, y, "sum"), "r2")
    pool = {"pooling_type": "avg", "ksize": [1, 1], "adaptive": True, "strides": [1, 1], "paddings": [0, 0]}
    z = net.op("pool2d", {"Out": "p"}, pool, X=z)
    z = net.op("reshape2", {"Out": "f", "XShape": "f.x"}, {"shape": [-1, 4]}, X=z)
    z = net.linear(z, random(seed + 3, 4, 5), "m")
    return net.model(["x"], [net.add(z, net.param("b2", random(seed + 4, 5)), "out")])


def _batches(count: int = 3, size: int = 4) -> list:
    return [{"x": random(100 + i, size, 3, 8, 8)} for i in range(count)]


@pytest.fixture(scope="module")
def small() -> Model:
    return _small()


@pytest.mark.parametrize("algo", ["abs_max", "avg", "hist", "KL", "mse", "emd", "min_max"])
def test_every_algorithm_gives_a_model_near_the_float_one(small: Model, algo: str):
    result = post_training_quantize(small, _batches(), ["paddle"], {"algo": algo})
    quantized = result.quantized["paddle"]
    x = random(7, 8, 3, 8, 8)
    exported = export_program(quantized.model, quantized.table)
    assert exported.op_counts()["quantize_linear"] >= 2
    assert sqnr_db(small.run([x])[0], exported.run([x])[0]) > 20
    assert result.batches == 3 and result.samples == 12


def test_scales_are_the_observers_own(small: Model):
    """Against histograms of values fetched one by one."""
    from slimkit.numerics import AbsHistogram

    result = post_training_quantize(small, _batches(), ["paddle"], {"algo": "hist", "hist_percent": 0.99})
    table = result.quantized["paddle"].table
    for params in table.activations().values():
        histogram = AbsHistogram()
        for feed in _batches():
            histogram.update(result.float_model.run(feed, [params.tensor])[0])
        expected = observer("hist").threshold(histogram, 8, hist_percent=0.99)
        assert params.scale == pytest.approx(expected, rel=1e-6)
    for params in table.weights().values():
        value = result.float_model.params[params.tensor]
        others = tuple(d for d in range(value.ndim) if d != params.axis)
        np.testing.assert_allclose(params.scale, np.abs(value).max(axis=others), rtol=1e-6)


def test_the_given_model_is_not_changed(small: Model):
    before = {name: value.copy() for name, value in small.params.items()}
    ops = small.op_counts()
    post_training_quantize(small, _batches(1), RUNTIMES)
    assert small.op_counts() == ops
    for name, value in small.params.items():
        np.testing.assert_array_equal(value, before[name])


def test_each_runtime_gets_what_it_executes(small: Model):
    result = post_training_quantize(small, _batches(1), RUNTIMES)
    for runtime, quantized in result.quantized.items():
        row = CAPABILITIES[runtime]
        types = {op.type for op in quantized.table.ops}
        assert types <= {*row.weight_ops, *row.activation_ops}
        assert "conv2d" in types and "depthwise_conv2d" in types
        affine = {p.symmetric for p in quantized.table.activations().values()}
        assert affine == ({False} if row.affine_activations else {True})
        for op in quantized.table.ops:
            assert set(op.inputs.values()) <= set(quantized.table.params)
            assert set(op.outputs.values()) <= set(quantized.table.params)
    assert any(op.outputs for op in result.quantized["onnx"].table.ops)


def test_the_result_is_taken_behind_bias_and_activation_and_not_behind_a_residual(small: Model):
    result = post_training_quantize(small, _batches(1), ["onnx"])
    results = {op.output: list(op.outputs) for op in result.quantized["onnx"].table.ops if op.outputs}
    assert results["c1"] == ["r1"]
    assert results["c2"] == ["c2"]


def test_quantizing_again_from_the_statistics_is_quantizing_anew(small: Model):
    first = post_training_quantize(small, _batches(), ["paddle", "onnx"], {"algo": "hist"})
    rules = [{"op_types": ["depthwise_conv2d"], "skip": True}]
    again = first.requantize({"algo": "mse", "rules": rules})
    anew = post_training_quantize(small, _batches(), ["paddle", "onnx"], {"algo": "mse", "rules": rules})
    for runtime in ("paddle", "onnx"):
        assert again.quantized[runtime].table.to_dict() == anew.quantized[runtime].table.to_dict()
        assert again.quantized[runtime].table.to_dict() != first.quantized[runtime].table.to_dict()
    skipped = again.quantized["paddle"].table.skipped
    assert any("rule" in row["reason"] and row["type"] == "depthwise_conv2d" for row in skipped)


def test_batches_of_several_shapes_and_several_inputs():
    net = Net()
    x, y = net.data("x", [-1, 3, -1, -1]), net.data("y", [-1, 4, -1, -1])
    z = net.add(net.conv(x, random(0, 4, 3, 3, 3), "c"), y, "s")
    model = net.model(["x", "y"], [net.conv(net.relu(z, "r"), random(1, 2, 4, 3, 3), "d")])
    feeds = [{"x": random(i, 1, 3, 4 + i, 6), "y": random(9 + i, 1, 4, 4 + i, 6)} for i in range(3)]
    result = post_training_quantize(model, feeds)
    quantized = result.quantized["paddle"]
    out = export_program(quantized.model, quantized.table).run(feeds[0])[0]
    assert sqnr_db(model.run(feeds[0])[0], out) > 25


class _Loop(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = paddle.nn.Conv2D(2, 2, 3, padding=1)

    def forward(self, x):
        i = paddle.zeros([1], "int64")
        while i < 3:
            x = self.conv(x)
            i = i + 1
        return x


def test_a_convolution_inside_a_loop_is_calibrated_over_all_turns():
    paddle.seed(1)
    model = Model.from_layer(_Loop(), [paddle.static.InputSpec([None, 2, 6, 6], "float32", "x")])
    x = random(3, 2, 2, 6, 6)
    result = post_training_quantize(model, [{"x": x}], config={"algo": "abs_max"})
    quantized = result.quantized["paddle"]
    assert [op.type for op in quantized.table.ops] == ["conv2d"]
    largest, y = 0.0, x
    conv = _Loop()
    paddle.seed(1)
    conv = _Loop().conv
    for _ in range(3):
        largest = max(largest, float(np.abs(y).max()))
        y = conv(paddle.to_tensor(y)).numpy()
    activation = next(iter(quantized.table.activations().values()))
    assert activation.scale == pytest.approx(largest, rel=1e-5)


def test_what_is_wrong_is_said_in_one_sentence(small: Model):
    with pytest.raises(TrainingError, match="no batch"):
        post_training_quantize(small, [])
    bad = _batches(2)
    bad[1]["x"][0, 0, 0, 0] = np.nan
    with pytest.raises(TrainingError, match=r"'x' cannot be calibrated in batch 2: .*NaN"):
        post_training_quantize(small, bad)
    with pytest.raises(ModelError, match=r"feeds of shape \{'x': \[4, 5, 8, 8\]\}"):
        post_training_quantize(small, [{"x": random(0, 4, 5, 8, 8)}])
    with pytest.raises(ConfigError, match="did you mean 'onnx'"):
        post_training_quantize(small, _batches(), ["onx"])
    with pytest.raises(ConfigError, match="algo"):
        post_training_quantize(small, _batches(), config={"algo": "kll"})
    with pytest.raises(ConfigError, match="executes 8"):
        post_training_quantize(small, _batches(), config={"activation_bits": 4})
    with pytest.raises(ConfigError, match="without a zero point"):
        post_training_quantize(small, _batches(), config={"affine": True})
    with pytest.raises(ModelError, match="Nothing in the model can be quantized"):
        post_training_quantize(small, _batches(), config={"rules": [{"skip": True}]})
    quantized = post_training_quantize(small, _batches()).quantized["paddle"]
    with pytest.raises(ModelError, match="quantized already"):
        post_training_quantize(export_program(quantized.model, quantized.table), _batches())
    assert PtqConfig.read({"algo": "kl"}).algo == "KL"


def test_a_weight_with_nan_is_named(small: Model):
    model = small.clone(copy_params=True)
    weight = model.params["c1.w"]
    weight[0, 0, 0, 0] = np.nan
    model.params["c1.w"] = weight
    with pytest.raises((ModelError, TrainingError), match="NaN"):
        post_training_quantize(model, _batches())
