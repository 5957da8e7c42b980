"""What layers remember of their parameters' sizes: one row a Layer class."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import paddle
from paddle import nn
from paddle.nn.layer.conv import _ConvNd
from paddle.nn.layer.norm import _BatchNormBase, _InstanceNormBase

__all__ = ["LAYER_ATTRIBUTES", "changed_attributes"]

#: Name of a parameter or buffer -> its shape before.
Before = Mapping[str, Tuple[int, ...]]
Row = Callable[[nn.Layer, Before], Dict[str, Any]]


def _scale(
    layer: nn.Layer, attribute: str, tensor: Optional[paddle.Tensor], axis: int, before: Before
) -> Dict[str, Any]:
    """An attribute that grows and shrinks with an axis of a parameter."""
    value = getattr(layer, attribute, None)
    if tensor is None or tensor.name not in before or not isinstance(value, int):
        return {}
    return {attribute: value * tensor.shape[axis] // before[tensor.name][axis]}


def _convolution(layer: nn.Layer, before: Before) -> Dict[str, Any]:
    weight = layer.weight
    if weight.name not in before:
        return {}
    shape, groups = before[weight.name], layer._groups
    transposed = getattr(layer, "_transposed", False)
    if groups > 1 and shape[1] == 1 and (not transposed or shape[0] == groups):  # depthwise: a group a channel
        names = dict.fromkeys(("_groups", "_in_channels", "_out_channels"), 0)
    else:
        names = {"_out_channels": int(transposed), "_in_channels": 1 - int(transposed)}
    found: Dict[str, Any] = {}
    for name, axis in names.items():
        found.update(_scale(layer, name, weight, axis, before))
    return found


def _sized(attribute: str, axis: int = 0) -> Row:
    """A layer that counts the channels of its own parameters and buffers along one axis."""

    def row(layer: nn.Layer, before: Before) -> Dict[str, Any]:
        own = [*layer.parameters(include_sublayers=False), *layer.buffers(include_sublayers=False)]
        changed = next((tensor for tensor in own if tensor.name in before), None)
        return _scale(layer, attribute, changed, axis, before)

    return row


def _layer_norm(layer: nn.Layer, before: Before) -> Dict[str, Any]:
    own = layer.parameters(include_sublayers=False)
    changed = next((tensor for tensor in own if tensor.name in before), None)
    return {} if changed is None else {"_normalized_shape": list(changed.shape)}


def _embedding(layer: nn.Layer, before: Before) -> Dict[str, Any]:
    found = _scale(layer, "_embedding_dim", layer.weight, 1, before)
    return {**found, "_size": list(layer.weight.shape)} if found else {}


def _attention(layer: nn.Layer, before: Before) -> Dict[str, Any]:
    return _scale(layer, "num_heads", layer.q_proj.weight, 1, before)


def _nothing(layer: nn.Layer, before: Before) -> Dict[str, Any]:
    return {}


#: Layer class (its subclasses have the same row, unless they have their own) -> the attributes that follow when its
#: parameters shrink. A class that is not here is pruned too, after a trial; its code may count channels by itself.
LAYER_ATTRIBUTES: Dict[type, Row] = {
    _ConvNd: _convolution,
    paddle.vision.ops.DeformConv2D: _convolution,
    _BatchNormBase: _sized("_num_features"),
    nn.BatchNorm: _nothing,
    _InstanceNormBase: _sized("_num_features"),
    nn.LayerNorm: _layer_norm,
    nn.PReLU: _sized("_num_parameters"),
    nn.Linear: _nothing,
    nn.Embedding: _embedding,
    nn.MultiHeadAttention: _attention,
}


def row_of(layer: nn.Layer) -> Optional[Row]:
    """The row of a layer's class, or of the nearest class it is derived from."""
    return next((LAYER_ATTRIBUTES[kind] for kind in type(layer).__mro__ if kind in LAYER_ATTRIBUTES), None)


def changed_attributes(layer: nn.Layer, before: Before) -> Dict[str, Any]:
    """The attributes of one layer that follow.

    Args:
        layer: whose parameters have their new shapes.
        before: the former shapes of those that changed.

    Returns:
        Attribute -> new value.
    """
    row = row_of(layer)
    return {} if row is None else row(layer, before)
