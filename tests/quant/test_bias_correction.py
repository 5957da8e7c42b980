"""Bias correction: means of every layer come out as the float model's, with any kind of bias."""

from __future__ import annotations

import numpy as np
import pytest
from four_bits import batches, error, quantize, small_net
from small_programs import CONV, Net, random

from slimkit.errors import TrainingError
from slimkit.quant.bias_correction import correct_biases
from slimkit.quant.export import export_program


def means(model, feeds, name, axis=1):
    values = np.concatenate([model.run(feed, [name])[0] for feed in feeds])
    return values.mean(axis=tuple(d for d in range(values.ndim) if d != axis % values.ndim))


def biased_rounding(quantized):
    """Weights moved so that all round down: every channel's mean shifts."""
    params = quantized.model.params
    for grid in quantized.table.weights().values():
        weight = params[grid.tensor]
        shape = [1] * weight.ndim
        shape[grid.axis] = -1
        step = grid.scale.reshape(shape) / grid.qmax
        params[grid.tensor] = ((np.floor(weight / step) + 0.4) * step).astype(np.float32)
    return quantized


@pytest.mark.parametrize("bias", [True, False])
def test_means_of_all_layers_are_the_float_models(bias):
    model, feeds = small_net(bias), batches()
    before = quantize(model, feeds)
    after = correct_biases(before, feeds)
    simulated = export_program(after.model, after.table, "onnx")
    for name in ("a", "b", "c", "d", "e"):
        behind = f"{name}.biased" if bias else name
        axis = -1 if name == "e" else 1
        wanted = means(model, feeds, behind, axis)
        wrong = np.abs(means(export_program(model, before.table), feeds, behind, axis) - wanted).max()
        assert np.abs(means(simulated, feeds, behind, axis) - wanted).max() < 0.01 * wrong


@pytest.mark.parametrize("bias", [True, False])
def test_the_error_falls_on_other_data(bias):
    model, feeds = small_net(bias), batches()
    before = biased_rounding(quantize(model, feeds))
    other = batches(6)[4:]
    assert error(correct_biases(before, feeds), model, other) < 0.5 * error(before, model, other)


def test_the_float_model_gets_the_new_biases_and_the_old_one_keeps_its_own():
    model, feeds = small_net(), batches(1)
    before = quantize(model, feeds)
    ops, rows = model.op_counts(), before.table.to_dict()
    after = correct_biases(before, feeds)
    fresh = small_net()
    assert all(np.array_equal(model.params[name], value) for name, value in fresh.params.items())
    assert model.op_counts() == ops == after.model.op_counts() and before.table.to_dict() == rows
    assert after.table.to_dict() == rows
    changed = {name for name, value in after.model.params.items() if not np.array_equal(value, model.params[name])}
    assert changed == {"a.b", "b.b", "c.b", "d.b", "e.b"}


def test_a_layer_without_bias_gets_one_and_readers_keep_their_names():
    model, feeds = small_net(False), batches(1)
    before = quantize(model, feeds, affine=False)
    after = correct_biases(before, feeds)
    assert after.model.op_counts()["elementwise_add"] == 5
    assert [row.output for row in after.table.ops] == [f"{name}.unbiased" for name in "abcde"]
    assert after.model.fetches == ["e"] and set(after.table.params) == set(before.table.params)
    quantizers = export_program(after.model, after.table, "onnx").op_counts()["quantize_linear"]
    assert quantizers == export_program(before.model, before.table, "onnx").op_counts()["quantize_linear"]


def test_a_shared_bias_is_copied():
    net = Net()
    x = net.data("x", [-1, 3, 12, 12])
    b = net.param("b", random(1, 4, size=0.1))
    y = net.relu(net.add(net.conv(x, random(2, 4, 3, 3, 3), "p"), b, "p.b", 1), "p.relu")
    net.add(net.conv(y, random(3, 4, 4, 3, 3), "q"), b, "q.b", 1)
    model, feeds = net.model(["x"], ["q.b"]), batches()
    before = quantize(model, feeds)
    after = correct_biases(before, feeds)
    assert not np.allclose(after.model.params["p.bias"], after.model.params["b"], atol=1e-4)
    simulated = export_program(after.model, after.table, "onnx")
    for name in ("p.b", "q.b"):
        assert means(simulated, feeds, name) == pytest.approx(means(model, feeds, name), abs=1e-4)


@pytest.mark.parametrize("shape, axis", [([1, 4, 1, 1], -1), ([4, 1, 1], -1), ([4], 1)])
def test_biases_of_any_shape(shape, axis):
    net = Net()
    x = net.data("x", [-1, 3, 12, 12])
    net.add(net.conv(x, random(2, 4, 3, 3, 3), "p"), net.param("b", random(1, *shape)), "y", axis)
    model, feeds = net.model(["x"], ["y"]), batches()
    after = correct_biases(quantize(model, feeds), feeds)
    assert after.model.op_counts() == model.op_counts() and after.model.params["b"].shape == tuple(shape)
    simulated = export_program(after.model, after.table, "onnx")
    assert means(simulated, feeds, "y") == pytest.approx(means(model, feeds, "y"), abs=1e-4)


def test_a_residual_is_no_bias():
    net = Net()
    x = net.data("x", [-1, 4, 12, 12])
    net.op("conv2d", {"Output": "c"}, CONV, Input=x, Filter=net.param("w", random(1, 4, 4, 3, 3)))
    net.add("c", "x", "y")
    model, feeds = net.model(["x"], ["y"]), batches(channels=4)
    after = correct_biases(quantize(model, feeds), feeds)
    assert after.model.op_counts()["elementwise_add"] == 2
    simulated = export_program(after.model, after.table, "onnx")
    assert means(simulated, feeds, "y") == pytest.approx(means(model, feeds, "y"), abs=1e-4)


def test_no_batch():
    model, feeds = small_net(), batches(1)
    with pytest.raises(TrainingError, match="no batch"):
        correct_biases(quantize(model, feeds), [])
