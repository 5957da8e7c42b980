"""Whole classification networks: translated, they give what Paddle's dygraph gives, in eval and in train mode."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import paddle
import paddle.vision.models as zoo
import pytest
from comparing import assert_close, relative, tensors
from paddle import nn
from paddle.nn import functional as F
from paddle.static import InputSpec

from slimkit.ir import Model, legacy_ir

#: Trained and compared on every CI run; the rest are `slow`.
FAST = ("LeNet", "mobilenet_v1", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_25", "squeezenet1_1")
SLOW = (
    "alexnet", "densenet121", "densenet161", "densenet169", "densenet201", "densenet264", "googlenet",
    "inception_v3", "mobilenet_v2", "mobilenet_v3_large", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext101_32x4d", "resnext101_64x4d", "resnext152_32x4d", "resnext152_64x4d", "resnext50_32x4d",
    "resnext50_64x4d", "shufflenet_v2_swish", "shufflenet_v2_x0_33", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "squeezenet1_0", "vgg11", "vgg13", "vgg16", "vgg19",
    "wide_resnet101_2", "wide_resnet50_2",
)  # fmt: skip
SIDES = {"LeNet": 28, "alexnet": 224, "googlenet": 224, "inception_v3": 96}
NETWORKS = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


class WithLoss(nn.Layer):
    """A network and its cross entropy; GoogLeNet's auxiliary heads count too."""

    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any, y: Any) -> Any:
        found = self.network(x)
        if isinstance(found, (list, tuple)):
            loss = F.cross_entropy(found[0], y) + F.cross_entropy(found[1], y) + F.cross_entropy(found[2], y)
            return found[0], loss
        return found, F.cross_entropy(found, y)


def make(name: str) -> Tuple[WithLoss, list, dict]:
    paddle.seed(1)
    network = getattr(zoo, name)(num_classes=10)
    side, channels = SIDES.get(name, 64), 1 if name == "LeNet" else 3
    spec = [InputSpec([-1, channels, side, side], "float32", "x"), InputSpec([-1, 1], "int64", "y")]
    x = np.random.RandomState(0).rand(2, channels, side, side).astype("float32")
    return WithLoss(network), spec, {"x": x, "y": np.array([[1], [2]])}


def test_the_lists_hold_every_network_of_the_zoo():
    made = {name for name in zoo.__all__ if name[0].islower()} | {"LeNet"}
    assert made == set(FAST) | set(SLOW)


@pytest.mark.parametrize("name", NETWORKS)
def test_eval(name: str):
    net, spec, feed = make(name)
    model = Model.from_layer(net, spec)
    net.eval()
    assert_close(model.run(feed), tensors(net(*map(paddle.to_tensor, feed.values()))))


@pytest.mark.parametrize("name", NETWORKS)
def test_train(name: str):
    """Outputs, loss, gradients of all parameters and the statistics of batch norm, after one step."""
    net, spec, feed = make(name)
    for layer in net.sublayers():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    model = Model.from_layer(net, spec, train=True)
    with legacy_ir(), paddle.static.program_guard(model.program):
        pairs = paddle.base.backward.append_backward(model.program.global_block().var(model.fetches[1]))
    names, grads = [p.name for p, _ in pairs], [g.name for _, g in pairs]
    found = model.run(feed, fetch=[*model.fetches, *grads])
    net.train()
    expected = net(*map(paddle.to_tensor, feed.values()))
    expected[1].backward()
    assert_close(found[:2], tensors(expected))
    by_name = {p.name: p for p in net.parameters()}
    assert sorted(names) == sorted(p.name for p in net.parameters() if not p.stop_gradient)
    for parameter, grad in zip(names, found[2:]):
        assert relative(grad, by_name[parameter].grad.numpy()) < 1e-4, parameter
    for tensor in net.state_dict().values():
        assert relative(model.params[tensor.name], tensor.numpy()) < 1e-5, tensor.name


def test_dropout_is_live_and_keeps_its_rate():
    net = nn.Sequential(nn.Dropout(0.3))
    model = Model.from_layer(net, [InputSpec([-1, 100], "float32", "x")], train=True)
    ones = np.ones((200, 100), "float32")
    (first,), (second,) = model.run([ones]), model.run([ones])
    assert not np.array_equal(first, second)
    assert abs(float((first == 0).mean()) - 0.3) < 0.02
    np.testing.assert_allclose(first[first != 0], 1 / 0.7, rtol=1e-5)
    (quiet,) = model.clone(for_test=True).run([ones])
    np.testing.assert_array_equal(quiet, ones)


def test_training_converges_like_dygraph():
    """Ten momentum steps under the legacy IR equal ten steps in dynamic mode."""
    rng = np.random.RandomState(0)
    batches = [{"x": rng.rand(4, 1, 28, 28).astype("float32"), "y": rng.randint(0, 10, (4, 1))} for _ in range(10)]
    net, spec, _ = make("LeNet")
    model = Model.from_layer(net, spec, train=True)
    with legacy_ir(), paddle.static.program_guard(model.program, paddle.static.Program()) as _:
        optimizer = paddle.optimizer.Momentum(0.05)
        startup = paddle.static.default_startup_program()
        optimizer.minimize(model.program.global_block().var(model.fetches[1]))
        paddle.static.Executor(paddle.CPUPlace()).run(startup, scope=model.scope)
    losses = [model.run(batch)[1] for batch in batches]
    net.train()
    dynamic = paddle.optimizer.Momentum(0.05, parameters=net.parameters())
    for batch, loss in zip(batches, losses):
        expected = net(*map(paddle.to_tensor, batch.values()))[1]
        expected.backward()
        dynamic.step()
        dynamic.clear_grad()
        assert abs(float(expected) - float(loss)) < 1e-4 * abs(float(expected))
