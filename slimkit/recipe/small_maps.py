"""Convolutions on small feature maps as matrix products, for float training on CPU.

Paddle's CPU kernels run one small matrix product an image (pointwise) or an image and channel (depthwise),
and those make up nine tenths of a MobileNetV3 training step on small images. Instead:

- on an h x w map a depthwise convolution is, for each channel, a linear map from the h*w inputs to the
  outputs: one matrix product a channel for the whole batch;
- a pointwise convolution is one matrix product over all pixels of the batch.

The mathematics, and the gradients, are the same; only the order of summation differs.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Tuple

import numpy as np
import paddle
from paddle import nn

__all__ = ["fast_small_maps"]

# Largest side of a feature map for which the matrix product is the faster way (measured).
LARGEST_DEPTHWISE = 16
LARGEST_POINTWISE = 6


class _MatrixDepthwise(nn.Layer):
    """Stands in for a depthwise ``Conv2D`` without bias; holds no parameter of its own."""

    def __init__(self, convolution: nn.Conv2D) -> None:
        super().__init__()
        self._convolution = [convolution]  # in a list, so that it is no sublayer
        self._kernel, self._stride = convolution._kernel_size[0], convolution._stride[0]
        padding = convolution._padding
        self._padding = padding if isinstance(padding, int) else padding[0]
        self._selections: Dict[Tuple[int, int], Tuple[paddle.Tensor, int, int]] = {}

    def _selection(self, height: int, width: int) -> Tuple[paddle.Tensor, int, int]:
        """Returns 0/1 of shape (taps, inputs * outputs), and the output's height and width.

        Entry (t, i, o) is 1 where output pixel o reads input pixel i through tap t.
        """
        if (height, width) not in self._selections:
            k, s, p = self._kernel, self._stride, self._padding
            rows, columns = (height + 2 * p - k) // s + 1, (width + 2 * p - k) // s + 1
            down = np.arange(height)[:, None] == (np.arange(rows) * s - p)[None, :] + np.arange(k)[:, None, None]
            across = np.arange(width)[:, None] == (np.arange(columns) * s - p)[None, :] + np.arange(k)[:, None, None]
            chosen = np.einsum("ayr,bxc->abyxrc", down.astype(np.float32), across.astype(np.float32))
            tensor = paddle.to_tensor(chosen.reshape(k * k, -1))
            self._selections[height, width] = (tensor, rows, columns)
        return self._selections[height, width]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps (N, C, H, W) as the convolution does."""
        convolution = self._convolution[0]
        count, channels, height, width = x.shape
        if max(height, width) > LARGEST_DEPTHWISE:
            return convolution(x)
        chosen, rows, columns = self._selection(height, width)
        weight = convolution.weight.reshape([channels, -1])
        maps = paddle.matmul(weight, chosen).reshape([channels, height * width, rows * columns])
        pixels = x.reshape([count, channels, height * width]).transpose([1, 0, 2])
        out = paddle.matmul(pixels, maps).transpose([1, 0, 2])
        return out.reshape([count, channels, rows, columns])


class _MatrixPointwise(nn.Layer):
    """Stands in for a 1x1 ``Conv2D``; holds no parameter of its own."""

    def __init__(self, convolution: nn.Conv2D) -> None:
        super().__init__()
        self._convolution = [convolution]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps (N, C, H, W) as the convolution does."""
        convolution = self._convolution[0]
        count, channels, height, width = x.shape
        if max(height, width) > LARGEST_POINTWISE:
            return convolution(x)
        pixels = x.reshape([count, channels, height * width]).transpose([0, 2, 1]).reshape([-1, channels])
        weight = convolution.weight.reshape([-1, channels])
        out = paddle.matmul(pixels, weight, transpose_y=True)
        if convolution.bias is not None:
            out = out + convolution.bias
        return out.reshape([count, height * width, -1]).transpose([0, 2, 1]).reshape([count, -1, height, width])


def _is_depthwise(layer: nn.Layer) -> bool:
    return (
        isinstance(layer, nn.Conv2D)
        and layer._groups == layer._in_channels == layer._out_channels
        and layer.bias is None
        and isinstance(layer._padding, (int, list, tuple))
        and len(set(layer._kernel_size)) == len(set(layer._stride)) == 1
        and set(layer._dilation) == {1}
    )


def _is_pointwise(layer: nn.Layer) -> bool:
    return (
        isinstance(layer, nn.Conv2D)
        and layer._groups == 1
        and set(layer._kernel_size) == set(layer._stride) == {1}
        and layer._padding in (0, [0, 0], (0, 0))
    )


#: What stands in for which convolution.
_ROWS: List[Tuple[Callable[[nn.Layer], bool], Callable[[nn.Conv2D], nn.Layer]]] = [
    (_is_depthwise, _MatrixDepthwise),
    (_is_pointwise, _MatrixPointwise),
]


@contextmanager
def fast_small_maps(network: nn.Layer) -> Iterator[None]:
    """Within the context, the network's depthwise and 1x1 convolutions of small maps run as matrix products.

    The network is put back as it was. Its ``state_dict`` lacks those convolutions meanwhile: take or set it
    outside.

    Args:
        network: any layer; other convolutions are left alone.
    """
    replaced: List[Tuple[nn.Layer, str, nn.Layer]] = []
    try:
        for parent in network.sublayers(include_self=True):
            for name, child in list(parent._sub_layers.items()):
                for fits, stand_in in _ROWS:
                    if fits(child):
                        parent._sub_layers[name] = stand_in(child)
                        replaced.append((parent, name, child))
        yield
    finally:
        for parent, name, child in replaced:
            parent._sub_layers[name] = child
