"""Programs with backward and optimizer ops: pruned after ``minimize``, they train as if pruned before."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np
import paddle
import paddle.vision.models as zoo
import pytest
from paddle import nn
from paddle.nn import functional as F
from paddle.static import InputSpec
from plans import random_plan
from small_programs import minimize
from zoo import WithLoss, enliven

from slimkit.ir import Model, legacy_ir
from slimkit.ir.params import fill_scope
from slimkit.prune import Plan, find_groups, prune_model
from slimkit.prune.apply import prune_program, pruned_arrays

OPTIMIZERS = {
    "momentum": lambda: paddle.optimizer.Momentum(0.05, weight_decay=1e-3),
    "adam": lambda: paddle.optimizer.Adam(0.01),
    "adamw": lambda: paddle.optimizer.AdamW(0.01),
}


class Mixed(nn.Layer):
    """Most of what rewrites attributes: split, shuffle, depthwise, concat, heads, a flattened map, stored vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2D(3, 16, 3, padding=1), nn.BatchNorm2D(16)
        self.left, self.depthwise = nn.Conv2D(8, 8, 1), nn.Conv2D(8, 8, 3, padding=1, groups=8)
        self.slope, self.scale = nn.PReLU(8), self.create_parameter([8, 1, 1])
        self.up, self.mix = nn.Conv2DTranspose(16, 12, 2, 2), nn.Conv2D(12, 8, 3, 2, 1, groups=2)
        self.attention = nn.MultiHeadAttention(8, 2)
        self.hidden, self.head = nn.Linear(8 * 4 * 4, 12), nn.Linear(12, 10)

    def forward(self, x: Any) -> Any:
        a, b = paddle.split(F.relu(self.norm(self.stem(x))), 2, 1)
        a = self.slope(self.depthwise(self.left(a))) * (self.scale + 1)
        y = F.channel_shuffle(paddle.concat([a, b], 1), 2)
        y = F.adaptive_avg_pool2d(F.hardswish(self.mix(self.up(y))), 4)
        y = y.flatten(2).transpose([0, 2, 1])
        y = (y + self.attention(y)).transpose([0, 2, 1]).flatten(1)
        return self.head(F.relu(self.hidden(y)))


NETWORKS = {
    "mixed": (Mixed, 8),
    "mobilenet_v3_small": (lambda: zoo.mobilenet_v3_small(num_classes=10), 32),
    "shufflenet": (lambda: zoo.shufflenet_v2_x0_25(num_classes=10), 32),
    "resnext": (lambda: zoo.resnext50_32x4d(num_classes=10), 32),
    "densenet": (lambda: zoo.densenet121(num_classes=10), 32),
    "googlenet": (lambda: _First(zoo.googlenet(num_classes=10)), 224),
}
CASES = [
    *(("mixed", optimizer) for optimizer in OPTIMIZERS),
    ("mobilenet_v3_small", "momentum"),
    pytest.param("shufflenet", "adam", marks=pytest.mark.slow),
    *(pytest.param(n, "momentum", marks=pytest.mark.slow) for n in ("resnext", "densenet", "googlenet")),
]


class _First(nn.Layer):
    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        return self.network(x)[0]


def _training(name: str) -> Tuple[Model, Dict[str, np.ndarray]]:
    """A training model without optimizer, and its feed."""
    make, side = NETWORKS[name]
    paddle.seed(3)
    rng = np.random.RandomState(0)
    x = rng.randn(4, 3, side, side).astype("float32")
    net = make()
    for layer in net.sublayers():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    net = WithLoss(enliven(net, [paddle.to_tensor(x)]))
    spec = [InputSpec([-1, 3, side, side], "float32", "x"), InputSpec([-1, 1], "int64", "y")]
    return Model.from_layer(net, spec, train=True), {"x": x, "y": rng.randint(0, 10, (4, 1))}


def _copy(program: Any, arrays: Dict[str, np.ndarray], model: Model) -> Model:
    scope = paddle.static.Scope()
    fill_scope(scope, arrays)
    return Model(program, scope, model.feeds, model.fetches)


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_pruned_after_minimize_is_pruned_before(name: str, optimizer: str):
    """Losses, parameters, statistics and the optimizer's state after two steps, from a state that is not zero."""
    model, feed = _training(name)
    plan = random_plan(find_groups(model), 5)
    before = prune_model(model, plan)
    minimize(model.program, OPTIMIZERS[optimizer], model.fetches[1], model.scope)
    minimize(before.program, OPTIMIZERS[optimizer], before.fetches[1], before.scope)
    model.run(feed)  # now velocities and moments are not zero

    whole = find_groups(model)
    same = Plan(whole, plan.removed)
    program, slices = prune_program(model.program, same, model.fetches)
    arrays = {**dict(model.params), **pruned_arrays(model.params, slices)}
    after = _copy(program, arrays, model)
    before = _copy(before.program, {key: arrays[key] for key in before.params}, model)  # the same state
    assert any("moment" in key or "velocity" in key for key in slices)

    for _ in range(2):
        found, expected = after.run(feed), before.run(feed)
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(b).max()))
    assert set(after.params) == set(before.params)
    for key in before.params:
        a, b = after.params[key], before.params[key]
        assert a.shape == b.shape == tuple(after.program.global_block().var(key).shape), key
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(b).max()), err_msg=key)
        assert a.shape != model.params[key].shape or key not in slices, key


def test_declared_shapes_of_gradients():
    """Gradients are declared as long as what they are gradients of."""
    model, feed = _training("mixed")
    minimize(model.program, OPTIMIZERS["momentum"], model.fetches[1], model.scope)
    plan = random_plan(find_groups(model), 7)
    program, slices = prune_program(model.program, plan, model.fetches)
    pruned = _copy(program, {**dict(model.params), **pruned_arrays(model.params, slices)}, model)
    block = program.global_block()
    names = [p.name for p in block.all_parameters() if p.trainable]
    grads = pruned.run(feed, fetch=[f"{name}@GRAD" for name in names])
    for name, grad in zip(names, grads):
        assert list(block.var(f"{name}@GRAD").shape) == list(block.var(name).shape) == list(grad.shape), name


def test_a_masked_network_has_the_gradients_of_the_pruned_one():
    """What stays gets the same gradients, so that a fine-tuning step does not depend on how the network was pruned."""
    model, feed = _training("mixed")
    plan = random_plan(find_groups(model), 9)
    pruned = prune_model(model, plan)
    for name, axes in plan.slices().items():
        array = np.array(model.params[name])
        for axis, indices in axes.items():
            array[(slice(None),) * axis + (indices,)] = 0
        model.params[name] = array
    found = []
    for each in (model, pruned):
        with legacy_ir(), paddle.static.program_guard(each.program):
            pairs = paddle.base.backward.append_backward(each.program.global_block().var(each.fetches[1]))
        found.append(dict(zip((p.name for p, _ in pairs), each.run(feed, fetch=[g.name for _, g in pairs]))))
    for name, grad in pruned_arrays(found[0], plan.slices()).items():
        limit = 1e-5 * max(1.0, np.abs(grad).max())
        np.testing.assert_allclose(found[1][name], grad, atol=limit, rtol=1e-4, err_msg=name)
