"""``prune_layer``: masked = physical, and all that a layer, its optimizer and its files must go on doing."""

from __future__ import annotations

import copy
from typing import Any, Tuple

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from paddle.vision import models
from plans import random_plan
from small_layers import Attention, Mixed, Residual, enliven, state

from slimkit.errors import ConfigError, ModelError
from slimkit.prune import Plan
from slimkit.prune.layers import LayerNetwork, layer_groups, mask_layer, prune_layer


def image(*shape: int) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(1).standard_normal(shape).astype("float32"))


def half_of(groups: Any) -> Plan:
    return Plan(groups, {group.name: np.arange(group.size // 2) for group in groups.prunable})


def close(one: Any, other: Any) -> None:
    one, other = one.numpy(), other.numpy()
    assert np.isfinite(one).all()
    np.testing.assert_allclose(one, other, atol=1e-5 * max(1.0, np.abs(one).max()))


@pytest.mark.parametrize(
    ("name", "arguments", "side"),
    [
        ("mobilenet_v1", {"scale": 0.25}, 32),
        ("mobilenet_v3_small", {"scale": 0.5}, 32),
        ("resnet18", {}, 32),
        ("shufflenet_v2_x0_25", {}, 32),
        ("squeezenet1_1", {}, 48),
        ("LeNet", {}, 28),
    ],
)
def test_masked_and_pruned_compute_the_same(name: str, arguments: dict, side: int) -> None:
    net = enliven(getattr(models, name)(**arguments))
    x = image(2, 1 if name == "LeNet" else 3, side, side)
    network = LayerNetwork(net, [x])
    assert len(network.groups.prunable) >= (3 if name == "LeNet" else 10)
    before, whole = state(net), net(x)
    for seed in (1, 3, 4):
        plan = random_plan(network.groups, seed)
        undo = mask_layer(net, plan)
        masked = net(x)
        undo()
        undo = prune_layer(net, plan)
        close(masked, net(x))
        assert sum(tensor.size for tensor in net.parameters()) < sum(a.size for a in before.values())
        assert network.cost is not None and network.cost.macs(plan) < network.cost.macs()
        undo()
        assert all(np.array_equal(array, before[key]) for key, array in state(net).items())
    np.testing.assert_array_equal(net(x).numpy(), whole.numpy())


def _mixed() -> Tuple[nn.Layer, Any, Plan]:
    net = enliven(Mixed())
    groups = layer_groups(net, [2, 3, 8, 8])
    return net, groups, half_of(groups)


def test_attributes_follow() -> None:
    net, groups, plan = _mixed()
    assert not any(group.refused for group in groups if group.name != net.out.weight.name)
    prune_layer(net, plan)
    assert (net.stem._in_channels, net.stem._out_channels, net.stem._groups) == (3, 8, 1)
    assert net.gain.shape == [1, 8, 1, 1] and net.norm._mean.shape == [8]
    assert (net.norm._num_features, net.slope._num_parameters) == (8, 8)
    assert (net.depthwise._in_channels, net.depthwise._out_channels, net.depthwise._groups) == (8, 16, 8)
    assert (net.grouped._in_channels, net.grouped._out_channels, net.grouped._groups) == (16, 8, 4)
    assert net.instance._num_features == 8
    assert (net.up._in_channels, net.up._out_channels, net.up._groups) == (8, 5, 1)
    assert (net.up_depthwise._in_channels, net.up_depthwise._out_channels, net.up_depthwise._groups) == (5, 5, 5)
    assert "in_features=5, out_features=7" in repr(net.hidden) and net.out.weight.shape == [7, 5]
    assert repr(net.depthwise) == repr(nn.Conv2D(8, 16, 3, groups=8, padding=1))


def test_names_and_objects_stay_and_undo_gives_all_back() -> None:
    net, _, plan = _mixed()
    parameters = net.parameters()
    names, values, attributes = [p.name for p in parameters], state(net), repr(net)
    undo = prune_layer(net, plan)
    assert all(a is b for a, b in zip(net.parameters(), parameters)) and [p.name for p in net.parameters()] == names
    assert repr(net) != attributes
    undo()
    assert repr(net) == attributes
    assert all(np.array_equal(array, values[key]) for key, array in state(net).items())


def test_copies_files_and_exports(tmp_path: Any) -> None:
    net, _, plan = _mixed()
    x = image(2, 3, 8, 8)
    prune_layer(net, plan)
    expected = net(x).numpy()
    np.testing.assert_array_equal(copy.deepcopy(net)(x).numpy(), expected)
    assert paddle.summary(net, (2, 3, 8, 8))["total_params"] == sum(p.size for p in net.parameters())
    paddle.save(net.state_dict(), str(tmp_path / "net.pdparams"))
    fresh = Mixed()
    prune_layer(fresh, Plan.from_dict(layer_groups(fresh, [2, 3, 8, 8]), _renamed(plan, net, fresh)))
    missing, unexpected = fresh.set_state_dict(paddle.load(str(tmp_path / "net.pdparams")))
    fresh.eval()
    assert not missing and not unexpected
    np.testing.assert_array_equal(fresh(x).numpy(), expected)
    paddle.jit.save(net, str(tmp_path / "net"), input_spec=[paddle.static.InputSpec([None, 3, 8, 8])])
    np.testing.assert_allclose(paddle.jit.load(str(tmp_path / "net"))(x).numpy(), expected, atol=1e-5)


def _renamed(plan: Plan, old: nn.Layer, new: nn.Layer) -> dict:
    names = {a.name: b.name for a, b in zip(old.parameters(), new.parameters())}
    held = plan.to_dict()
    return {**held, "groups": {names[name]: entry for name, entry in held["groups"].items()}}


@pytest.mark.parametrize("full_graph", [True, False])
def test_static_functions_are_traced_anew(full_graph: bool) -> None:
    net = enliven(Residual())
    x = image(2, 3, 8, 8)
    groups = layer_groups(net, [x])
    plain = net(x).numpy()
    paddle.jit.to_static(net, full_graph=full_graph)
    np.testing.assert_allclose(net(x).numpy(), plain, atol=1e-5)
    undo = mask_layer(net, half_of(groups))
    masked = net(x)
    undo()
    undo = prune_layer(net, half_of(groups))
    close(masked, net(x))
    undo()
    np.testing.assert_allclose(net(x).numpy(), plain, atol=1e-5)


def test_shared_weights_and_data_parallel() -> None:
    net = enliven(Residual())
    x = image(2, 3, 8, 8)
    wrapped = paddle.DataParallel(net)
    network = LayerNetwork(wrapped, [x])
    group = network.groups.of(net.first.weight.name)
    assert {m.parameter for m in group.producers} == {net.first.weight.name, net.second.weight.name}
    plan = half_of(network.groups)
    undo = mask_layer(wrapped, plan)
    masked = wrapped(x)
    undo()
    prune_layer(wrapped, plan)
    close(masked, wrapped(x))
    assert net.third.weight is net.second.weight and net.third._out_channels == net.second._in_channels == 4


@pytest.mark.parametrize("kind", ["Momentum", "Adam", "AdamW", "RMSProp"])
def test_an_optimizer_goes_on_as_with_zeros(kind: str) -> None:
    """Two steps, pruning, two steps: what stays moves as it does in the masked network, by the same state."""
    found = {}
    for lazy in (True, False):
        paddle.seed(0)
        net = enliven(Residual())
        arguments = {"rho": 0.9} if kind == "RMSProp" else {}
        optimizer = getattr(paddle.optimizer, kind)(0.01, parameters=net.parameters(), **arguments)
        groups = layer_groups(net, [2, 3, 8, 8])
        plan = Plan(groups, {net.wide.weight.name: np.arange(0, 16, 2)})
        _step(net, optimizer)
        if lazy:
            mask_layer(net, plan)
            for name, axes in plan.slices().items():  # zeros stay zeros: no momentum moves them
                for table in optimizer._accumulators.values():
                    if name in table and table[name].ndim == len(net.wide.weight.shape):
                        values = table[name].numpy()
                        for axis, indices in axes.items():
                            values[(slice(None),) * axis + (indices,)] = 0
                        table[name].set_value(values)
        else:
            prune_layer(net, plan, optimizer)
            assert net.wide.weight.grad is None
            assert all(list(t[net.wide.weight.name].shape) in ([8, 8, 3, 3], [1])
                       for t in optimizer._accumulators.values())  # fmt: skip
        _step(net, optimizer)
        weight = net.wide.weight.numpy()
        found[lazy] = weight[1::2] if lazy else weight
    np.testing.assert_allclose(found[False], found[True], atol=1e-5)


def _step(net: nn.Layer, optimizer: Any) -> None:
    net.eval()
    ((net(image(2, 3, 8, 8)) - 1) ** 2).mean().backward()
    optimizer.step()
    optimizer.clear_grad()


def test_attention_heads_go_whole() -> None:
    net = enliven(Attention())
    x = image(2, 3, 8, 8)
    network = LayerNetwork(net, [x])
    attention = net.attention
    group = network.groups.of(attention.q_proj.weight.name)
    assert group.size == 4  # heads of 6
    plan = Plan(network.groups, {group.name: [1]})
    undo = mask_layer(net, plan)
    masked = net(x)
    undo()
    prune_layer(net, plan)
    close(masked, net(x))
    assert attention.num_heads == 3 and attention.q_proj.weight.shape == [24, 18]


class Words(nn.Layer):
    """Two tables whose rows are added; int64 [N, T] to [N, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.out = nn.Embedding(20, 12), nn.Embedding(6, 12), nn.Linear(12, 3)

    def forward(self, x: Any) -> Any:
        return self.out(F.relu(self.words(x) + self.places(paddle.arange(x.shape[1])))).mean(1)


def test_tables() -> None:
    net = enliven(Words())
    x = paddle.to_tensor(np.arange(12).reshape(2, 6))
    network = LayerNetwork(net, paddle.static.InputSpec([None, 6], "int64"))
    plan = Plan(network.groups, {network.groups.of(net.places.weight.name).name: [0, 4, 5]})
    undo = mask_layer(net, plan)
    masked = net(x)
    undo()
    prune_layer(net, plan)
    close(masked, net(x))
    assert (net.words._embedding_dim, net.words._size, net.places._embedding_dim) == (9, [20, 9], 9)


def test_a_plan_that_does_not_fit_changes_nothing() -> None:
    net, _, plan = _mixed()
    prune_layer(net, plan)
    values = state(net)
    with pytest.raises(ModelError, match="was pruned already"):
        prune_layer(net, plan)
    with pytest.raises(ModelError, match="has no parameter or buffer"):
        prune_layer(Residual(), plan)
    assert all(np.array_equal(array, values[key]) for key, array in state(net).items())
    with pytest.raises(ConfigError, match="holds no tensor and no shape"):
        LayerNetwork(net, ["x"])
    with pytest.raises(ConfigError, match="leaves sizes open"):
        LayerNetwork(net, paddle.static.InputSpec([None, 3, None, None]))
    with pytest.raises(
        ModelError, match=r"Mixed cannot be run with these inputs: ValueError: .*give what its forward accepts"
    ):
        LayerNetwork(net, [2, 4, 8, 8])
