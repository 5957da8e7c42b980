"""The networks a config can name, with their training loss, and their weights.

A new network is one row of :data:`NETWORKS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Sequence, Tuple, Union

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.vision import models

from slimkit.errors import ConfigError, nearest
from slimkit.recipe import cifar_resnet

__all__ = ["NETWORKS", "TrainingNetwork", "build", "input_spec"]


@dataclass(frozen=True)
class _Row:
    """A network: how it is made, and whether its constructor takes ``scale``."""

    make: Callable[..., nn.Layer]
    scales: bool = False


NETWORKS: Dict[str, _Row] = {
    "alexnet": _Row(models.alexnet),
    "densenet121": _Row(models.densenet121),
    "mobilenet_v1": _Row(models.mobilenet_v1, scales=True),
    "mobilenet_v2": _Row(models.mobilenet_v2, scales=True),
    "mobilenet_v3_large": _Row(models.mobilenet_v3_large, scales=True),
    "mobilenet_v3_small": _Row(models.mobilenet_v3_small, scales=True),
    "resnet18": _Row(models.resnet18),
    "resnet20": _Row(cifar_resnet.resnet20, scales=True),
    "resnet32": _Row(cifar_resnet.resnet32, scales=True),
    "resnet34": _Row(models.resnet34),
    "resnet50": _Row(models.resnet50),
    "resnet56": _Row(cifar_resnet.resnet56, scales=True),
    "shufflenet_v2_x1_0": _Row(models.shufflenet_v2_x1_0),
    "squeezenet1_1": _Row(models.squeezenet1_1),
    "vgg11": _Row(models.vgg11),
}


class TrainingNetwork(nn.Layer):
    """A classifier with its loss: cross entropy, with label smoothing (arXiv:1512.00567, section 7).

    ``loss = (1 - e) * CE(label) + e * mean over classes of CE(class)``
    """

    def __init__(self, backbone: nn.Layer, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.label_smoothing = label_smoothing

    def forward(self, image: paddle.Tensor, label: paddle.Tensor) -> Tuple[paddle.Tensor, paddle.Tensor]:
        """
        Args:
            image: float32 (N, 3, H, W).
            label: int64 (N, 1).

        Returns:
            The logits, (N, classes), and the mean loss, a scalar.
        """
        logits = self.backbone(image)
        loss = F.cross_entropy(logits, label, reduction="none").mean()
        if self.label_smoothing:
            uniform = -F.log_softmax(logits, axis=1).mean()
            loss = loss * (1.0 - self.label_smoothing) + uniform * self.label_smoothing
        return logits, loss


def build(name: str, *, num_classes: int, scale: float = 1.0, label_smoothing: float = 0.0) -> TrainingNetwork:
    """Makes a network of the table, with random weights (seed them with ``paddle.seed``).

    Args:
        name: a key of :data:`NETWORKS`.
        num_classes: outputs.
        scale: width multiplier; only some networks have one.
        label_smoothing: of the loss.

    Raises:
        ConfigError: unknown name, or a ``scale`` the network does not have.
    """
    row = NETWORKS.get(name)
    if row is None:
        close = nearest(name, NETWORKS)
        hint = f"did you mean {close}?" if close else f"the networks are {', '.join(NETWORKS)}."
        raise ConfigError(f"network.name is {name!r}, which is not a network of slimkit; {hint}")
    if not row.scales and scale != 1.0:
        wide = ", ".join(key for key, other in NETWORKS.items() if other.scales)
        raise ConfigError(f"network.scale is {scale}, but {name} has no width multiplier; {wide} have one.")
    arguments = {"scale": scale} if row.scales else {}
    return TrainingNetwork(row.make(num_classes=num_classes, **arguments), label_smoothing)


def input_spec(image_size: Union[int, Sequence[int]]) -> List[paddle.static.InputSpec]:
    """Returns the specs of ``image`` and ``label`` to trace a :class:`TrainingNetwork` with.

    Args:
        image_size: one side, or (height, width).
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    return [
        paddle.static.InputSpec([-1, 3, height, width], "float32", "image"),
        paddle.static.InputSpec([-1, 1], "int64", "label"),
    ]
