"""Layers that read one tensor, each with a grid of its own: a ResNet's shortcut beside its first convolution."""

import zlib  # noqa: F401

import numpy as np
import paddle
import pytest
from paddle import nn

from slimkit import QAT
from slimkit.deploy import paddle_inference
from slimkit.ir import Model
from slimkit.recipe.exporters import export_for


class Block(nn.Layer):
    def __init__(self):
        super().__init__()
        self.stem, self.main, self.short = nn.Conv2D(3, 8, 3), nn.Conv2D(8, 8, 1), nn.Conv2D(8, 8, 1)

    def forward(self, x):
        x = nn.functional.relu(self.stem(x))
        return self.main(x) + self.short(x)


def _trained(config):
    paddle.seed(0)
    net = Block()
    quanter = QAT(config=config)
    quanter.quantize(net)
    optimizer = paddle.optimizer.Momentum(0.5, parameters=net.parameters())
    for _ in range(3):
        x = paddle.randn([4, 3, 8, 8])
        # Different gradients for the two: their thresholds part.
        shared = nn.functional.relu(net.stem(x))
        (net.main(shared).square().mean() - 2 * net.short(shared).square().mean()).backward()
        optimizer.step()
        optimizer.clear_grad()
    net.eval()
    return net, quanter


@pytest.mark.parametrize("onnx_format", [True, False])
def test_each_layer_keeps_its_grid(tmp_path, onnx_format):
    net, quanter = _trained({"activation_preprocess_type": "PACT", "onnx_format": onnx_format})
    scales = [layer._layer._fake_quant_input._scale.item() for layer in (net.main, net.short)]
    assert abs(scales[0] - scales[1]) > 1e-3 * max(scales)
    spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32")]
    held = [grid.scale[0] for grid in quanter.quantized(net, spec).table.activations().values()]
    assert {np.float32(scale) for scale in scales} <= set(held)
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    expected = net(paddle.to_tensor(x)).numpy()
    quanter.save_quantized_model(net, str(tmp_path / "net"), spec)
    found = Model.load(tmp_path / "net").run([x])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_paddle_inference_computes_each_with_its_grid_in_int8(tmp_path):
    net, quanter = _trained({})
    scale = net.main._layer._fake_quant_input._scale
    scale.set_value(scale.numpy() * np.float32(0.3))
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    expected = net(paddle.to_tensor(x)).numpy()
    spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32")]
    written = export_for("paddle", quanter.quantized(net, spec), tmp_path)
    error = paddle_inference.run(written, [[x]], int8=True)[0][0] - expected
    assert 10 * np.log10(np.square(expected).mean() / np.square(error).mean()) > 25  # 4 with one scale for both
    assert paddle_inference.executed_precision(written, [x])["int8"] == 3
