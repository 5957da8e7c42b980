"""Networks for the tests of pruning, with random weights that are alive: no signal vanishes or blows up with depth."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import paddle
import paddle.vision.models as zoo
from paddle import nn
from paddle.nn import functional as F
from paddle.static import InputSpec

from slimkit.ir import Model

__all__ = ["FAST", "OCR", "SLOW", "Network", "WithLoss", "classifier", "enliven", "layer_network", "ocr"]

#: At least one network of a family, compared on every CI run; the others are `slow`.
FAST = (
    "LeNet", "densenet121", "inception_v3", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "resnet18",
    "resnext50_32x4d", "shufflenet_v2_swish", "shufflenet_v2_x0_25", "squeezenet1_1",
)  # fmt: skip
SLOW = (
    "alexnet", "densenet161", "densenet169", "densenet201", "densenet264", "googlenet", "mobilenet_v3_large",
    "resnet34", "resnet50", "resnet101", "resnet152", "resnext101_32x4d", "resnext101_64x4d", "resnext152_32x4d",
    "resnext152_64x4d", "resnext50_64x4d", "shufflenet_v2_x0_33", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "squeezenet1_0", "vgg11", "vgg13", "vgg16", "vgg19",
    "wide_resnet50_2", "wide_resnet101_2",
)  # fmt: skip
SIDES = {"LeNet": 28, "alexnet": 224, "googlenet": 224, "inception_v3": 75}

#: PP-OCR's models with their trained weights, and a shape that each takes.
OCR = {
    "ch_ppocr_mobile_v2_cls_infer": (2, 3, 48, 96),
    "ch_PP-OCRv4_det_infer": (1, 3, 64, 96),
    "ch_PP-OCRv4_rec_infer": (2, 3, 48, 96),
}


@dataclass
class Network:
    """A model and an input for it.

    Attributes:
        model: it.
        feed: one batch.
        watch: what is compared: the results, and what a last softmax or sigmoid is computed from.
        logits: result of a last softmax or sigmoid -> what it is computed from.
    """

    model: Model
    feed: Dict[str, np.ndarray]
    watch: Tuple[str, ...]
    logits: Dict[str, str] = field(default_factory=dict)

    def run(self, model: Model) -> List[np.ndarray]:
        return model.run(self.feed, fetch=self.watch)


def _network(model: Model, feed: Dict[str, np.ndarray]) -> Network:
    makers = {name: op for op in model.program.global_block().ops for name in op.output_arg_names}
    logits: Dict[str, str] = {}
    for fetch in model.fetches:
        name, op = fetch, makers.get(fetch)
        while op is not None and op.type in ("softmax", "sigmoid", "scale", "assign"):
            name = op.input("X")[0]
            if op.type in ("softmax", "sigmoid"):
                logits[fetch] = name
            op = makers.get(name)
    return Network(model, feed, tuple(dict.fromkeys([*model.fetches, *logits.values()])), logits)


def _normalize(layer: nn.Layer, _: Any, output: Any) -> Any:
    """Scales a layer's weight and bias so that what it gives has a standard deviation of 1."""
    size = float(output.std())
    for parameter in (layer.weight, layer.bias):
        if parameter is not None:
            parameter.set_value(parameter / size)
    return output / size


def _measure(layer: nn.Layer, inputs: Any) -> None:
    """Gives a batch norm the statistics of its input.

    The variance of a channel that is dead on this input would be 0, and blow up the errors of summation.
    """
    array = inputs[0].numpy()
    layout = getattr(layer, "_data_format", "NCHW")
    channels = array.ndim - 1 if layout.endswith("C") and array.ndim > 2 else 1
    axes = tuple(axis for axis in range(array.ndim) if axis != channels)
    variance = array.var(axes)
    layer._mean.set_value(array.mean(axes))
    layer._variance.set_value(np.maximum(variance, 0.1 * np.median(variance) + 1e-3))


def enliven(net: nn.Layer, inputs: Sequence[Any], seed: int = 0) -> nn.Layer:
    """Gives a network random weights that keep signals of size 1 at every depth; leaves it in eval mode.

    Biases, scales and shifts of batch norm are random; its mean and variance are those of ``inputs``. Layers without
    batch norm are scaled one after the other (Mishkin and Matas 2016, arXiv:1511.06422).
    """
    rng = np.random.RandomState(seed)
    net.eval()
    hooks = []
    for layer in net.sublayers(include_self=True):
        if isinstance(layer, (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm)):
            layer.weight.set_value(rng.uniform(0.5, 1.5, layer.weight.shape).astype("float32"))
            layer.bias.set_value((0.5 * rng.randn(*layer.bias.shape)).astype("float32"))
            hooks.append(layer.register_forward_pre_hook(_measure))
        elif hasattr(layer, "weight") and hasattr(layer, "bias") and isinstance(layer.weight, paddle.Tensor):
            if layer.bias is not None:
                layer.bias.set_value((0.3 * rng.randn(*layer.bias.shape)).astype("float32"))
            if len(layer.weight.shape) > 1 and not isinstance(layer, nn.Embedding):
                hooks.append(layer.register_forward_post_hook(_normalize))
    with paddle.no_grad():
        net(*inputs)
    for hook in hooks:
        hook.remove()
    return net


class WithLoss(nn.Layer):
    """A network and its cross entropy."""

    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any, y: Any) -> Any:
        found = self.network(x)
        return found, F.cross_entropy(found, y)


def layer_network(make: Callable[[], nn.Layer], shape: Sequence[int], declared: Sequence[int] = ()) -> Network:
    """A layer of one image-like input, enlivened and traced.

    Args:
        make: builds it.
        shape: of the input that it is compared on.
        declared: of the program's input; default: any batch size.
    """
    paddle.seed(1)
    rng = np.random.RandomState(0)
    warm = rng.randn(max(8, shape[0]), *shape[1:]).astype("float32")
    net = enliven(make(), [paddle.to_tensor(warm)])
    model = Model.from_layer(net, [InputSpec(list(declared) or [-1, *shape[1:]], "float32", "x")])
    return _network(model, {"x": warm[: shape[0]]})


def classifier(name: str, side: int = 0) -> Network:
    """A network of ``paddle.vision.models`` for ten classes."""
    side = side or SIDES.get(name, 32)
    shape = (2, 1 if name == "LeNet" else 3, side, side)
    return layer_network(lambda: getattr(zoo, name)(num_classes=10), shape)


def ocr(folder: Path) -> Network:
    """One of :data:`OCR`, with its trained weights."""
    model = Model.load(folder)
    feed = np.random.RandomState(0).uniform(-1, 1, OCR[folder.name]).astype("float32")
    return _network(model, {model.feeds[0]: feed})
