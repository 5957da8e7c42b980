"""``paddleslim.models``: the networks that PaddleSlim's tutorials are about, as static programs.

PaddleSlim's documents use them and its later packages lack them. Names of parameters are those of the documents
(``conv2_1_sep_weights``). They need ``paddle.enable_static()`` under ``slimkit run``, or :func:`slimkit.legacy_ir`.
"""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from typing import Any, List, Optional, Sequence, Tuple

import paddle
from paddle import ParamAttr
from paddle.nn import functional as F

from slimkit.errors import ConfigError, suggestion

__all__ = ["MobileNet", "MobileNetV2", "ResNet34", "ResNet50", "image_classification"]

#: MobileNetV1: name, filters before, filters, stride.
_SEPARABLE: Tuple[Tuple[str, int, int, int], ...] = (
    ("conv2_1", 32, 64, 1),
    ("conv2_2", 64, 128, 2),
    ("conv3_1", 128, 128, 1),
    ("conv3_2", 128, 256, 2),
    ("conv4_1", 256, 256, 1),
    ("conv4_2", 256, 512, 2),
    *((f"conv5_{i}", 512, 512, 1) for i in range(1, 6)),
    ("conv5_6", 512, 1024, 2),
    ("conv6", 1024, 1024, 1),
)
#: MobileNetV2: expansion, filters, blocks, stride of the first.
_INVERTED: Tuple[Tuple[int, int, int, int], ...] = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv_bn(
    x: Any,
    name: str,
    filters: int,
    size: int,
    stride: int = 1,
    groups: int = 1,
    act: Optional[str] = "relu",
    bn: str = "",
) -> Any:
    norm = bn or f"{name}_bn"
    x = paddle.static.nn.conv2d(
        x, filters, size, stride, (size - 1) // 2, groups=groups, bias_attr=False,
        param_attr=ParamAttr(name=f"{name}_weights", initializer=paddle.nn.initializer.KaimingNormal()),
    )  # fmt: skip
    x = paddle.static.nn.batch_norm(
        x, act=act if act == "relu" else None,
        param_attr=ParamAttr(name=f"{norm}_scale"), bias_attr=ParamAttr(name=f"{norm}_offset"),
        moving_mean_name=f"{norm}_mean", moving_variance_name=f"{norm}_variance",
    )  # fmt: skip
    return F.relu6(x) if act == "relu6" else x


class MobileNet:
    """MobileNetV1 (arXiv:1704.04861)."""

    def net(self, input: Any, class_dim: int = 1000, scale: float = 1.0) -> Any:
        """Builds the network in the current program.

        Args:
            input: [N, C, H, W].
            class_dim: classes.
            scale: of the numbers of filters.

        Returns:
            [N, class_dim], before softmax.
        """
        x = _conv_bn(input, "conv1", int(32 * scale), 3, 2)
        for name, before, filters, stride in _SEPARABLE:
            wide = int(before * scale)
            x = _conv_bn(x, f"{name}_dw", wide, 3, stride, wide)
            x = _conv_bn(x, f"{name}_sep", int(filters * scale), 1)
        x = F.adaptive_avg_pool2d(x, 1)
        return paddle.static.nn.fc(
            x, class_dim, weight_attr=ParamAttr(name="fc7_weights"), bias_attr=ParamAttr(name="fc7_offset")
        )


class MobileNetV2:
    """MobileNetV2 (arXiv:1801.04381)."""

    def net(self, input: Any, class_dim: int = 1000, scale: float = 1.0) -> Any:
        """Builds the network; see :meth:`MobileNet.net`."""
        x, before = _conv_bn(input, "conv1_1", int(32 * scale), 3, 2, act="relu6"), int(32 * scale)
        for place, (expansion, filters, blocks, stride) in enumerate(_INVERTED, 2):
            for block in range(blocks):
                name, wide, after = f"conv{place}_{block + 1}", before * expansion, int(filters * scale)
                y = _conv_bn(x, f"{name}_expand", wide, 1, act="relu6")
                y = _conv_bn(y, f"{name}_dwise", wide, 3, 1 if block else stride, wide, "relu6")
                y = _conv_bn(y, f"{name}_linear", after, 1, act=None)
                x, before = (paddle.add(x, y) if block else y), after
        x = F.adaptive_avg_pool2d(_conv_bn(x, "conv9", int(1280 * max(scale, 1.0)), 1, act="relu6"), 1)
        return paddle.static.nn.fc(
            x, class_dim, weight_attr=ParamAttr(name="fc10_weights"), bias_attr=ParamAttr(name="fc10_offset")
        )


