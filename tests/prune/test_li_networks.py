"""The multiply-accumulates that Li et al.'s recipes remove (arXiv:1608.08710, Table 1), by pruning their networks."""

from __future__ import annotations

import math
import zlib  # noqa: F401  (before paddle)
from typing import Dict

import numpy as np
import paddle
import pytest
from li_networks import RECIPES, SHAPE, resnet
from paddle import nn
from paddle.static import InputSpec
from small_programs import random
from zoo import enliven

from slimkit.analysis import complexity
from slimkit.ir import Model
from slimkit.prune import find_groups, masked_model, prune_model
from slimkit.prune.plan import Plan, make_plan

IMAGE = random(0, *SHAPE)


def _model(net: nn.Layer) -> Model:
    paddle.seed(0)
    return Model.from_layer(enliven(net, [paddle.to_tensor(random(1, 2, *SHAPE[1:]))]), [InputSpec(SHAPE, name="x")])


def _filters(model: Model) -> Dict[int, str]:
    """Layer of the paper -> the parameter with its filters."""
    names = [op.input("Filter")[0] for op in model.program.global_block().ops if op.type == "conv2d"]
    return dict(enumerate(names, 1))


def _plan(model: Model, ratios: Dict[int, float]) -> Plan:
    """The paper's: filters of least absolute sum go; what stays is rounded down (16 filters less 10 % are 14)."""
    groups, filters, asked = find_groups(model), _filters(model), {}
    for layer, ratio in ratios.items():
        count = model.params[filters[layer]].shape[0]
        asked[filters[layer]] = 1 - math.floor(count * (1 - ratio) + 1e-9) / count
    return make_plan(groups, None, asked, params=model.params, criterion="l1_norm")


@pytest.mark.parametrize("name", RECIPES)
def test_multiply_accumulates_removed(name: str) -> None:
    recipe = RECIPES[name]
    model = _model(recipe.network())
    before = complexity(model)
    assert float(f"{before.macs:.2e}") == recipe.macs
    plan = _plan(model, recipe.ratios)
    pruned = prune_model(model, plan)
    after = complexity(pruned)
    assert 100 * (1 - after.macs / before.macs) == pytest.approx(recipe.pruned, abs=0.2)
    assert after.macs == _by_running(pruned)
    assert _same(pruned, masked_model(model, plan))


def _same(one: Model, other: Model) -> bool:
    """Whether two networks give the same, to 1e-5 of the largest result."""
    a, b = one.run([IMAGE])[0], other.run([IMAGE])[0]
    return bool(np.abs(a - b).max() <= 1e-5 * max(1.0, np.abs(b).max()))


def _by_running(model: Model) -> int:
    """The same count from what a run of the pruned network gives."""
    ops = [op for op in model.program.global_block().ops if op.type in ("conv2d", "matmul_v2")]
    results = model.run([IMAGE], [op.output("Out" if op.type == "matmul_v2" else "Output")[0] for op in ops])
    total = 0
    for op, result in zip(ops, results):
        weight = model.params[op.input("Y" if op.type == "matmul_v2" else "Filter")[0]]
        total += result.size * (weight.shape[0] if op.type == "matmul_v2" else int(np.prod(weight.shape[1:])))
    return total


def test_only_the_asked_layers_lose_filters() -> None:
    recipe = RECIPES["ResNet-56 B"]
    model = Model.from_layer(recipe.network(), [InputSpec(SHAPE, name="x")])
    pruned = prune_model(model, _plan(model, recipe.ratios))
    kept = {16: 6, 32: 22, 64: 57}  # of 60, 30 and 10 % that go
    for layer, name in _filters(model).items():
        before, after = model.params[name].shape[0], pruned.params[name].shape[0]
        assert after == (kept[before] if layer in recipe.ratios else before)


def test_channels_behind_shortcuts_of_option_a_go_together() -> None:
    model = _model(resnet(8))
    groups, filters = find_groups(model), _filters(model)
    assert groups.of(filters[1]) is groups.of(filters[3])  # the stem and the first block
    plan = make_plan(groups, None, {filters[1]: 0.5}, params=model.params)
    pruned = prune_model(model, plan)
    assert pruned.params[filters[1]].shape[0] == 8
    assert _same(pruned, masked_model(model, plan))
