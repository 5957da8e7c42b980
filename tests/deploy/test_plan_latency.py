"""Latency of pruning plans, measured on the runtimes."""

import zlib  # noqa: F401  (before paddle)

import numpy as np
import paddle
import pytest
from paddle import nn

from slimkit.deploy.plan_latency import PlanLatency
from slimkit.errors import ConfigError
from slimkit.ir import Model
from slimkit.prune import Plan, find_groups

FEED = {"x": np.random.RandomState(0).randn(1, 16, 48, 48).astype("float32")}


@pytest.fixture(scope="module")
def model():
    net = nn.Sequential(nn.Conv2D(16, 128, 3, padding=1), nn.ReLU(), nn.Conv2D(128, 64, 3, padding=1))
    return Model.from_layer(net, [paddle.static.InputSpec([1, 16, 48, 48], "float32", "x")])


@pytest.mark.parametrize("runtime", ["paddle", "onnx"])
def test_fewer_channels_take_less(model, runtime):
    groups = find_groups(model)
    latency = PlanLatency(model, FEED, runtime, rounds=5, budget_seconds=0.5)
    pruned = latency(Plan(groups, {groups.prunable[0].name: np.arange(112)}))  # an eighth of the work
    whole = latency(Plan(groups, {}))
    assert whole == latency.whole > 0 and 0 < pruned < 0.7 * whole
    (row,) = latency.history
    assert row["ms"] == pruned == pytest.approx(row["ratio"] * whole) and row["removed"] == 112 / 128


def test_a_runtime_that_is_not_timed(model):
    with pytest.raises(ConfigError, match=r"measured on paddle, onnx, not on 'onxn'; did you mean 'onnx'\?"):
        PlanLatency(model, FEED, "onxn")
