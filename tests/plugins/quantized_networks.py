"""What the tests of quantization's call sites share: the projects' config, short training, what an export must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import paddle
from paddle import nn

from slimkit import Model, load_quantized

__all__ = [
    "PACT",
    "assert_exported",
    "assert_goes_on",
    "dynamic",
    "first",
    "names_of",
    "quant_config",
    "square",
    "trained",
]


def quant_config(**changes: Any) -> Dict[str, Any]:
    """The dict that PaddleOCR, PaddleClas, PaddleX and PaddleSlim's demos spell out, with changes."""
    config = {
        "weight_preprocess_type": None,
        "activation_preprocess_type": None,
        "weight_quantize_type": "channel_wise_abs_max",
        "activation_quantize_type": "moving_average_abs_max",
        "weight_bits": 8,
        "activation_bits": 8,
        "dtype": "int8",
        "window_size": 10000,
        "moving_rate": 0.9,
        "quantizable_layer_type": ["Conv2D", "Linear"],
    }
    return {**config, **changes}


class PACT(nn.Layer):
    """PaddleOCR's, in deploy/slim/quantization/quant.py."""

    def __init__(self) -> None:
        super().__init__()
        alpha_attr = paddle.ParamAttr(
            name=self.full_name() + ".pact",
            initializer=paddle.nn.initializer.Constant(value=20),
            learning_rate=1.0,
            regularizer=paddle.regularizer.L2Decay(2e-5),
        )
        self.alpha = self.create_parameter(shape=[1], attr=alpha_attr, dtype="float32")

    def forward(self, x: Any) -> Any:
        out_left = paddle.nn.functional.relu(x - self.alpha)
        out_right = paddle.nn.functional.relu(-self.alpha - x)
        x = x - out_left + out_right
        return x


def first(found: Any) -> np.ndarray:
    """The first tensor of what a network returns."""
    while not isinstance(found, paddle.Tensor):
        found = next(iter(found.values())) if isinstance(found, dict) else found[0]
    return np.asarray(found.numpy())


def names_of(net: nn.Layer) -> List[str]:
    return [param.name for param in net.parameters()]


def trained(net: nn.Layer, loss: Callable[[nn.Layer], Any], steps: int = 3, rate: float = 1e-3) -> Any:
    """Trains for some steps, in which most weights move; leaves train mode on and returns the optimizer."""
    optimizer = paddle.optimizer.Momentum(rate, 0.9, parameters=net.parameters())
    net.train()
    weights = [value for value in net.parameters() if not value.stop_gradient and "pact" not in value.name]
    before = [(value, value.numpy().copy()) for value in weights]  # alpha stays where nothing is clipped
    for _ in range(steps):
        loss(net).backward()
        optimizer.step()
        optimizer.clear_grad()
    assert np.mean([(value.numpy() != old).any() for value, old in before]) > 0.7
    return optimizer


def assert_exported(path: Any, expected: np.ndarray, *feeds: np.ndarray, ops: int) -> Model:
    """The exported file computes what the trained network does in eval mode, and has so many quantized ops."""
    assert Path(f"{path}.pdmodel").is_file() and Path(f"{path}.pdiparams").is_file()
    model = Model.load(path)
    found = model.run(list(feeds))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(load_quantized(Path(path)).table.ops) == ops
    return model


def assert_goes_on(net: nn.Layer, loss: Callable[[nn.Layer], Any]) -> None:
    """After a save: dynamic mode, and a network that trains."""
    assert paddle.in_dynamic_mode()
    trained(net, loss, steps=1)


def square(x: Any) -> Any:
    """A loss: batches in, a number out."""
    return lambda net: sum((value**2).mean() for value in paddle.utils.flatten(net(x)))


def dynamic(net: nn.Layer, x: Any) -> Any:
    """What a network computes whose forward to_static has wrapped, without the seconds of tracing that."""
    paddle.jit.enable_to_static(False)
    try:
        return net(x)
    finally:
        paddle.jit.enable_to_static(True)
