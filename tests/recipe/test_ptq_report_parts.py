"""From statistics, tables and verification rows to the parts of the report."""

from __future__ import annotations

import numpy as np
import pytest

from slimkit.deploy.compare import compare
from slimkit.deploy.runtime import Latency
from slimkit.deploy.verify_report import VerifyReport, VerifyRow
from slimkit.numerics.histogram import AbsHistogram
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable
from slimkit.recipe.ptq_report_parts import (
    deployed_results,
    grid_ends,
    runtime_plan,
    signed_histogram,
    tensor_grids,
)


def seen(values):
    histogram = AbsHistogram()
    histogram.update(values)
    return histogram


@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
def test_histogram_has_all_values_and_lies_around_them(shift):
    values = (np.random.RandomState(0).randn(5000) + shift).astype("float32")
    found = signed_histogram(seen(values), 64)
    assert sum(found.counts) == 5000 and len(found.counts) <= 66
    width = (found.high - found.low) / len(found.counts)
    assert found.low <= values.min() and found.high >= values.max()
    middle = np.histogram(values, len(found.counts), (found.low, found.high))[0]
    assert np.abs(np.array(found.counts) - middle).max() <= 40 and width < 0.3


def test_histogram_of_one_sign_starts_at_zero():
    found = signed_histogram(seen(np.array([0.5, 1.0, 0.0], "float32")), 8)
    assert found.low == 0 and found.high >= 1 and sum(found.counts) == 3
    assert signed_histogram(seen(np.zeros(4, "float32")), 8) is None


def affine(low, high):
    zero = np.array([round(-low / (high - low) * 255)])
    return QuantParams("t", np.array([high - low], "float32"), 8, None, False, zero)


def test_ends_of_grids():
    assert grid_ends(QuantParams("t", np.array([2.0], "float32"))) == (-2, 2)
    low, high = grid_ends(affine(-1.0, 4.1))
    assert low == pytest.approx(-1.0, abs=0.02) and high - low == pytest.approx(5.1)


def table(params):
    made = QuantTable(skipped=[{"op": "z", "type": "conv2d", "reason": "rule"}])
    weight = QuantParams("w", np.ones(3, "float32"), axis=0, is_weight=True)
    made.ops.append(QuantizedOp("conv2d", "y", {"Input": made.add(params), "Filter": made.add(weight)}, {"r": "t"}))
    return made


def test_grids_of_two_runtimes_are_joined_where_they_agree():
    values = np.linspace(-1, 4, 1001, dtype="float32")
    symmetric = QuantParams("t", np.array([2.0], "float32"))
    tables = {"paddle": table(symmetric), "lite-arm": table(symmetric), "onnx": table(affine(-1.0, 3.0))}
    (grid,) = tensor_grids(tables, {"t": seen(values)})
    assert [r.runtimes for r in grid.ranges] == [["paddle", "lite-arm"], ["onnx"]]
    assert grid.ranges[0].clipped == pytest.approx((values > 2).mean(), abs=0.003)
    assert grid.ranges[1].clipped == pytest.approx((values > 3).mean(), abs=0.01)
    assert tensor_grids(tables, {})[0].histogram is None


def test_plan_says_what_is_quantized_and_what_is_not():
    plan = runtime_plan("paddle", table(affine(-1, 1)), {"conv2d": 2, "relu": 5, "feed": 1})
    (layer,) = plan.quantized
    assert (layer.name, layer.weight, layer.activations, layer.per_channel) == ("y", "w", ["t"], True)
    assert layer.quantized_result and layer.weight_bits == layer.activation_bits == 8
    assert [item.reason for item in plan.skipped] == ["rule"] and plan.other_ops == {"relu": 5}


def test_results_of_rows():
    x = np.random.RandomState(0).randn(4, 3)
    rows = [
        VerifyRow("paddle", "P, float", "float", 0.75, {"top1": 0.75}, 1000, samples=4),
        VerifyRow("paddle", "P, int8", "int8", 0.5, {"top1": 0.5}, 400, against_float=compare([x], [x]), samples=4),
        VerifyRow("lite-arm", "L", "int8", size_bytes=300),
        VerifyRow("lite-x86", "L", "int8", error="No Paddle-Lite was found.", unavailable=True),
        VerifyRow("paddle", "P, x", "int8", error="It was killed."),
    ]
    rows[1].latency, rows[1].speed_ratio = {8: Latency(2.0, 1.0, 3.0, 2.0, 10, 1)}, {8: 1.23456}
    found = deployed_results(VerifyReport(rows, 4, 1, "top1", {}))
    assert [r.status for r in found] == ["ok", "ok", "converted", "unavailable", "failed"]
    assert [r.samples for r in found] == [4, 4, 0, 0, 0] and found[3].reason.startswith("No Paddle-Lite")
    assert found[1].size_ratio == 0.4 and found[0].size_ratio is None
    assert found[1].against_float.sqnr_db is None and found[1].against_float.cosine == pytest.approx(1)
    assert found[1].latency["8"].p90_ms == 3 and found[1].speed_ratio == {"8": 1.235}
