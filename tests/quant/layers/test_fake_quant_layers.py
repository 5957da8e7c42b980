"""The fake-quant layers against numpy, their state against its definition, their gradients against straight through."""

import numpy as np
import paddle
import pytest
from paddle import nn

from slimkit.quant.layers import QAT
from slimkit.quant.layers.fake_quant import (
    FakeQuantAbsMax,
    FakeQuantChannelWiseAbsMax,
    FakeQuantMovingAverageAbsMax,
    FakeQuantRangeAbsMax,
)


def on_grid(x, threshold, bits=8):
    levels = 2 ** (bits - 1) - 1
    steps = np.clip(x, -threshold, threshold).astype(np.float64) / threshold * levels
    return np.sign(steps) * np.floor(np.abs(steps) + 0.5) * threshold / levels


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_whole_weight_goes_on_one_grid(bits):
    x = random(3, 5, 2, 2)
    found = FakeQuantAbsMax(bits, 1)(paddle.to_tensor(x)).numpy()
    np.testing.assert_allclose(found, on_grid(x, np.abs(x).max(), bits), atol=2e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_channels_go_on_grids_of_their_own_and_the_scale_is_kept(axis):
    x = random(3, 5, 2, 2)
    layer = FakeQuantChannelWiseAbsMax(8, x.shape[axis], axis)
    found = layer(paddle.to_tensor(x)).numpy()
    others = tuple(d for d in range(4) if d != axis)
    largest = np.abs(x).max(axis=others, keepdims=True)
    np.testing.assert_allclose(found, on_grid(x, largest), atol=2e-6)
    np.testing.assert_array_equal(layer.state_dict()["_scale"].numpy(), largest.reshape(-1))


def test_the_moving_average_is_unbiased_from_the_first_batch():
    layer, rate = FakeQuantMovingAverageAbsMax(8, 0.8), 0.8
    state = accum = 0.0
    for seed in range(4):
        x = random(2, 3, 4, 4, seed=seed) * (seed + 1)
        out = layer(paddle.to_tensor(x)).numpy()
        state, accum = state * rate + 1, accum * rate + float(np.abs(x).max())
        assert layer._scale.item() == pytest.approx(accum / state, rel=1e-6)
        np.testing.assert_allclose(out, on_grid(x, accum / state), atol=1e-5)
    assert layer._scale.stop_gradient


def test_eval_mode_keeps_the_scale_and_clips():
    layer = FakeQuantMovingAverageAbsMax()
    layer(paddle.to_tensor(random(2, 3)))
    layer.eval()
    scale = layer._scale.item()
    x = random(4, 3) * 10
    np.testing.assert_allclose(layer(paddle.to_tensor(x)).numpy(), on_grid(x, scale), atol=1e-5)
    assert layer._scale.item() == scale


def test_before_any_batch_eval_mode_lets_the_tensor_through():
    layer = FakeQuantMovingAverageAbsMax()
    layer.eval()
    x = random(4, 3)
    assert not layer.seen
    np.testing.assert_array_equal(layer(paddle.to_tensor(x)).numpy(), x)


def test_a_checkpoint_of_observed_activations_counts_as_seen():
    trained, fresh = FakeQuantMovingAverageAbsMax(), FakeQuantMovingAverageAbsMax()
    x = paddle.to_tensor(random(4, 3))
    trained(x)
    fresh.set_state_dict(trained.state_dict())
    trained.eval(), fresh.eval()
    assert fresh.seen
    np.testing.assert_array_equal(fresh(x).numpy(), trained(x).numpy())


def test_a_window_holds_the_largest_of_its_steps():
    layer = FakeQuantRangeAbsMax(8, window_size=2)
    sizes = [3.0, 1.0, 2.0, 0.5, 0.25]
    expected = [3.0, 3.0, 2.0, 2.0, 0.5]
    for size, largest in zip(sizes, expected):
        layer(paddle.to_tensor(np.array([size, -size / 2], np.float32)))
        assert layer._scale.item() == largest


@pytest.mark.parametrize(
    "layer",
    [FakeQuantAbsMax(), FakeQuantChannelWiseAbsMax(8, 4, 0), FakeQuantMovingAverageAbsMax(), FakeQuantRangeAbsMax()],
    ids=lambda layer: type(layer).__name__,
)
def test_the_gradient_is_straight_through(layer):
    x = paddle.to_tensor(random(4, 3), stop_gradient=False)
    weights = random(4, 3, seed=1)
    (layer(x) * paddle.to_tensor(weights)).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), weights)


@pytest.mark.parametrize("kind", ["moving_average_abs_max", "range_abs_max"])
@pytest.mark.parametrize("preprocess", [None, "PACT"])
def test_training_by_to_static(kind, preprocess):
    """Evaluated before it is trained, trained, evaluated: all in programs that were traced once."""
    paddle.seed(0)
    x = paddle.randn([4, 3, 8, 8])
    net = nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU(), nn.Conv2D(4, 2, 3))
    net.eval()
    whole = net(x).numpy()
    config = {"activation_quantize_type": kind, "activation_preprocess_type": preprocess, "activation_bits": 4}
    QAT({**config, "weight_bits": 16}).quantize(net)
    net = paddle.jit.to_static(net, full_graph=True)
    np.testing.assert_allclose(net(x).numpy(), whole, atol=1e-3)  # nothing was seen: only weights are quantized
    net.train()
    for step in range(4):
        net(x * (1 + step / 10)).mean().backward()
    net.eval()
    found = net(x).numpy()
    paddle.jit.enable_to_static(False)
    try:
        np.testing.assert_allclose(found, net(x).numpy(), atol=1e-6)
    finally:
        paddle.jit.enable_to_static(True)
    assert np.abs(found - whole).max() > 0.1  # 4 bits
    most, scale = float(x.abs().max()), net[0]._layer._fake_quant_input._scale.item()
    assert 0.7 * most < scale <= 1.3 * most + 1e-5
