"""Per-layer error and histograms, streamed, against the same computed at once."""

from __future__ import annotations

import numpy as np
import pytest

from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable
from slimkit.recipe.layer_report import describe_layers, measure_layers, slices, thresholds


@pytest.fixture
def table():
    table = QuantTable()
    table.add(QuantParams("w", np.ones(3), axis=0, is_weight=True, bits=4))
    table.add(QuantParams("x", np.array([2.0]), bits=5))
    table.add(QuantParams("dyn", np.array([2.0]), dynamic=True))
    table.add(QuantParams("aff", np.array([2.0]), symmetric=False))
    table.ops = [QuantizedOp("conv2d", "y", {"Filter": "w", "Input": "x"})]
    return table


def test_thresholds_prefer_alpha_and_leave_out_what_has_none(table):
    assert thresholds(table, {}) == {"x": 2.0}
    assert thresholds(table, {"x": 1.5, "other": 3.0}) == {"x": 1.5}


def test_measured_layers_match_brute_force(table):
    rng = np.random.default_rng(1)
    images = rng.normal(size=(10, 4)).astype(np.float32)
    feeds = [{"image": images[:6]}, {"image": images[6:]}]

    def run_float(feed, names):
        known = {"x": np.abs(feed["image"]), "y": feed["image"] * 3}
        return [known[name] for name in names]

    def run_simulated(feed, names):
        assert names == ["y"]
        return [np.round(feed["image"] * 3)]

    layers = describe_layers(table, {"x": 3.0}, {"x": 1.0}, {"w": "block.conv.weight"})
    (row,) = measure_layers(layers, feeds, run_float, run_simulated, bins=16)
    x, y = np.abs(images), images * 3
    assert row.layer == "block.conv"
    assert (row.weight, row.activation, row.weight_bits, row.activation_bits) == ("w", "x", 4, 5)
    assert (row.threshold_before, row.threshold_after) == (3.0, 1.0)
    assert row.sqnr_db == pytest.approx(
        10 * np.log10((y**2).sum() / ((y - np.round(y)) ** 2).sum()), rel=1e-5
    )
    assert row.histogram.counts == np.histogram(x, 16, (x.min(), x.max()))[0].tolist()
    assert (row.histogram.low, row.histogram.high) == (x.min(), x.max())
    assert row.clipped == pytest.approx((x > 1).mean())


def test_slices_bound_images_and_values():
    def feeds():
        for _ in range(3):
            yield {"image": np.zeros((20, 3, 48, 48)), "label": np.zeros((20, 1))}

    cut = slices(feeds(), 30)
    assert [len(f["image"]) for f in cut] == [16, 4, 10] and [len(f["label"]) for f in cut] == [16, 4, 10]
    big = slices(iter([{"image": np.zeros((5, 3, 224, 224))}]), 5)
    assert [len(f["image"]) for f in big] == [2, 2, 1]
