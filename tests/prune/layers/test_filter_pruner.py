"""PaddleSlim's dygraph pruners: its calls, its choice of filters, plans, restoring, sensitivities, bad input."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any, Dict

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.vision import models
from small_layers import Attention, Detector, Mixed, Residual, enliven, state

import slimkit
from slimkit.analysis import dygraph_flops
from slimkit.dygraph import FilterPruner, FPGMFilterPruner, L1NormFilterPruner
from slimkit.errors import ConfigError, EvaluationError, ModelError
from slimkit.prune.sensitivity import Sensitivities

ASSETS = Path(__file__).parents[2] / "assets"


def same(net: nn.Layer, values: Dict[str, np.ndarray]) -> bool:
    found = state(net)
    return found.keys() == values.keys() and all(np.array_equal(found[key], values[key]) for key in found)


# ------------------------------------------------------------------ the same filters as PaddleSlim


@pytest.mark.parametrize(
    "case",
    json.loads((ASSETS / "paddleslim_layer_pruned.json").read_text()),
    ids=lambda case: f"{case['network']}-{case['pruner']}",
)
def test_the_same_channels_go_as_with_paddleslim(case: Dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(str(ASSETS))
    import make_paddleslim_layer_pruned as peer

    net = peer.network(case["network"], case["arguments"])
    plan = getattr(slimkit, case["pruner"])(net, [1, 3, 64, 64]).prune_vars(peer.ratios_of(net), [0])
    assert peer.kept(net) == case["kept"]
    assert plan.pruned_flops > 0.2
    sys.modules.pop("make_paddleslim_layer_pruned")


# ------------------------------------------------------------------ plans


def test_restore_gives_every_bit_back_and_optimizers_their_state() -> None:
    net = enliven(Residual())
    optimizer = paddle.optimizer.Adam(0.01, parameters=net.parameters())
    train(net, optimizer)
    values, moments = state(net), snapshot(optimizer)
    pruner = L1NormFilterPruner(net, [1, 3, 8, 8], opt=optimizer)
    plan = pruner.prune_vars({net.first.weight.name: 0.5, net.wide.weight.name: 0.25}, [0])
    assert net.wide.weight.shape == [12, 4, 3, 3] and plan.applied
    later = pruner.prune_var(net.wide.weight.name, 0, 0.5)
    assert net.wide.weight.shape == [6, 4, 3, 3]
    with pytest.raises(ModelError, match="pruned once more after it"):
        plan.restore(net)
    later.restore(net)
    assert net.wide.weight.shape == [12, 4, 3, 3]
    pruner.restore()
    assert same(net, values) and not plan.applied
    assert all(np.array_equal(a, b) for a, b in zip(moments, snapshot(optimizer)))
    pruner.prune_vars({net.first.weight.name: 0.5}, [0])
    train(net, optimizer)
    bias = net.out.bias.numpy()
    pruner.restore()
    np.testing.assert_array_equal(net.first.weight.numpy(), values["first.weight"])
    np.testing.assert_array_equal(net.out.bias.numpy(), bias)  # no part of the plan: as training left it
    train(net, optimizer)


def train(net: nn.Layer, optimizer: Any) -> None:
    ((net(paddle.ones([2, 3, 8, 8])) - 1) ** 2).mean().backward()
    optimizer.step()
    optimizer.clear_grad()


def snapshot(optimizer: Any) -> list:
    return [t.numpy() for table in optimizer._accumulators.values() for t in table.values()]


def test_state_made_of_the_pruned_layer_is_dropped_on_restore() -> None:
    net = enliven(Residual())
    pruner = L1NormFilterPruner(net, [1, 3, 8, 8])
    pruner.prune_vars({net.wide.weight.name: 0.25}, [0])
    optimizer = paddle.optimizer.Momentum(0.01, parameters=net.parameters())
    train(net, optimizer)
    pruner.opt = optimizer
    pruner.restore()
    train(net, optimizer)
    (velocity,) = optimizer._accumulators.values()
    assert velocity[net.wide.weight.name].shape == [16, 8, 3, 3]


def test_lazy_and_none() -> None:
    net = enliven(Residual())
    values, name = state(net), net.wide.weight.name
    pruner = FPGMFilterPruner(net, [1, 3, 8, 8])
    plan = pruner.prune_vars({name: 0.5}, 0, apply=None)
    assert same(net, values) and plan.contains(name, 0) and not plan.contains(name, 1)
    plan.extend(pruner.prune_var(net.first.weight.name, [0], 0.25, apply=None))
    assert plan.contains(net.first.weight.name)
    lazy = pruner.prune_vars({name: 0.5, net.first.weight.name: 0.25}, [0], apply="lazy")
    assert {n: {m.dims: m.mask.tolist() for m in masks} for n, masks in lazy.masks.items()} == {
        n: {m.dims: m.mask.tolist() for m in masks} for n, masks in plan.masks.items()
    }
    masked = net(paddle.ones([2, 3, 8, 8])).numpy()
    gone = lazy.masks[name][0].mask == 0
    assert gone.sum() == 8 and not net.wide.weight.numpy()[gone].any()
    lazy.restore(net)
    assert same(net, values)
    plan.apply(net)
    np.testing.assert_allclose(net(paddle.ones([2, 3, 8, 8])).numpy(), masked, atol=1e-5)
    with pytest.raises(ModelError, match="applied already"):
        plan.apply(net)
    assert f"{name}: 25.0% of axis 1, 50.0% of axis 0" in str(plan)


def test_pruned_flops_is_what_a_count_gives() -> None:
    net = enliven(Mixed())
    counts = [slimkit.analysis.complexity(net, [1, 3, 8, 8]).macs]
    plan = L1NormFilterPruner(net, [1, 3, 8, 8]).prune_vars({net.stem.weight.name: 0.5, net.up.weight.name: 0.5}, [0])
    counts.append(slimkit.analysis.complexity(net, [1, 3, 8, 8]).macs)
    assert plan.pruned_flops == pytest.approx(1 - counts[1] / counts[0], abs=1e-3) and plan.pruned_flops > 0.3


def test_a_model_may_hold_its_pruner() -> None:
    """PaddleClas sets ``model.pruner``."""
    net = enliven(Residual())
    net.pruner = L1NormFilterPruner(net, [1, 3, 8, 8])
    net.pruner.prune_vars({net.wide.weight.name: 0.5}, [0])
    twin = copy.deepcopy(net)
    x = paddle.ones([2, 3, 8, 8])
    np.testing.assert_array_equal(twin(x).numpy(), net(x).numpy())
    assert twin.wide.weight is not net.wide.weight


# ------------------------------------------------------------------ kinds of pruners


class Alternate(FilterPruner):
    """A user's own: every other filter goes, as many as asked for."""

    def cal_mask(self, pruned_ratio: float, collection: Any) -> np.ndarray:
        value = collection.values[collection.master_name]
        mask = np.ones(value.shape[collection.master_axis])
        mask[: 2 * round(pruned_ratio * len(mask)) : 2] = 0
        assert {d.op.attr("groups") for d in collection.all_pruning_details() if d.axis == 1} <= {1, None}
        assert collection.variables()[0] == collection.all_pruning_details()[0].name == collection.master_name
        return mask


