"""Small layers for the tests of pruning layers."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

__all__ = ["Attention", "Detector", "Mixed", "Residual", "enliven", "state"]


def enliven(layer: nn.Layer, seed: int = 0) -> nn.Layer:
    """Weights that keep a signal's size, and batch norms with statistics; eval mode."""
    random = np.random.default_rng(seed)
    for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
        shape = tensor.shape
        if "variance" in name:
            values = random.uniform(0.5, 2.0, shape)
        elif len(shape) > 1:
            fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
            values = random.standard_normal(shape) * np.sqrt(2 / fan)
        else:
            values = random.standard_normal(shape) * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        tensor.set_value(values.astype("float32"))
    layer.eval()
    return layer


def state(layer: nn.Layer) -> Dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in layer.state_dict().items()}


class Mixed(nn.Layer):
    """One of everything whose size a layer remembers; [N, 3, H, W] to [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2D(16)
        self.slope = nn.PReLU(16)
        self.register_buffer("gain", paddle.ones([1, 16, 1, 1]))
        self.depthwise = nn.Conv2D(16, 32, 3, groups=16, padding=1)
        self.grouped = nn.Conv2D(32, 16, 1, groups=4)
        self.instance = nn.InstanceNorm2D(16)
        self.up = nn.Conv2DTranspose(16, 10, 2, stride=2)
        self.up_depthwise = nn.Conv2DTranspose(10, 10, 2, stride=2, groups=10)
        self.hidden = nn.Linear(10, 14)
        self.out = nn.Linear(14, 5)

    def forward(self, x: Any) -> Any:
        x = self.slope(self.norm(self.stem(x))) * self.gain
        x = self.instance(self.grouped(F.relu(self.depthwise(x))))
        x = self.up_depthwise(F.relu(self.up(x)))
        return self.out(F.relu(self.hidden(x.mean([2, 3]))))


class Residual(nn.Layer):
    """Two convolutions that go together, and weights that two layers share; [N, 3, H, W] to [N, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2D(3, 8, 3, padding=1), nn.BatchNorm2D(8)
        self.second, self.third = nn.Conv2D(8, 8, 3, padding=1), nn.Conv2D(8, 8, 3, padding=1)
        self.third.weight = self.second.weight
        self.wide, self.out = nn.Conv2D(8, 16, 3, padding=1), nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.norm(self.first(x)))
        x = x + F.relu(self.second(x))
        x = x + F.relu(self.third(x))
        return self.out(F.relu(self.wide(x)).mean([2, 3]))


class Attention(nn.Layer):
    """Paddle's attention behind a convolution; [N, 3, H, W] to [N, 4]."""

    def __init__(self, wide: int = 24) -> None:
        super().__init__()
        self.stem, self.attention, self.out = nn.Conv2D(3, wide, 3), nn.MultiHeadAttention(wide, 4), nn.Linear(wide, 4)
        self.norm = nn.LayerNorm(wide)

    def forward(self, x: Any) -> Any:
        x = self.norm(self.stem(x).flatten(2).transpose([0, 2, 1]))
        return self.out((x + self.attention(x)).mean(1))


class Detector(nn.Layer):
    """Like PaddleOCR's DB: a head that train mode alone runs, transposed convolutions, a dict of results."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2D(3, 8, 3, stride=2, padding=1), nn.BatchNorm2D(8), nn.Hardswish(),
            nn.Conv2D(8, 8, 3, padding=1, groups=8), nn.BatchNorm2D(8), nn.ReLU(),
            nn.Conv2D(8, 16, 1), nn.BatchNorm2D(16), nn.ReLU(),
        )  # fmt: skip
        self.binarize, self.threshold = self._head(), self._head()

    @staticmethod
    def _head() -> nn.Layer:
        return nn.Sequential(
            nn.Conv2D(16, 8, 3, padding=1, bias_attr=False), nn.BatchNorm2D(8), nn.ReLU(),
            nn.Conv2DTranspose(8, 8, 2, stride=2), nn.BatchNorm2D(8), nn.ReLU(),
            nn.Conv2D(8, 1, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        features = self.backbone(x)
        shrink = self.binarize(features)
        if not self.training:
            return {"maps": shrink}
        threshold = self.threshold(features)
        binary = paddle.reciprocal(1 + paddle.exp(-50 * (shrink - threshold)))
        return {"maps": paddle.concat([shrink, threshold, binary], axis=1)}
