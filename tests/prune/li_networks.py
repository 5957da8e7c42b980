"""The networks and recipes of Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017 (arXiv:1608.08710).

CIFAR-10, images [N, 3, 32, 32]. Layers are numbered as in the paper, from 1, by convolution; a shortcut is none.
"""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from dataclasses import dataclass
from typing import Callable, Dict, FrozenSet, List, Tuple

import paddle
from paddle import nn
from paddle.nn import functional as F

__all__ = ["RECIPES", "Recipe", "resnet", "vgg16"]

SHAPE = [1, 3, 32, 32]

_VGG = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
_STAGES = (16, 32, 64)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2D(inputs, outputs, 3, stride, 1, bias_attr=False), nn.BatchNorm2D(outputs))


class _Vgg16(nn.Layer):
    """Thirteen convolutions with batch norm and, for small images, two fully connected layers (Table 2)."""

    def __init__(self) -> None:
        super().__init__()
        layers: List[nn.Layer] = []
        inputs = 3
        for outputs in _VGG:
            layers += [_convolution(inputs, outputs), nn.ReLU()] if outputs else [nn.MaxPool2D(2, 2)]
            inputs = outputs or inputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1D(512), nn.ReLU(), nn.Linear(512, 10))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.classifier(paddle.flatten(self.features(x), 1))


class _Block(nn.Layer):
    """Two convolutions; where the map shrinks the shortcut takes every second pixel and adds zero channels (He et al.'s
    option A)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.first, self.second = _convolution(inputs, outputs, self.stride), _convolution(outputs, outputs)
        self.added = outputs - inputs

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        residual = self.second(F.relu(self.first(x)))
        if self.added:
            x = F.pad(x[:, :, ::2, ::2], [0, 0, 0, self.added, 0, 0, 0, 0])
        return F.relu(residual + x)


class _ResNet(nn.Layer):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = _convolution(3, 16)
        widths = [16] + [width for width in _STAGES for _ in range((depth - 2) // 6)]
        self.blocks = nn.Sequential(*(_Block(i, o) for i, o in zip(widths, widths[1:])))
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.blocks(F.relu(self.stem(x)))
        return self.classifier(paddle.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def vgg16() -> nn.Layer:
    """3.13e8 multiply-accumulates."""
    return _Vgg16()


def resnet(depth: int) -> nn.Layer:
    """ResNet-56: 1.25e8 multiply-accumulates, ResNet-110: 2.53e8."""
    return _ResNet(depth)


@dataclass(frozen=True)
class Recipe:
    """One row of the paper's Table 1.

    Attributes:
        network: makes it.
        macs: multiply-accumulates before, as printed there.
        pruned: percent of them that go.
        ratios: layer -> fraction of its filters that goes; what stays is rounded down.
    """

    network: Callable[[], nn.Layer]
    macs: float
    pruned: float
    ratios: Dict[int, float]


def _stages(depth: int, rates: Tuple[float, float, float], skipped: FrozenSet[int]) -> Dict[int, float]:
    """Section 4.2: the first layer of each block of a stage at the stage's rate, the sensitive ones not at all."""
    blocks = (depth - 2) // 6
    firsts = {2 + 2 * block: rates[block // blocks] for block in range(3 * blocks)}
    return {layer: rate for layer, rate in firsts.items() if rate and layer not in skipped}


#: Section 4.1: half of the filters of layers 1 and 8 to 13. Section 4.2, text and Table 1.
RECIPES: Dict[str, Recipe] = {
    "VGG-16 A": Recipe(vgg16, 3.13e8, 34.2, dict.fromkeys((1, *range(8, 14)), 0.5)),
    "ResNet-56 A": Recipe(
        lambda: resnet(56), 1.25e8, 10.4, _stages(56, (0.1, 0.1, 0.1), frozenset((16, 20, 38, 54)))
    ),
    "ResNet-56 B": Recipe(
        lambda: resnet(56), 1.25e8, 27.6, _stages(56, (0.6, 0.3, 0.1), frozenset((16, 18, 20, 34, 38, 54)))
    ),
    "ResNet-110 A": Recipe(lambda: resnet(110), 2.53e8, 15.9, _stages(110, (0.5, 0.0, 0.0), frozenset((36,)))),
    "ResNet-110 B": Recipe(
        lambda: resnet(110), 2.53e8, 38.6, _stages(110, (0.5, 0.4, 0.3), frozenset((36, 38, 74)))
    ),
}