class _ResNet:
    """ResNet (arXiv:1512.03385)."""

    def __init__(self, depth: Sequence[int], bottleneck: bool, prefix_name: str = "") -> None:
        self._depth, self._bottleneck, self._prefix = depth, bottleneck, f"{prefix_name}_" if prefix_name else ""

    def net(self, input: Any, class_dim: int = 1000) -> Any:
        """Builds the network; see :meth:`MobileNet.net`."""
        x = _conv_bn(input, f"{self._prefix}conv1", 64, 7, 2, bn=f"{self._prefix}bn_conv1")
        x = F.max_pool2d(x, 3, 2, 1)
        before = 64
        for stage, blocks in enumerate(self._depth):
            for block in range(blocks):
                filters, stride = 64 * 2**stage, 2 if block == 0 and stage else 1
                x, before = self._block(x, f"{stage + 2}{chr(97 + block)}", filters, stride, before)
        return paddle.static.nn.fc(F.adaptive_avg_pool2d(x, 1), class_dim)

    def _block(self, x: Any, place: str, filters: int, stride: int, before: int) -> Tuple[Any, int]:
        def conv(y: Any, branch: str, count: int, size: int, step: int = 1, act: Optional[str] = "relu") -> Any:
            names = [f"{self._prefix}{kind}{place}_branch{branch}" for kind in ("res", "bn")]
            return _conv_bn(y, names[0], count, size, step, act=act, bn=names[1])

        after = filters * 4 if self._bottleneck else filters
        if self._bottleneck:
            y = conv(conv(x, "2a", filters, 1), "2b", filters, 3, stride)
            y = conv(y, "2c", after, 1, act=None)
        else:
            y = conv(conv(x, "2a", filters, 3, stride), "2b", filters, 3, act=None)
        short = x if stride == 1 and before == after else conv(x, "1", after, 1, stride, None)
        return F.relu(paddle.add(short, y)), after


def ResNet34(prefix_name: str = "") -> _ResNet:
    """ResNet of 34 layers; ``.net(input, class_dim)`` builds it."""
    return _ResNet((3, 4, 6, 3), False, prefix_name)


def ResNet50(prefix_name: str = "") -> _ResNet:
    """ResNet of 50 layers; ``.net(input, class_dim)`` builds it."""
    return _ResNet((3, 4, 6, 3), True, prefix_name)


def image_classification(
    model: str, image_shape: Sequence[int], class_num: int, use_gpu: bool = False
) -> Tuple[Any, Any, Any, Tuple[Any, Any], Tuple[str, str, str, str]]:
    """The programs of a tutorial: train and evaluate one of the networks, with initialized parameters.

    Args:
        model: its name.
        image_shape: without the batch, such as [1, 28, 28].
        class_num: classes.
        use_gpu: where the executor runs.

    Returns:
        (executor, train program, eval program, (image, label), names of top-1, top-5, loss and scores).

    Raises:
        ConfigError: there is no such network.
    """
    networks: List[Any] = [MobileNet, MobileNetV2, ResNet34, ResNet50]
    by_name = {network.__name__: network for network in networks}
    if model not in by_name:
        allowed = ", ".join(by_name)
        raise ConfigError(
            f"paddleslim.models has no network '{model}': there are {allowed}{suggestion(model, by_name)}"
        )
    train, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(train, startup):
        image = paddle.static.data("image", [None, *image_shape], "float32")
        label = paddle.static.data("label", [None, 1], "int64")
        scores = F.softmax(by_name[model]().net(image, class_num))
        loss = paddle.mean(F.cross_entropy(scores, label, use_softmax=False))
        top1 = paddle.static.accuracy(scores, label, k=1)
        top5 = paddle.static.accuracy(scores, label, k=min(5, class_num))
        evaluate = train.clone(for_test=True)
        paddle.optimizer.Momentum(0.1, 0.9, weight_decay=paddle.regularizer.L2Decay(4e-5)).minimize(loss)
    executor = paddle.static.Executor(paddle.CUDAPlace(0) if use_gpu else paddle.CPUPlace())
    executor.run(startup)
    return executor, train, evaluate, (image, label), (top1.name, top5.name, loss.name, scores.name)