def test_a_pruner_of_ones_own() -> None:
    net = enliven(Residual())
    before = net.wide.weight.numpy()
    pruner = Alternate(net, [1, 3, 8, 8])
    assert net.wide.weight.name in [collection.master_name for collection in pruner.collections]
    pruner.prune_var(net.wide.weight.name, 0, 0.25)
    np.testing.assert_array_equal(net.wide.weight.numpy(), np.delete(before, [0, 2, 4, 6], 0))
    with pytest.raises(ConfigError, match="FilterPruner does not say which filters go; define cal_mask"):
        FilterPruner(net, [1, 3, 8, 8]).prune_var(net.wide.weight.name, 0, 0.25)


def test_fully_connected_layers_and_heads() -> None:
    net = enliven(Attention())
    pruner = L1NormFilterPruner(net, [1, 3, 8, 8], prune_type="fc", num_head=4)
    query = net.attention.q_proj.weight.name
    pruner.prune_vars({query: 0.5}, [1])
    assert net.attention.q_proj.weight.shape == [24, 12] and net.attention.num_heads == 2
    with pytest.raises(ConfigError, match="its filters lie along axis 1, not 0"):
        pruner.prune_var(query, [0], 0.5)


def test_results_go_when_leaves_are_not_skipped() -> None:
    net = enliven(nn.Sequential(nn.Conv2D(3, 8, 3), nn.ReLU(), nn.Conv2D(8, 6, 3)))
    pruner = L1NormFilterPruner(net, [1, 3, 8, 8], skip_leaves=False)
    pruner.prune_var(net[2].weight.name, 0, 0.5)
    assert net(paddle.ones([1, 3, 8, 8])).shape == [1, 3, 4, 4]


