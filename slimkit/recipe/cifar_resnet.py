"""The residual networks for small images of He et al. (arXiv:1512.03385, section 4.2): 6n + 2 layers.

Three stages of n blocks with 16, 32 and 64 filters. Where the map shrinks, the shortcut is a 1x1 convolution (option B
of the paper); for CIFAR-10 the paper subsamples and adds zero channels (option A).
"""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional as F

from slimkit.errors import ConfigError

__all__ = ["CifarResNet", "resnet20", "resnet32", "resnet56"]

FILTERS = (16, 32, 64)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Returns a convolution that keeps the map's size (over its stride), with batch norm instead of a bias."""
    return nn.Sequential(
        nn.Conv2D(inputs, outputs, kernel, stride, padding=kernel // 2, bias_attr=False), nn.BatchNorm2D(outputs)
    )


class _Block(nn.Layer):
    """Two 3x3 convolutions and a shortcut: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride)
        self.second = _convolution(outputs, outputs, 3)
        self.shortcut = _convolution(inputs, outputs, 1, stride) if stride != 1 or inputs != outputs else None

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        residual = self.second(F.relu(self.first(x)))
        return F.relu(residual + (x if self.shortcut is None else self.shortcut(x)))


class CifarResNet(nn.Layer):
    """A residual network of ``depth = 6 n + 2`` weighted layers for small images.

    Args:
        depth: 20, 32, 44, 56, 110, ...
        num_classes: outputs.
        scale: multiplies 16, 32 and 64 filters.

    Raises:
        ConfigError: the depth is not 6 n + 2.
    """

    def __init__(self, depth: int, num_classes: int = 10, scale: float = 1.0) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ConfigError(f"A CIFAR ResNet has 6 n + 2 layers, so not {depth}; take 20, 32, 44, 56 or 110.")
        widths = [max(1, round(width * scale)) for width in FILTERS]
        self.stem = _convolution(3, widths[0], 3)
        blocks, inputs = [], widths[0]
        for stage, outputs in enumerate(widths):
            for index in range(depth // 6):
                blocks.append(_Block(inputs, outputs, 2 if stage and not index else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.classifier = nn.Linear(inputs, num_classes)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps images (N, 3, H, W) to logits (N, classes)."""
        x = self.blocks(F.relu(self.stem(x)))
        return self.classifier(paddle.flatten(self.pool(x), 1))


def resnet20(num_classes: int = 10, scale: float = 1.0) -> CifarResNet:
    """ResNet-20 for small images: 0.27 M parameters, 41 M multiply-accumulates at 32x32."""
    return CifarResNet(20, num_classes, scale)


def resnet32(num_classes: int = 10, scale: float = 1.0) -> CifarResNet:
    """ResNet-32 for small images: 0.46 M parameters, 69 M multiply-accumulates at 32x32."""
    return CifarResNet(32, num_classes, scale)


def resnet56(num_classes: int = 10, scale: float = 1.0) -> CifarResNet:
    """ResNet-56 for small images: 0.85 M parameters, 126 M multiply-accumulates at 32x32."""
    return CifarResNet(56, num_classes, scale)
