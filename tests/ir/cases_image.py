"""Functions of images: convolutions, pooling, resampling, normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from casebook import case, fl, layer
from paddle import _C_ops, nn
from paddle.nn import functional as F

# Functions that look at a dynamic shape: Paddle's tracer rewrites the code of functions, not of lambdas.


def _resize_like(x: Any, y: Any) -> Any:
    return F.interpolate(x, size=y.shape[2:])


# -- convolutions and geometry

layer("conv2d", lambda: nn.Conv2D(4, 6, 3, stride=2, padding=1, groups=2), fl(2, 4, 7, 7), grad=True)
layer("conv2d", lambda: nn.Conv2D(4, 6, 3, padding="SAME", dilation=2), fl(2, 4, 7, 7))
layer("conv2d", lambda: nn.Conv2D(4, 6, 3, padding=[1, 2]), fl(2, 4, 7, 7))
layer("depthwise_conv2d", lambda: nn.Conv2D(4, 8, 3, padding=1, groups=4), fl(2, 4, 7, 7), grad=True)
layer("conv2d_transpose", lambda: nn.Conv2DTranspose(4, 6, 3, stride=2, padding=1), fl(2, 4, 5, 5), grad=True)
case("conv2d_transpose",
     lambda x, w: F.conv2d_transpose(x, w, stride=2, output_size=[12, 12]), fl(2, 4, 5, 5), fl(4, 6, 4, 4))  # fmt: skip
layer("depthwise_conv2d_transpose", lambda: nn.Conv2DTranspose(4, 4, 3, stride=2, groups=4), fl(2, 4, 5, 5))
layer("conv3d", lambda: nn.Conv3D(2, 3, 3, padding=1), fl(1, 2, 4, 4, 4), grad=True)
layer("conv3d_transpose", lambda: nn.Conv3DTranspose(2, 3, 3), fl(1, 2, 3, 3, 3))


class Deformable(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv = paddle.vision.ops.DeformConv2D(2, 3, 3, padding=1)

    def forward(self, x: Any, offset: Any, mask: Any) -> Any:
        return self.conv(x, offset, mask)


layer("deformable_conv", Deformable, fl(1, 2, 5, 5), fl(1, 18, 5, 5), fl(1, 9, 5, 5, low=0))
case("pool2d", lambda x: F.avg_pool2d(x, 3, stride=2, padding=1, exclusive=False), fl(2, 3, 8, 8), grad=True)
case("pool2d", lambda x: F.max_pool2d(x, 2, ceil_mode=True), fl(2, 3, 7, 7), grad=True)
case("pool2d", lambda x: F.adaptive_avg_pool2d(x, [2, 3]), fl(2, 3, 7, 7), grad=True)
case("pool3d", lambda x: F.avg_pool3d(x, 2), fl(1, 2, 4, 4, 4), grad=True)
case("max_pool2d_with_index", lambda x: F.max_pool2d(x, 2, return_mask=True), fl(1, 2, 4, 4))
case("nearest_interp", lambda x: F.interpolate(x, scale_factor=2), fl(1, 2, 4, 5), grad=True)
case("nearest_interp", lambda x: F.interpolate(x, size=[7, 9]), fl(1, 2, 4, 5))
case("nearest_interp", _resize_like, fl(1, 2, 4, 5), fl(1, 2, 8, 6),
     shapes=[[-1, 2, -1, -1], [-1, 2, -1, -1]])  # fmt: skip
case("bilinear_interp", lambda x: F.interpolate(x, size=[7, 9], mode="bilinear", align_corners=True), fl(1, 2, 4, 5))
case("bilinear_interp", lambda x, y: F.interpolate(x, size=y, mode="bilinear"), fl(1, 2, 4, 5),
     np.array([6, 8], "int64"))  # fmt: skip
case("bilinear_interp", lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"), fl(1, 2, 4, 6), grad=True)
case("bicubic_interp", lambda x: F.interpolate(x, size=[7, 9], mode="bicubic"), fl(1, 2, 4, 5))
case("linear_interp", lambda x: F.interpolate(x, size=[7], mode="linear", data_format="NCW"), fl(1, 2, 4))
case("trilinear_interp",
     lambda x: F.interpolate(x, size=[3, 4, 5], mode="trilinear", data_format="NCDHW"), fl(1, 2, 2, 3, 4))  # fmt: skip
case("pad", lambda x: F.pad(x, [1, 0, 0, 2, 1, 1], value=0.5), fl(2, 3, 4), grad=True)
case("pad3d", lambda x: F.pad(x, [1, 2, 0, 1], mode="reflect"), fl(1, 2, 4, 4), grad=True)
case("pad3d", lambda x: F.pad(x, [1, 2, 0, 1], value=0.3), fl(1, 2, 4, 4))
case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), fl(1, 8, 3, 3), grad=True)
case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), fl(1, 2, 4, 4))
case("channel_shuffle", lambda x: F.channel_shuffle(x, 2), fl(1, 4, 3, 3))
case("shuffle_channel", lambda x: _C_ops.shuffle_channel(x, 2), fl(1, 4, 3, 3))
case("temporal_shift", lambda x: F.temporal_shift(x, 2, 0.25), fl(4, 4, 3, 3))
case("unfold", lambda x: F.unfold(x, [2, 2], 1, 0, 1), fl(1, 2, 4, 4), grad=True)
case("affine_grid", lambda x: F.affine_grid(x, [2, 3, 4, 4], align_corners=False), fl(2, 2, 3))
case("grid_sample", lambda x, g: F.grid_sample(x, g), fl(2, 3, 5, 5), fl(2, 4, 4, 2, low=-1, high=1), grad=True)

# -- normalisation

layer("batch_norm", lambda: nn.BatchNorm2D(3), fl(4, 3, 5, 5), grad=True, train=True)
layer("batch_norm", lambda: nn.BatchNorm2D(3), fl(4, 3, 5, 5))
layer("batch_norm", lambda: nn.BatchNorm2D(3, data_format="NHWC"), fl(4, 5, 5, 3), grad=True, train=True)
layer("layer_norm", lambda: nn.LayerNorm(5), fl(2, 3, 5), grad=True)
layer("group_norm", lambda: nn.GroupNorm(2, 4), fl(2, 4, 3, 3), grad=True)
layer("instance_norm", lambda: nn.InstanceNorm2D(3), fl(2, 3, 4, 4), grad=True)
case("norm", lambda x: _C_ops.norm(x, 1, 1e-10, False)[0], fl(2, 3))
layer("dropout", lambda: nn.Dropout(0.3), fl(4, 5))
layer("dropout", lambda: nn.Dropout(0.3), fl(40, 5), train=True, values=False)
layer("dropout", lambda: nn.Dropout(0.3, mode="downscale_in_infer"), fl(4, 5))
