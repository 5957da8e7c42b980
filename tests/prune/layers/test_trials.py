"""What a layer's own code lets go: numbers computed from shapes, constants, layers that nobody knows, train mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from small_layers import Detector, enliven, state

from slimkit.prune import Plan
from slimkit.prune.layers import LayerNetwork, layer_groups, prune_layer


class Shuffled(nn.Layer):
    """A reshape between two convolutions, with the number of channels from somewhere."""

    def __init__(self, width: Any) -> None:
        super().__init__()
        self.first, self.second, self.width = nn.Conv2D(3, 8, 3), nn.Conv2D(8, 4, 1), width

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        channels = x.shape[1] if self.width is None else self.width
        pooled = x.reshape([x.shape[0], channels, -1]).mean(-1)
        return self.second(x * F.sigmoid(pooled).reshape([x.shape[0], channels, 1, 1]))


def test_numbers_from_shapes_follow() -> None:
    net = enliven(Shuffled(None))
    values = state(net)
    group = layer_groups(net, [2, 3, 8, 8]).of(net.first.weight.name)
    assert group.size == 8
    assert all(np.array_equal(array, values[key]) for key, array in state(net).items())
    assert net.first._out_channels == 8 and not net.training


def test_constants_do_not() -> None:
    net = enliven(Shuffled(8))
    groups = layer_groups(net, [2, 3, 8, 8])
    reason = groups[net.first.weight.name].refused
    assert reason is not None and reason.startswith("their number is written as a constant in a reshape")


class Halves(nn.Layer):
    def __init__(self, sections: Any) -> None:
        super().__init__()
        self.first, self.second, self.sections = nn.Conv2D(3, 8, 3), nn.Conv2D(4, 4, 1), sections

    def forward(self, x: Any) -> Any:
        one, other = paddle.split(self.first(x), self.sections, axis=1)[:2]
        return self.second(F.relu(one) + other)


def test_a_split_in_equal_parts_by_number_follows_and_by_constants_does_not() -> None:
    net = enliven(Halves(2))
    network = LayerNetwork(net, [2, 3, 8, 8])
    group = network.groups.of(net.first.weight.name)
    assert group.size == 4 and network.trials.failure(Plan(network.groups, {group.name: [0, 2]})) is None
    net = enliven(Halves([4, 4]))
    network = LayerNetwork(net, [2, 3, 8, 8])
    group = network.groups[net.first.weight.name]
    assert group.refused is not None and "split" in group.refused


class Scale(nn.Layer):
    """A layer of the user's own: no row in LAYER_ATTRIBUTES."""

    def __init__(self, channels: int, strict: bool) -> None:
        super().__init__()
        self.gain = self.create_parameter([1, channels, 1, 1])
        self.channels, self.strict = channels, strict

    def forward(self, x: Any) -> Any:
        if self.strict and x.shape[1] != self.channels:
            raise ValueError(f"{x.shape[1]} channels and not {self.channels}")
        return x * self.gain


@pytest.mark.parametrize("strict", [False, True])
def test_layers_that_nobody_knows_are_tried(strict: bool) -> None:
    net = enliven(nn.Sequential(nn.Conv2D(3, 8, 3), Scale(8, strict), nn.Conv2D(8, 4, 3)))
    group = layer_groups(net, [2, 3, 8, 8])[net[0].weight.name]
    if strict:
        assert (
            group.refused is not None
            and "Scale fails: its code fails: ValueError: 7 channels and not 8" in group.refused
        )
    else:
        assert group.refused is None and group.size == 8


def test_what_only_train_mode_reads_is_pruned_too() -> None:
    net = enliven(Detector())
    values = state(net)
    x = paddle.randn([1, 3, 16, 16])
    network = LayerNetwork(net, [x])
    last = net.backbone[6].weight.name
    assert network.unread == []
    assert all(np.array_equal(array, values[key]) for key, array in state(net).items())  # statistics too
    readers = {member.parameter for member in network.groups.of(last).members if member.role == "input"}
    assert readers == {net.binarize[0].weight.name, net.threshold[0].weight.name}
    plan = Plan(network.groups, {group.name: np.arange(group.size // 2) for group in network.groups.prunable})
    assert not net.training and all(not part.training for part in net.sublayers())
    prune_layer(net, plan)
    net.train()
    net(x)["maps"].mean().backward()
    assert net.threshold[0].weight.grad.shape == [4, 8, 3, 3]


class WithUnread(Detector):
    """Its train mode takes more than the inputs given."""

    def forward(self, x: Any, labels: Any = None) -> Any:
        if self.training:
            return super().forward(x)["maps"] * labels["gain"]
        return super().forward(x)


def test_parameters_that_no_trace_reads_are_named() -> None:
    net = enliven(WithUnread())
    with pytest.warns(UserWarning, match=r"3 parameters of WithUnread, such as .* train mode does not run"):
        network = LayerNetwork(net, [1, 3, 16, 16])
    assert network.unread == [p.name for p in net.threshold.parameters()]
    assert network.groups.of(net.backbone[0].weight.name).size == 8
