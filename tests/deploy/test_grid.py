from __future__ import annotations

import numpy as np

from slimkit.deploy.grid import float_on_grid, is_quantized
from slimkit.deploy.inspect import inspect
from slimkit.ir.model import Model

from .conftest import INPUT, MIDDLE, SECOND, SHAPE, WEIGHT
from .programs import Builder, conv2d, hard_swish, integers, on_grid


def run(prefix):
    return Model.load(prefix).run([INPUT])[0]


def test_onnx_format_becomes_float_with_clips(models, tmp_path):
    float_on_grid(models["onnx"], tmp_path / "f")
    y = hard_swish(conv2d(np.clip(INPUT, -3, 3), on_grid(WEIGHT)))
    wanted = conv2d(np.clip(y, -MIDDLE, MIDDLE), on_grid(SECOND))
    np.testing.assert_allclose(run(tmp_path / "f"), wanted, rtol=1e-4, atol=1e-4)
    found = inspect(tmp_path / "f")
    assert found.format == "legacy" and found.ops["clip"] == 2 and set(found.parameter_bytes) == {"float32"}


def test_old_format_per_channel(models, tmp_path):
    float_on_grid(models["old"], tmp_path / "f")
    np.testing.assert_allclose(run(tmp_path / "f"), conv2d(INPUT, on_grid(WEIGHT)), rtol=1e-4, atol=1e-4)


def test_old_format_per_tensor(tmp_path):
    builder = Builder()
    scale = builder.param("a.scale", np.array([3.0], "float32"))
    attrs = {"bit_length": 8, "is_test": True, "moving_rate": 0.9, "round_type": 0}
    x = builder.op(
        "fake_quantize_moving_average_abs_max", {"X": "x", "InScale": scale}, {"Out": "q", "OutScale": scale}, **attrs
    )
    peak = float(np.abs(WEIGHT).max())
    q = np.round(WEIGHT / peak * 127).astype("float32")
    y = builder.conv(x, builder.param("w", q), "y")
    out = builder.op("fake_dequantize_max_abs", {"X": y, "Scale": scale}, {"Out": "out"}, max_range=127 * 127 / peak)
    builder.save(tmp_path / "old", SHAPE, out)
    simulated = run(tmp_path / "old")
    float_on_grid(tmp_path / "old", tmp_path / "f")
    np.testing.assert_allclose(run(tmp_path / "f"), conv2d(INPUT, q / 127 * peak), rtol=1e-4, atol=1e-4)
    assert np.linalg.norm(run(tmp_path / "f") - simulated) < 0.02 * np.linalg.norm(simulated)


def test_simulated_training_ops(tmp_path):
    """fake_quantize_dequantize on activations and weights, as a QAT program has before freezing."""
    builder = Builder()
    scale = builder.param("a.scale", np.array([3.0], "float32"))
    attrs = {"bit_length": 8, "is_test": True, "moving_rate": 0.9, "round_type": 0}
    kind = "fake_quantize_dequantize_moving_average_abs_max"
    x = builder.op(kind, {"X": "x", "InScale": scale}, {"Out": "q", "OutScale": scale}, **attrs)
    kind = "fake_channel_wise_quantize_dequantize_abs_max"
    outputs = {"Out": "wq", "OutScale": builder.param("w.scale", integers(WEIGHT)[1])}
    weight = builder.op(kind, {"X": builder.param("w", WEIGHT)}, outputs, bit_length=8, quant_axis=0, round_type=0)
    builder.save(tmp_path / "qat", SHAPE, builder.conv(x, weight, "out"))
    float_on_grid(tmp_path / "qat", tmp_path / "f")
    np.testing.assert_allclose(run(tmp_path / "f"), conv2d(INPUT, on_grid(WEIGHT)), rtol=1e-4, atol=1e-4)


def test_is_quantized():
    assert is_quantized({"conv2d", "quantize_linear"}) and is_quantized({"fake_dequantize_max_abs"})
    assert not is_quantized({"conv2d", "relu"})
