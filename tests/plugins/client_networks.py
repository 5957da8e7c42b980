"""Small layers as PaddleOCR, PaddleClas, PaddleDetection and PaddleSeg build theirs, for the tests of call sites."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
import paddle
from paddle import ParamAttr, nn
from paddle.nn import functional as F

__all__ = [
    "Classifier",
    "ConvBNLayer",
    "Detector",
    "ExportModel",
    "LearnableRepLayer",
    "Recognizer",
    "Segmenter",
    "TextDetector",
    "WrappedModel",
    "enliven",
]


def enliven(layer: nn.Layer, seed: int = 0) -> nn.Layer:
    """Weights that keep a signal's size, and batch norms with statistics; the mode stays."""
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
    return layer


# ---------------------------------------------------------------------------------------- PaddleOCR


class ConvBNLayer(nn.Layer):
    """Convolution without bias and batch norm; [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            inputs, outputs, kernel, stride=stride, padding=(kernel - 1) // 2, groups=groups, bias_attr=False,
            weight_attr=ParamAttr(learning_rate=1.0),
        )  # fmt: skip
        self.bn = nn.BatchNorm2D(
            outputs, weight_attr=ParamAttr(regularizer=paddle.regularizer.L2Decay(0.0), learning_rate=1.0)
        )

    def forward(self, x: Any) -> Any:
        return self.bn(self.conv(x))


class LearnableAffineBlock(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.scale = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))
        self.add_parameter("scale", self.scale)
        self.bias = self.create_parameter([1], default_initializer=nn.initializer.Constant(0.0))
        self.add_parameter("bias", self.bias)

    def forward(self, x: Any) -> Any:
        return self.scale * x + self.bias


class LearnableRepLayer(nn.Layer):
    """PP-LCNetV3's: parallel convolutions that ``rep()`` makes one of, whatever wraps them by then."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.is_repped = False
        self.groups, self.stride, self.kernel_size = groups, stride, kernel
        self.in_channels, self.out_channels = inputs, outputs
        self.padding = (kernel - 1) // 2
        self.identity = nn.BatchNorm2D(inputs) if outputs == inputs and stride == 1 else None
        self.conv_kxk = nn.LayerList([ConvBNLayer(inputs, outputs, kernel, stride, groups) for _ in range(2)])
        self.conv_1x1 = ConvBNLayer(inputs, outputs, 1, stride, groups) if kernel > 1 else None
        self.lab = LearnableAffineBlock()
        self.act = nn.Hardswish()

    def forward(self, x: Any) -> Any:
        if self.is_repped:
            return self._activated(self.lab(self.reparam_conv(x)))
        out = 0
        if self.identity is not None:
            out += self.identity(x)
        if self.conv_1x1 is not None:
            out += self.conv_1x1(x)
        for conv in self.conv_kxk:
            out += conv(x)
        return self._activated(self.lab(out))

    def _activated(self, out: Any) -> Any:
        return out if self.stride == 2 else self.act(out)

    def rep(self) -> None:
        if self.is_repped:
            return
        kernel, bias = self._get_kernel_bias()
        self.reparam_conv = nn.Conv2D(
            self.in_channels, self.out_channels, self.kernel_size, stride=self.stride, padding=self.padding,
            groups=self.groups,
        )  # fmt: skip
        self.reparam_conv.weight.set_value(kernel)
        self.reparam_conv.bias.set_value(bias)
        self.is_repped = True

    def _get_kernel_bias(self) -> Tuple[Any, Any]:
        kernel, bias = self._fuse_bn_tensor(self.identity)
        one, one_bias = self._fuse_bn_tensor(self.conv_1x1)
        if isinstance(one, paddle.Tensor):
            one = F.pad(one, [self.kernel_size // 2] * 4)
        kernel, bias = kernel + one, bias + one_bias
        for conv in self.conv_kxk:
            part, part_bias = self._fuse_bn_tensor(conv)
            kernel, bias = kernel + part, bias + part_bias
        return kernel, bias

    def _fuse_bn_tensor(self, branch: Any) -> Tuple[Any, Any]:
        if not branch:
            return 0, 0
        if isinstance(branch, ConvBNLayer):
            kernel, norm = branch.conv.weight, branch.bn
        else:
            assert isinstance(branch, nn.BatchNorm2D)
            norm, each = branch, self.in_channels // self.groups
            kernel = paddle.zeros((self.in_channels, each, self.kernel_size, self.kernel_size))
            for i in range(self.in_channels):
                kernel[i, i % each, self.kernel_size // 2, self.kernel_size // 2] = 1
        std = (norm._variance + norm._epsilon).sqrt()
        t = (norm.weight / std).reshape((-1, 1, 1, 1))
        return kernel * t, norm.bias - norm._mean * norm.weight / std


class SELayer(nn.Layer):
    def __init__(self, channel: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.conv1 = nn.Conv2D(channel, channel // 4, 1)
        self.conv2 = nn.Conv2D(channel // 4, channel, 1)

    def forward(self, x: Any) -> Any:
        return paddle.multiply(x=x, y=F.hardsigmoid(self.conv2(F.relu(self.conv1(self.avg_pool(x))))))


class Backbone(nn.Layer):
    """[N, 3, H, W] to [N, width, H / 4, W / 4]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(3, width, 3, 2)
        self.dw_conv = LearnableRepLayer(width, width, 3, stride=1, groups=width)
        self.se = SELayer(width)
        self.pw_conv = LearnableRepLayer(width, width, 1)
        self.down = LearnableRepLayer(width, width, 3, stride=2, groups=width)

    def forward(self, x: Any) -> Any:
        return self.down(self.pw_conv(self.se(self.dw_conv(self.conv1(x)))))


class Recognizer(nn.Layer):
    """PP-OCRv4 rec in small: CTC over columns, probabilities in eval mode; [N, 3, 32, W] to [N, W / 4, 7]."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(8, 7)

    def forward(self, x: Any, data: Any = None) -> Any:
        x = self.backbone(x).mean(2).transpose([0, 2, 1])
        predicts = self.head(x)
        return predicts if self.training else F.softmax(predicts, axis=2)


class DBHead(nn.Layer):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(inputs, inputs // 2, 3, padding=1, weight_attr=ParamAttr(), bias_attr=False)
        self.conv_bn1 = nn.BatchNorm(inputs // 2, act="relu")
        self.conv2 = nn.Conv2DTranspose(inputs // 2, inputs // 2, 2, stride=2)
        self.conv_bn2 = nn.BatchNorm(inputs // 2, act="relu")
        self.conv3 = nn.Conv2DTranspose(inputs // 2, 1, 2, stride=2)

    def forward(self, x: Any) -> Any:
        return F.sigmoid(self.conv3(self.conv_bn2(self.conv2(self.conv_bn1(self.conv1(x))))))


class TextDetector(nn.Layer):
    """DB in small: transposed convolutions, a branch of train mode alone; [N, 3, H, W] to maps of [N, 1 or 3, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = nn.Conv2D(8, 8, 1, bias_attr=False)
        self.binarize, self.thresh = DBHead(8), DBHead(8)

    def forward(self, x: Any, data: Any = None) -> Dict[str, Any]:
        x = self.backbone(x)
        x = self.neck(x) + F.upsample(F.avg_pool2d(x, 2), scale_factor=2, mode="nearest", align_mode=1)
        shrink = self.binarize(x)
        if not self.training:
            return {"maps": shrink}
        thresh = self.thresh(x)
        binary = paddle.reciprocal(1 + paddle.exp(-50 * (shrink - thresh)))
        return {"maps": paddle.concat([shrink, thresh, binary], axis=1)}


# --------------------------------------------------------------------------------------- PaddleClas


class TheseusLayer(nn.Layer):
    """PaddleClas's base, with the attributes it gives every layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.res_dict: Dict[str, Any] = {}
        self.res_name = self.full_name()
        self.pruner = None
        self.quanter = None


class Classifier(TheseusLayer):
    """MobileNetV3's parts: hard swish, depthwise, squeeze and excitation; [N, 3, H, W] to [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvBNLayer(3, 8, 3, 2)
        self.hardswish = nn.Hardswish()
        self.depthwise = ConvBNLayer(8, 8, 3, 1, groups=8)
        self.mid_se = SELayer(8)
        self.linear_conv = ConvBNLayer(8, 16, 1, 1)
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.last_conv = nn.Conv2D(16, 16, 1, bias_attr=False)
        self.flatten = nn.Flatten(start_axis=1, stop_axis=-1)
        self.dropout = nn.Dropout(p=0.2, mode="downscale_in_infer")
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        x = self.hardswish(self.conv(x))
        x = self.linear_conv(self.mid_se(F.relu(self.depthwise(x))))
        return self.fc(self.dropout(self.flatten(self.hardswish(self.last_conv(self.avg_pool(x))))))


class ExportModel(TheseusLayer):
    """PaddleClas's wrapper of what it exports, with its eval() that returns nothing."""

    def __init__(self, model: nn.Layer) -> None:
        super().__init__()
        self.base_model = model
        self.out_act = nn.Softmax(axis=-1)

    def eval(self) -> None:  # type: ignore[override]
        self.training = False
        for layer in self.sublayers():
            layer.training = False
            layer.eval()

    def forward(self, x: Any) -> Any:
        return self.out_act(self.base_model(x))


# ---------------------------------------------------------------------------------- PaddleDetection


class Detector(nn.Layer):
    """A detector of one level; a dict in, a dict of losses or of boxes out; ``proj_conv`` asks to stay float."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(ConvBNLayer(3, 8, 3, 2), nn.LeakyReLU(0.1), ConvBNLayer(8, 16, 3, 2), nn.ReLU())
        self.neck = ConvBNLayer(16, 16, 1, 1)
        self.yolo_head = nn.Conv2D(16, 5, 1)
        self.proj_conv = nn.Conv2D(5, 5, 1, bias_attr=False)
        self.proj_conv.skip_quant = True

    def forward(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
        self.inputs = inputs
        found = self.proj_conv(self.yolo_head(F.relu(self.neck(self.backbone(inputs["image"])))))
        if self.training:
            loss = ((found - inputs["gt"]) ** 2).mean()
            return {"loss": loss, "loss_box": loss * 1}
        found = found.flatten(2).transpose([0, 2, 1])
        scale_y, scale_x = paddle.split(inputs["scale_factor"].unsqueeze(1), 2, axis=-1)
        boxes = found[:, :, :4] / paddle.concat([scale_x, scale_y, scale_x, scale_y], axis=-1)
        return {"bbox": boxes, "bbox_num": F.sigmoid(found[:, :, 4:])}


# ---------------------------------------------------------------------------------------- PaddleSeg


class Segmenter(nn.Layer):
    """Backbone and head; a list of logits; [N, 3, H, W] to [[N, 4, H, W]]."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2D(3, 16, 3, stride=2, padding=1), nn.BatchNorm2D(16), nn.ReLU(),
            nn.Conv2D(16, 16, 3, padding=1), nn.BatchNorm2D(16), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Conv2D(16, 12, 3, padding=1), nn.ReLU(), nn.Conv2D(12, 4, 1))

    def forward(self, x: Any) -> List[Any]:
        logit = self.head(self.backbone(x))
        return [F.interpolate(logit, paddle.shape(x)[2:], mode="bilinear", align_corners=False)]


class WrappedModel(nn.Layer):
    """PaddleSeg's wrapper of what it exports."""

    def __init__(self, model: nn.Layer) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Any) -> Any:
        outs = self.model(x)
        return [F.softmax(out, axis=1) for out in outs]
