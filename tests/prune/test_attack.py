"""Networks made to mislead: what reads channels in a way that has nothing to do with one filter each."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from rule_cases import Case, compare, conv

from slimkit.prune import Plan, masked_model, prune_model


def between(forward: Callable[..., Any], outputs: int = 8, **parts: Any) -> Case:
    """A convolution with 8 filters, something, and a convolution."""

    def run(net: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
        return net.b(forward(net, net.a(x)))

    return Case(run, [3, 8, 8], a=conv(3, 8), b=conv(outputs, 4), **parts)


def across(layer: Callable[[paddle.Tensor], paddle.Tensor]) -> Callable[..., paddle.Tensor]:
    """An op on images, with channels as one of their sides."""
    return lambda net, y: layer(y.transpose([0, 2, 1, 3])).transpose([0, 2, 1, 3])


@pytest.mark.parametrize(
    ("layer", "outputs"),
    [
        (lambda y: F.max_pool2d(y, 3, 1, 1), 8),
        (lambda y: F.avg_pool2d(y, 3, 1, 1), 8),
        (lambda y: F.interpolate(y, size=[12, 8], mode="bilinear"), 12),
        (lambda y: F.pad(y, [0, 0, 1, 1], mode="reflect"), 10),
    ],
    ids=["max", "avg", "interpolate", "pad"],
)
def test_channels_as_a_side_of_images(layer: Callable[..., Any], outputs: int):
    assert "for places of an image" in between(across(layer), outputs).reason("a.weight")


def test_local_response_norm():
    """In Paddle a pool3d over the channels, as a depth."""
    assert "for places of an image" in between(lambda n, y: F.local_response_norm(y, 3)).reason("a.weight")


def test_images_with_channels_last():
    case = between(lambda n, y: F.max_pool2d(y.transpose([0, 2, 3, 1]), 2, data_format="NHWC").transpose([0, 3, 1, 2]))
    case.check("8: a.weight[0] a.bias[0] b.weight[1]")


@pytest.mark.parametrize("op", [paddle.cumsum, paddle.cumprod], ids=["cumsum", "cumprod"])
def test_running_values_over_channels(op: Callable[..., Any]):
    assert "computes over them" in between(lambda n, y: op(F.sigmoid(y), 1)).reason("a.weight")
    between(lambda n, y: op(F.sigmoid(y), 3)).check("8: a.weight[0] a.bias[0] b.weight[1]")


def test_one_channel_by_itself_stays():
    case = between(lambda n, y: y * F.sigmoid(y[:, 3:4]))
    group = case.group("a.weight")
    assert group.size == 7 and "1 of 8 units stay: a tensor has this channel alone" in str(group)
    assert 3 not in np.flatnonzero(group.producers[0].units >= 0)
    compare(case.network, case.groups)


@pytest.mark.parametrize(
    "use",
    [
        lambda y: y * paddle.shape(y)[1].astype("float32"),
        lambda y: y / paddle.numel(y).astype("float32"),
        lambda y: F.interpolate(y, size=[paddle.shape(y)[1], 8]),
        lambda y: y + paddle.arange(paddle.shape(y)[1]).astype("float32").reshape([1, -1, 1, 1]),
        lambda y: y.reshape([paddle.shape(y)[0], paddle.shape(y)[1] * 8, 8]).reshape([-1, 8, 8, 8]),
    ],
    ids=["shape", "numel", "interpolate", "arange", "reshape"],
)
def test_their_number_as_a_value(use: Callable[..., Any]):
    assert "computes with their number" in between(lambda n, y: use(y)).reason("a.weight")


@pytest.mark.parametrize(
    "use",
    [
        lambda y: y.flatten(2).reshape([paddle.shape(y)[0], paddle.shape(y)[1], 8, 8]),
        lambda y: y.mean([2, 3], keepdim=True).expand([paddle.shape(y)[0], paddle.shape(y)[1], 8, 8]) * y,
        lambda y: y * paddle.shape(y)[2].astype("float32"),
    ],
    ids=["reshape", "expand", "side"],
)
def test_their_number_as_the_length_of_their_axis(use: Callable[..., Any]):
    between(lambda n, y: use(y)).check("8: a.weight[0] a.bias[0] b.weight[1]")


@pytest.mark.parametrize(
    "use",
    [
        lambda y: y / y.abs().max([2, 3], keepdim=True),
        lambda y: y * paddle.rsqrt((y * y).mean([2, 3], keepdim=True)),
        lambda y: paddle.clip(paddle.log(y * y), -4, 4),
        lambda y: y / paddle.flip(y, [2]),
    ],
    ids=["div", "rsqrt", "log", "quotient"],
)
def test_channels_without_a_value_at_zero(use: Callable[..., Any]):
    """0 / 0 is no number: zeros stand in the next filters only."""
    case = between(lambda n, y: use(y)).check("8: a.weight[0] a.bias[0] b.weight[1]")
    plan = Plan(case.groups, {case.group("a.weight").name: np.array([1])})
    masked = masked_model(case.model, plan)
    assert set(plan.zeros()) == {case.names["b.weight"]} < set(plan.slices())
    assert (masked.params[case.names["b.weight"]][:, 1] == 0).all()
    assert (masked.params[case.names["a.weight"]] == case.model.params[case.names["a.weight"]]).all()
    assert prune_model(case.model, plan).params[case.names["a.weight"]].shape[0] == 7