# ------------------------------------------------------------------ sensitivity


def test_sensitivity_resumes_and_leads_to_a_target(tmp_path: Path) -> None:
    net = enliven(Residual())
    x = paddle.randn([4, 3, 8, 8])
    expected, values, path = net(x), state(net), tmp_path / "sen.json"
    calls = []

    def evaluate() -> float:
        calls.append(1)
        if len(calls) == 6:
            raise OSError("no disk")
        return 1.0 / (1.0 + float(((net(x) - expected) ** 2).mean()))

    pruner = FPGMFilterPruner(net, [1, 3, 8, 8])
    with pytest.raises(EvaluationError, match="OSError: no disk; the points before it are kept"):
        pruner.sensitive(eval_func=evaluate, sen_file=str(path))
    assert Sensitivities.load(path).points == 5 and same(net, values)
    found = pruner.sensitive(eval_func=evaluate, sen_file=str(path), skip_vars=["not_here"])
    assert list(found) == [net.first.weight.name, net.wide.weight.name] and len(calls) == 6 + 12
    assert same(net, values) and found == pruner.sensitive()
    assert FPGMFilterPruner(net, [1, 3, 8, 8], sen_file=str(path)).sensitive() == found
    assert all(loss >= -1e-6 for points in found.values() for loss in points.values())
    pruner.prune_var(net.wide.weight.name, 0, 0.3, apply="lazy")
    loss = 1 - 1.0 / (1.0 + float(((net(x) - expected) ** 2).mean()))
    pruner.restore()
    assert found[net.wide.weight.name][0.3] == pytest.approx(loss, abs=1e-6)

    whole = dygraph_flops(net, [1, 3, 8, 8], only_conv=True)
    plan = pruner.sensitive_prune(0.3, align=2)
    assert plan.pruned_flops == pytest.approx(1 - dygraph_flops(net, [1, 3, 8, 8], only_conv=True) / whole, abs=0.02)
    assert 0.3 <= plan.pruned_flops < 0.5 and all(p.shape[0] % 2 == 0 for p in net.first.parameters())
    assert pruner.sensitive_prune(0.1, skip_vars=[net.first.weight.name]).pruned_flops >= 0.1
    assert net.first.weight.shape[0] == 8
    ratios = pruner._get_ratios_by_loss({"a": {0.1: 0.0, 0.3: 0.2}, "b": {0.1: 0.5}}, loss=0.1)
    assert ratios == pytest.approx({"a": 0.2, "b": 0.0})
    with pytest.raises(ConfigError, match="No sensitivities are known"):
        L1NormFilterPruner(net, [1, 3, 8, 8]).sensitive_prune(0.3)


