"""Folding batch norms into convolutions of a dygraph network, for ``fuse_conv_bn``."""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from typing import List, Optional, Sequence, Tuple

import numpy as np
import paddle
from paddle import nn

from slimkit.errors import ConfigError
from slimkit.quant.layers.wrapping import named_places

__all__ = ["conv_bn_pairs", "fuse_conv_bn"]

_NORMS = (nn.BatchNorm2D, nn.BatchNorm, nn.SyncBatchNorm)


def conv_bn_pairs(model: nn.Layer) -> List[Tuple[str, str]]:
    """Paths of convolutions and of the batch norms registered right behind them in the same layer, of as many channels.

    Layers do not say in which order ``forward`` calls them; as in Paddle, the order of registration is taken for it.
    """
    pairs: List[Tuple[str, str]] = []
    places = list(named_places(model))
    counts = [id(layer) for _, _, _, layer in places]
    by_parent: dict = {}
    for path, parent, _, layer in places:
        by_parent.setdefault(id(parent), []).append((path, layer))
    for children in by_parent.values():
        for (first, conv), (second, norm) in zip(children, children[1:]):
            shared = counts.count(id(conv)) > 1 or counts.count(id(norm)) > 1
            if type(conv) is nn.Conv2D and isinstance(norm, _NORMS) and not shared and _fits(conv, norm):
                pairs.append((first, second))
    return pairs


def fuse_conv_bn(model: nn.Layer, pairs: Optional[Sequence[Sequence[str]]] = None) -> List[Tuple[str, str]]:
    """Folds batch norms into the convolutions before them; an ``Identity`` takes a batch norm's place.

    Args:
        model: the network, changed in place.
        pairs: [[path of the convolution, path of its batch norm], ...]; None: :func:`conv_bn_pairs`.

    Returns:
        What was folded.

    Raises:
        ConfigError: a path that is not there, or a pair that cannot be folded.
    """
    layers = {path: (parent, name, layer) for path, parent, name, layer in named_places(model)}
    chosen = conv_bn_pairs(model) if pairs is None else [(str(a), str(b)) for a, b in pairs]
    for first, second in chosen:
        for path in (first, second):
            if path not in layers:
                raise ConfigError(f"fuse_list names '{path}', which the network does not have; take sublayers' paths.")
        conv, (parent, name, norm) = layers[first][2], layers[second]
        if not isinstance(conv, nn.Conv2D) or not isinstance(norm, _NORMS) or not _fits(conv, norm):
            raise ConfigError(
                f"fuse_list pairs '{first}' ({type(conv).__name__}) with '{second}' ({type(norm).__name__}); a pair is "
                "a Conv2D and the batch norm of its output channels."
            )
        _fold(conv, norm)
        parent._sub_layers[name] = nn.Identity()
    return chosen


def _fits(conv: nn.Layer, norm: nn.Layer) -> bool:
    return int(conv.weight.shape[0]) == int(norm._mean.shape[0])


def _fold(conv: nn.Layer, norm: nn.Layer) -> None:
    """W' = W g/s per output channel, b' = (b - m) g/s + beta, with s = sqrt(var + eps); computed in float64."""
    values = [np.asarray(v.numpy(), np.float64) for v in (norm.weight, norm.bias, norm._mean, norm._variance)]
    gamma, beta, mean, variance = values
    factor = gamma / np.sqrt(variance + norm._epsilon)
    weight = np.asarray(conv.weight.numpy(), np.float64) * factor.reshape(-1, 1, 1, 1)
    bias = np.asarray(conv.bias.numpy(), np.float64) if conv.bias is not None else 0.0
    conv.weight.set_value(weight.astype(np.float32))
    folded = ((bias - mean) * factor + beta).astype(np.float32)
    if conv.bias is None:
        initial = paddle.nn.initializer.Assign(folded)
        conv.bias = conv.create_parameter(shape=[len(folded)], is_bias=True, default_initializer=initial)
    else:
        conv.bias.set_value(folded)
