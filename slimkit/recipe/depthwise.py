"""Depthwise convolution on small feature maps as batched matrix products, for float training on CPU.

Paddle's CPU kernel runs one tiny matrix product an image and channel, and makes up four fifths of a
MobileNetV3 training step. On an h x w map a depthwise convolution is, for each channel, a linear map
from the h*w inputs to the outputs, so a batch is one matrix product a channel. The mathematics, and the
gradients, are the same; only the order of summation differs.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Dict, Iterator, List, Tuple

import numpy as np
import paddle
from paddle import nn

__all__ = ["fast_depthwise"]

# Largest side of a feature map for which the matrix product is the faster way (measured: 16 x 16).
LARGEST_SIDE = 16


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
            down = (
                np.arange(height)[:, None] == (np.arange(rows) * s - p)[None, :] + np.arange(k)[:, None, None]
            )
            across = (
                np.arange(width)[:, None]
                == (np.arange(columns) * s - p)[None, :] + np.arange(k)[:, None, None]
            )
            chosen = np.einsum("ayr,bxc->abyxrc", down.astype(np.float32), across.astype(np.float32))
            tensor = paddle.to_tensor(chosen.reshape(k * k, -1))
            self._selections[height, width] = (tensor, rows, columns)
        return self._selections[height, width]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps (N, C, H, W) as the convolution does."""
        convolution = self._convolution[0]
        count, channels, height, width = x.shape
        if max(height, width) > LARGEST_SIDE:
            return convolution(x)
        chosen, rows, columns = self._selection(height, width)
        weight = convolution.weight.reshape([channels, -1])
        maps = paddle.matmul(weight, chosen).reshape([channels, height * width, rows * columns])
        pixels = x.reshape([count, channels, height * width]).transpose([1, 0, 2])
        out = paddle.matmul(pixels, maps).transpose([1, 0, 2])
        return out.reshape([count, channels, rows, columns])


def _is_depthwise(layer: nn.Layer) -> bool:
    return (
        isinstance(layer, nn.Conv2D)
        and layer._groups == layer._in_channels == layer._out_channels
        and layer.bias is None
        and isinstance(layer._padding, (int, list, tuple))
        and len(set(layer._kernel_size)) == len(set(layer._stride)) == 1
        and set(layer._dilation) == {1}
    )


@contextmanager
def fast_depthwise(network: nn.Layer) -> Iterator[None]:
    """Within the context, the network's depthwise convolutions run as matrix products.

    The network is put back as it was; ``state_dict`` must be taken outside the context.

    Args:
        network: any layer; convolutions that are not square, dilated or biased are left alone.
    """
    replaced: List[Tuple[nn.Layer, str, nn.Layer]] = []
    try:
        for parent in network.sublayers(include_self=True):
            for name, child in list(parent._sub_layers.items()):
                if _is_depthwise(child):
                    parent._sub_layers[name] = _MatrixDepthwise(child)
                    replaced.append((parent, name, child))
        yield
    finally:
        for parent, name, child in replaced:
            parent._sub_layers[name] = child