# ------------------------------------------------------------------ bad input


def test_bad_input() -> None:
    net = enliven(Detector())
    values = state(net)
    pruner = L1NormFilterPruner(net, [1, 3, 16, 16])
    first = net.backbone[0].weight.name
    with pytest.raises(ConfigError, match=f"no parameter '{first}x'; did you mean '{first}'"):
        pruner.prune_vars({first + "x": 0.5}, [0])
    with pytest.raises(ConfigError, match=r"ratio of .* is 1.5; give the fraction"):
        pruner.prune_vars({first: 1.5}, [0])
    with pytest.raises(ConfigError, match="cannot be pruned: it is a single unit, which must stay"):
        pruner.prune_var(net.binarize[6].weight.name, 0, 0.5)
    with pytest.raises(ConfigError, match=r"None of the 1 parameters can be pruned: .*has no filters"):
        pruner.prune_vars({net.backbone[0].bias.name: 0.5}, [0])
    with pytest.raises(ConfigError, match="apply = 'physical' is none of"):
        pruner.prune_vars({first: 0.5}, [0], apply="physical")
    for ratios in (None, [first], {3: 0.5}):
        with pytest.raises(ConfigError, match="is no dict of ratios"):
            pruner.prune_vars(ratios, [0])
    for axis in (None, "0", [], [0, 1]):
        with pytest.raises(ConfigError, match=r"filters lie along one axis; give \[0\]"):
            pruner.prune_vars({first: 0.5}, axis)
    with pytest.raises(ConfigError, match=r"skip_vars = 'conv' is no list"):
        pruner.sensitive(eval_func=lambda: 1.0, skip_vars="conv")
    with pytest.raises(ConfigError, match="prune_type = 'convolution' is none of conv, fc"):
        L1NormFilterPruner(net, [1, 3, 16, 16], prune_type="convolution")
    with pytest.warns(UserWarning, match="2 parameters with filters were not pruned, such as"):
        plan = pruner.prune_vars({p.name: 0.5 for p in net.parameters() if p.name not in _transposed(net)}, [0])
    assert set(plan.skipped) > {net.binarize[6].weight.name, net.backbone[0].bias.name}
    plan.restore(net)
    assert same(net, values)


def _transposed(net: nn.Layer) -> set:
    return {p.name for part in net.sublayers() if isinstance(part, nn.Conv2DTranspose) for p in part.parameters()}


class Fickle(nn.Layer):
    """Works with 8 and 7 and 4 channels, which are tried, and not with others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2D(3, 8, 3), nn.Conv2D(8, 4, 3)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        if x.shape[1] not in (8, 7, 4):
            raise ValueError(f"{x.shape[1]} channels")
        return self.second(x)


def test_a_layer_that_would_not_work_is_left() -> None:
    net = enliven(Fickle())
    values = state(net)
    pruner = L1NormFilterPruner(net, [1, 3, 8, 8])
    with pytest.raises(ModelError, match=r"Fickle does not work when it is pruned by this plan: .* 6 channels"):
        pruner.prune_vars({net.first.weight.name: 0.25}, [0])
    assert same(net, values) and net.first._out_channels == 8
    pruner.prune_vars({net.first.weight.name: 0.5}, [0])
    assert net.first._out_channels == 4


def test_shufflenet_is_pruned() -> None:
    net = enliven(models.shufflenet_v2_x0_25())
    names = [part.weight.name for part in net.sublayers() if isinstance(part, nn.Conv2D)]
    with pytest.warns(UserWarning, match="parameters with filters were not pruned"):
        plan = FPGMFilterPruner(net, [1, 3, 64, 64]).prune_vars(dict.fromkeys(names, 0.4), [0])
    assert plan.pruned_flops > 0.2 and net(paddle.ones([1, 3, 64, 64])).shape == [1, 1000]
