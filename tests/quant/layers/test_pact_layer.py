"""The built-in PACT: clipping and quantizing in one, against the written-out formula and finite differences."""

import numpy as np
import paddle
import pytest

from slimkit.quant.layers import PACT, QAT
from slimkit.quant.layers.fake_quant import FakeQuantMovingAverageAbsMax
from slimkit.quant.layers.pact import pact_quantize


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parts(alpha):
    preprocess, quantizer = PACT(), FakeQuantMovingAverageAbsMax()
    preprocess.alpha.set_value(np.array([alpha], np.float32))
    preprocess._started = True
    return preprocess, quantizer


def test_alpha_is_the_threshold_and_the_scale_follows_it():
    preprocess, quantizer = parts(0.7)
    x = random(4, 5)
    out = pact_quantize(paddle.to_tensor(x), preprocess, quantizer).numpy()
    steps = np.clip(x, -0.7, 0.7).astype(np.float64) / 0.7 * 127
    np.testing.assert_allclose(out, np.sign(steps) * np.floor(np.abs(steps) + 0.5) * 0.7 / 127, atol=1e-6)
    assert quantizer._scale.item() == pytest.approx(0.7)


def test_gradients_are_those_of_the_written_out_formula():
    x, weights = random(6, 7), random(6, 7, seed=1)
    preprocess, quantizer = parts(0.7)
    a = paddle.to_tensor(x, stop_gradient=False)
    (pact_quantize(a, preprocess, quantizer) * paddle.to_tensor(weights)).sum().backward()
    written = PACT()
    written.alpha.set_value(np.array([0.7], np.float32))
    b = paddle.to_tensor(x, stop_gradient=False)
    (written(b) * paddle.to_tensor(weights)).sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), b.grad.numpy())
    np.testing.assert_allclose(preprocess.alpha.grad.numpy(), written.alpha.grad.numpy(), rtol=1e-5)


def test_alphas_gradient_is_the_difference_quotient_of_the_clip():
    x, weights = random(50, 7).astype(np.float64), random(50, 7, seed=1).astype(np.float64)

    def loss(alpha):
        return (np.clip(x, -alpha, alpha) * weights).sum()

    preprocess, quantizer = parts(0.7)
    tensor = paddle.to_tensor(x.astype(np.float32), stop_gradient=False)
    (pact_quantize(tensor, preprocess, quantizer) * paddle.to_tensor(weights.astype(np.float32))).sum().backward()
    step = 1e-6
    assert preprocess.alpha.grad.item() == pytest.approx((loss(0.7 + step) - loss(0.7 - step)) / 2 / step, rel=1e-4)


def test_an_input_without_gradient_still_gives_alpha_its_own():
    preprocess, quantizer = parts(0.5)
    pact_quantize(paddle.to_tensor(random(6, 7)), preprocess, quantizer).sum().backward()
    x = random(6, 7)
    assert preprocess.alpha.grad.item() == pytest.approx(float((x > 0.5).sum()) - float((x < -0.5).sum()))


def test_the_first_batch_starts_alpha_and_a_tiny_alpha_is_held():
    preprocess, quantizer = PACT(), FakeQuantMovingAverageAbsMax(4)
    x = random(1000)
    pact_quantize(paddle.to_tensor(x), preprocess, quantizer)
    assert 0.3 * np.abs(x).max() < preprocess.alpha.item() < np.abs(x).max()
    assert quantizer._scale.item() == preprocess.alpha.item()
    preprocess.alpha.set_value(np.array([-1.0], np.float32))
    pact_quantize(paddle.to_tensor(x), preprocess, quantizer)
    assert quantizer._scale.item() == pytest.approx(1e-3)


def test_a_checkpoint_with_alpha_far_above_the_scale_goes_on_from_the_scale():
    """PaddleSlim's alpha starts at 100 and its quantizer has a scale of its own."""
    preprocess, quantizer = PACT(), FakeQuantMovingAverageAbsMax()
    quantizer._scale.set_value(np.array([2.5], np.float32))
    assert preprocess.alpha.item() == 100
    pact_quantize(paddle.to_tensor(random(10)), preprocess, quantizer)
    assert preprocess.alpha.item() == quantizer._scale.item() == 2.5


def test_eval_mode_uses_the_scale_of_the_last_training_forward():
    preprocess, quantizer = parts(0.7)
    x = paddle.to_tensor(random(10))
    trained = pact_quantize(x, preprocess, quantizer).numpy()
    preprocess.alpha.set_value(np.array([0.1], np.float32))
    quantizer.eval()
    np.testing.assert_array_equal(pact_quantize(x, preprocess, quantizer).numpy(), trained)


def test_training_moves_alpha():
    paddle.seed(0)
    net = paddle.nn.Sequential(paddle.nn.Linear(8, 8), paddle.nn.ReLU(), paddle.nn.Linear(8, 3))
    QAT({"activation_preprocess_type": "PACT", "activation_bits": 4}).quantize(net)
    net(paddle.to_tensor(random(16, 8)))
    alphas = [p for n, p in net.named_parameters() if n.endswith("alpha")]
    start = [a.item() for a in alphas]
    optimizer = paddle.optimizer.SGD(0.1, parameters=net.parameters())
    for seed in range(5):
        x, label = random(16, 8, seed=seed), np.arange(16) % 3
        paddle.nn.functional.cross_entropy(net(paddle.to_tensor(x)), paddle.to_tensor(label)).backward()
        optimizer.step()
        optimizer.clear_grad()
    assert len(alphas) == 2
    assert all(abs(a.item() - s) > 1e-5 for a, s in zip(alphas, start))
