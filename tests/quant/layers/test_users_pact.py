"""A user's PACT, computed in one op, against the layer and the quantizer called one after the other."""

import zlib  # noqa: F401

import numpy as np
import paddle
import pytest
from paddle.nn import functional

from slimkit import QAT
from slimkit.quant.layers.fake_quant import FakeQuantMovingAverageAbsMax
from slimkit.quant.layers.users_pact import clip_and_quantize, is_clip


class UsersPact(paddle.nn.Layer):
    """As in PaddleOCR's deploy/slim/quantization/quant.py."""

    start = 20.0

    def __init__(self):
        super().__init__()
        attribute = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(self.start), name=self.full_name())
        self.alpha = self.create_parameter([1], attr=attribute, dtype="float32")

    def forward(self, x):
        return x - functional.relu(x - self.alpha) + functional.relu(-self.alpha - x)


class OneSided(UsersPact):
    def forward(self, x):
        return x - functional.relu(x - self.alpha)


class NoGradientOfAlpha(UsersPact):
    def forward(self, x):
        return paddle.clip(x, -self.alpha.item(), self.alpha.item())


class Scaled(UsersPact):
    """Clips where PACT does, but its alpha learns at another rate."""

    def forward(self, x):
        alpha = self.alpha.detach() + 0.5 * (self.alpha - self.alpha.detach())
        return x - functional.relu(x - alpha) + functional.relu(-alpha - x)


def _train(fused, level, steps=4, alpha_moves=0.0):
    """Outputs, gradients and state of some steps."""
    generator = np.random.default_rng(0)
    preprocess, quantizer = UsersPact(), FakeQuantMovingAverageAbsMax()
    preprocess.alpha.set_value(np.full([1], level, np.float32))
    found = []
    for _ in range(steps):
        x = paddle.to_tensor(generator.normal(size=(2, 3, 5, 5)).astype(np.float32), stop_gradient=False)
        if fused:
            assert is_clip(preprocess, x)
            out = clip_and_quantize(x, preprocess, quantizer)
        else:
            quantizer.start()
            out = quantizer(preprocess(x))
        (out * paddle.to_tensor(generator.normal(size=(2, 3, 5, 5)).astype(np.float32))).sum().backward()
        gradient = preprocess.alpha.grad.numpy()
        state = (quantizer._scale, quantizer._state, quantizer._accum)
        found.append([out.numpy(), x.grad.numpy(), gradient, *(value.numpy().copy() for value in state)])
        preprocess.alpha.clear_gradient()
        preprocess.alpha.set_value(preprocess.alpha.numpy() + np.float32(alpha_moves))
    return found


# Nothing clipped; always; now and then; from nothing to much; the other way round; to a negative alpha.
@pytest.mark.parametrize(
    ("level", "moves"), [(20.0, 0.0), (0.7, 0.0), (2.9, 0.0), (4.0, -1.0), (0.5, 2.0), (0.5, -0.3)]
)
def test_steps_are_those_of_the_layer_and_the_quantizer(level, moves):
    for ours, theirs in zip(_train(True, level, alpha_moves=moves), _train(False, level, alpha_moves=moves)):
        for name, a, b in zip(("out", "x.grad", "alpha.grad", "scale", "state", "accum"), ours, theirs):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6, err_msg=name)


def test_an_input_without_gradient_takes_none():
    preprocess, quantizer = UsersPact(), FakeQuantMovingAverageAbsMax()
    x = paddle.ones([1, 1, 2, 2])
    clip_and_quantize(x, preprocess, quantizer).sum().backward()
    assert x.grad is None and preprocess.alpha.grad.item() == 0.0


@pytest.mark.parametrize("kind", [OneSided, NoGradientOfAlpha, Scaled])
def test_other_layers_are_not_taken_for_a_clip(kind):
    assert not is_clip(kind(), paddle.ones([1]))


def test_a_layer_with_a_hook_is_called():
    preprocess = UsersPact()
    preprocess.register_forward_post_hook(lambda layer, inputs, output: output)
    assert not is_clip(preprocess, paddle.ones([1]))


def test_asking_leaves_no_gradient():
    preprocess = UsersPact()
    with paddle.no_grad():
        assert is_clip(preprocess, paddle.ones([1]))
    assert preprocess.alpha.grad is None


def test_a_network_in_training_does_not_call_the_layer(monkeypatch):
    class Counting(UsersPact):
        calls = 0

        def forward(self, x):
            type(self).calls += 1
            return super().forward(x)

    net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.ReLU(), paddle.nn.Conv2D(4, 2, 3))
    QAT(act_preprocess=Counting).quantize(net)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=net.parameters())
    for _ in range(3):
        net(paddle.randn([2, 3, 8, 8])).square().mean().backward()
        optimizer.step()
        optimizer.clear_grad()
    assert Counting.calls == 2  # each layer was asked once
    assert net[0]._layer._fake_quant_input.seen
    net.eval()
    net(paddle.randn([2, 3, 8, 8]))
    assert Counting.calls == 4
