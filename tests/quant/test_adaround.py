"""AdaRound over a model: the error falls on data it has not seen, and what is stored is what was learned."""

from __future__ import annotations

import numpy as np
import pytest
from four_bits import batches, error, quantize, small_net
from small_programs import CONV, Net, random

from slimkit.errors import TrainingError
from slimkit.quant import adaround_layers
from slimkit.quant.adaround import adaround
from slimkit.quant.export import export_program
from slimkit.quant.passes.freeze_weights import weight_integers


@pytest.fixture(scope="module")
def rounded():
    model, feeds = small_net(), batches()
    before = quantize(model, feeds)
    reports = []
    after = adaround(before, feeds, steps=200, progress=reports.append)
    return model, before, after, reports


def test_the_models_error_falls_on_other_data(rounded):
    model, before, after, _ = rounded
    other = batches(6)[4:]
    assert error(after, model, other) < 0.4 * error(before, model, other)


def test_every_layers_error_falls_and_is_reported_in_order(rounded):
    _, _, _, reports = rounded
    assert [report.weight for report in reports] == ["a.w", "b.w", "c.w", "d.w", "e.w"]
    assert [(r.index, r.count) for r in reports] == [(i, 5) for i in range(1, 6)]
    assert all(0 < r.error < r.nearest_error < 1 for r in reports)


def test_what_is_given_stays_as_it_was(rounded):
    model, before, after, _ = rounded
    assert before.model is model and after.model is not model and after.table is before.table
    fresh = small_net()
    assert all(np.array_equal(model.params[name], value) for name, value in fresh.params.items())


def test_weights_lie_on_the_grid_beside_where_they_were(rounded):
    model, before, after, _ = rounded
    moved = 0
    for params in before.table.weights().values():
        was, now = model.params[params.tensor], after.model.params[params.tensor]
        q = weight_integers(now, params)
        shape = [1] * was.ndim
        shape[params.axis] = -1
        step = params.scale.reshape(shape) / params.qmax
        assert now == pytest.approx(q * step, rel=1e-6, abs=1e-9) and np.abs(q).max() <= params.qmax
        assert np.abs(now - was).max() <= 1.001 * step.max()
        moved += int((q != weight_integers(was, params)).sum())
    assert moved > 100


@pytest.mark.parametrize("fmt", ["onnx", "old"])
def test_exporters_store_the_learned_integers(rounded, fmt):
    _, _, after, _ = rounded
    exported = export_program(after.model, after.table, fmt)
    for params in after.table.weights().values():
        stored = exported.params[params.tensor].astype(np.float32)
        assert np.array_equal(stored, weight_integers(after.model.params[params.tensor], params))


def test_less_memory_means_fewer_batches_not_failure(rounded, monkeypatch):
    model, before, _, _ = rounded
    monkeypatch.setattr("slimkit.quant.adaround.BUDGET", 400_000)
    after = adaround(before, batches(), steps=100)
    assert error(after, model, batches(6)[4:]) < error(before, model, batches(6)[4:])


def test_a_weight_read_twice_is_rounded_once_for_both_readers():
    net = Net()
    x = net.data("x", [-1, 4, 12, 12])
    y = net.relu(net.conv(x, random(1, 4, 4, 3, 3, size=0.3), "a"), "r")
    net.op("conv2d", {"Output": "z"}, CONV, Input=y, Filter="a.w")
    model, feeds = net.model(["x"], ["z"]), batches(channels=4)
    before = quantize(model, feeds)
    (layer,) = adaround_layers.layers_of(model, before.table)
    assert [reader.output for reader in layer.readers] == ["a", "z"]
    assert error(adaround(before, feeds, steps=200), model, feeds) < error(before, model, feeds)


def test_a_weight_that_a_float_op_reads_is_left_alone():
    net = Net()
    x = net.data("x", [-1, 4, 12, 12])
    y = net.conv(x, random(1, 4, 4, 3, 3, size=0.3), "a")
    net.op("reduce_sum", {"Out": "s"}, {"reduce_all": True, "keep_dim": False, "dim": [0]}, X="a.w")
    net.add(y, "s", "z")
    model, feeds = net.model(["x"], ["z"]), batches(1, channels=4)
    before = quantize(model, feeds)
    assert adaround_layers.layers_of(model, before.table) == []
    assert np.array_equal(adaround(before, feeds).model.params["a.w"], model.params["a.w"])


def test_weights_with_one_scale_and_affine_activations():
    model, feeds = small_net(), batches()
    before = quantize(model, feeds, weight_quantize_type="abs_max", affine=True)
    assert error(adaround(before, feeds, steps=200), model, feeds) < 0.4 * error(before, model, feeds)


@pytest.mark.parametrize("bits", [3, 12])
def test_layers_that_share_an_input_and_other_widths(bits):
    net = Net()
    x = net.relu(net.data("x", [-1, 4, 12, 12]), "r")
    y = net.relu(net.conv(x, random(1, 8, 4, 3, 3, size=0.3), "a"), "a.relu")
    z = net.relu(net.conv(x, random(2, 8, 4, 1, 1, size=0.3), "b", paddings=[0, 0]), "b.relu")
    net.conv(net.add(y, z, "sum"), random(3, 4, 8, 3, 3, size=0.3), "c")
    model, feeds = net.model(["x"], ["c"]), batches(channels=4)
    before = quantize(model, feeds, bits, activation_bits=16)
    after = adaround(before, feeds, steps=200)
    assert error(after, model, feeds) < 0.5 * error(before, model, feeds)


def test_no_batch():
    model, feeds = small_net(), batches(1)
    with pytest.raises(TrainingError, match="no batch"):
        adaround(quantize(model, feeds), [])
