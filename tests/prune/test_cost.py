"""The cost of a plan against counting the network that was really pruned."""

import zlib  # noqa: F401  (before paddle)

import numpy as np
import paddle
import pytest
from prune.hand_groups import chain

from slimkit.analysis import Complexity, OpCost, complexity
from slimkit.errors import ConfigError
from slimkit.ir import Model
from slimkit.prune.apply import prune_model
from slimkit.prune.cost import CostModel
from slimkit.prune.plan import Plan, make_plan


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenet_v1", {"scale": 0.25}),
        ("mobilenet_v2", {"scale": 0.25}),
        ("resnet18", {}),
        ("shufflenet_v2_x0_25", {}),
    ],
)
def test_equal_to_the_pruned_network(name, options):
    paddle.seed(0)
    network = getattr(paddle.vision.models, name)(num_classes=10, **options)
    model = Model.from_layer(network, [paddle.static.InputSpec([1, 3, 64, 64], "float32", "x")])
    cost = CostModel.of(model)
    whole = complexity(model)
    assert (cost.macs(), cost.flops(), cost.parameters()) == (whole.macs, whole.flops, whole.parameters)
    rng = np.random.default_rng(0)
    ratios = {group.name: float(rng.uniform(0, 0.9)) for group in cost.groups.prunable}
    plan = make_plan(cost.groups, {g.name: rng.random(g.size) for g in cost.groups.prunable}, ratios)
    pruned = complexity(prune_model(model, plan))
    assert cost.macs(plan) == pruned.macs < whole.macs
    assert cost.flops(plan) == pruned.flops
    assert cost.parameters(plan) == pruned.parameters
    for unit in ("macs", "flops", "parameters"):
        assert cost.value(unit, plan) == getattr(pruned, unit)


def test_by_hand():
    """conv c0 [8, 3, 3, 3] and c1 [6, 8, 3, 3] on 5 x 5 positions; 2 of 8 channels between them go."""
    shapes = {"c0": [8, 3, 3, 3], "c1": (6, 8, 3, 3), "bn0.scale": np.ones(8), "bn0.bias": [8]}
    macs = [25 * 8 * 27, 25 * 6 * 72]
    ops = [OpCost("conv2d", f"c{i}.out", f"c{i}", m, 2 * m, m // 25, (1, 8, 5, 5)) for i, m in enumerate(macs)]
    cost = CostModel(Complexity(sum(macs), 2 * sum(macs), 216 + 432 + 16, ops), chain(), shapes)
    plan = Plan(chain(), {"c0": np.array([0, 7])})
    assert cost.macs(plan) == 25 * 6 * 27 + 25 * 6 * 54
    assert cost.parameters(plan) == 162 + 324 + 12
    assert cost.macs(Plan(chain(), {})) == cost.macs() == sum(macs)
    with pytest.raises(ConfigError, match=r"known to a CostModel made by CostModel.of\(model\) only"):
        cost.flops(plan)
    with pytest.raises(ConfigError, match="'latency' cannot be counted; what can is macs, flops, parameters"):
        cost.value("latency")
