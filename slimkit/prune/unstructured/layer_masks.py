"""Masks held in the layers of a dygraph model, where its checkpoints take them along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, Tuple

import paddle
from paddle.nn.layer import norm

__all__ = ["Hold", "LayerWeight", "attach", "is_norm", "layer_parameters", "mask_quickly", "mask_weight"]

#: Layers whose parameters are not pruned; classes derived from them are meant too.
NORMS: Tuple[type, ...] = (
    norm._BatchNormBase,
    norm._InstanceNormBase,
    norm.BatchNorm,
    norm.GroupNorm,
    norm.LayerNorm,
    norm.LocalResponseNorm,
    norm.SpectralNorm,
)
#: What a weight's mask is called in its layer: the weight's own name in the layer, and this.
SUFFIX = "_sparsity_mask"
Mask = Callable[[Any, Any], None]


def is_norm(layer: Any) -> bool:
    """Whether a layer normalizes."""
    return isinstance(layer, NORMS)


@dataclass(frozen=True)
class LayerWeight:
    """One parameter of one layer.

    Attributes:
        layer: it holds the parameter, and its mask as a buffer.
        key: the parameter's name in the layer, such as ``weight``.
    """

    layer: Any
    key: str

    @property
    def parameter(self) -> Any:
        return self.layer._parameters[self.key]

    @property
    def mask(self) -> Any:
        return self.layer._buffers[self.key + SUFFIX]


def layer_parameters(model: Any) -> Iterator[LayerWeight]:
    """Every parameter of a model once, with the first layer that holds it."""
    seen = set()
    for _, layer in model.named_sublayers(include_self=True):
        for key, parameter in layer._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                yield LayerWeight(layer, key)


@paddle.no_grad()
def mask_weight(parameter: Any, mask: Any) -> None:
    """Sets the weights to zero that their mask does not keep.

    A weight stays where its mask exceeds 1/2: then the average of masks over time (EMA of a checkpoint) is one too.
    """
    kept = mask if mask.dtype == paddle.bool else mask > 0.5
    zero = paddle.zeros([], parameter.dtype)  # a product would leave -0.0, which compressed files pay for
    paddle.assign(paddle.where(kept, parameter, zero), output=parameter)


@paddle.no_grad()
def mask_quickly(parameter: Any, mask: Any) -> None:
    """The same for a mask known to be ones and zeros, in a fraction of the time; zeros may be -0.0."""
    if mask.dtype == parameter.dtype:
        parameter.multiply_(mask)
    else:
        mask_weight(parameter, mask)


class Hold:
    """Keeps the masked weights of one layer at zero, before its forward and when its state is asked for.

    It refers to the layer alone, so a deep copy of a model holds its own masks. While a model is traced it does
    nothing: traced programs get the weights as they are.

    Attributes:
        keys: the weights' names in the layer.
        fresh: the pruner has just masked them; a forward pass in training does not do it once more.
    """

    def __init__(self, layer: Any, mask: Mask) -> None:
        self.layer = layer
        self.mask = mask
        self.keys: List[str] = []
        self.fresh = False

    def __call__(self, *_: Any) -> None:
        """Before a forward pass."""
        if self.fresh and self.layer.training:
            self.fresh = False
        else:
            self.apply()

    def before_saving(self, _: Any) -> None:
        self.apply()

    def apply(self) -> None:
        if paddle.in_dynamic_mode():
            for key in self.keys:
                self.mask(self.layer._parameters[key], self.layer._buffers[key + SUFFIX])


def attach(weights: List[LayerWeight], mask: Mask) -> List[Hold]:
    """Gives every weight a mask of ones, unless it has one, and holds them from now on.

    Args:
        weights: what is pruned.
        mask: sets a parameter's masked weights to zero.
    """
    holds: List[Hold] = []
    for weight in weights:
        layer, parameter = weight.layer, weight.parameter
        if weight.key + SUFFIX not in layer._buffers:
            layer.register_buffer(weight.key + SUFFIX, paddle.ones(parameter.shape, dtype="float32"))
        hold = _hold_of(layer, mask)
        if weight.key not in hold.keys:
            hold.keys.append(weight.key)
        if hold not in holds:
            holds.append(hold)
    return holds


def _hold_of(layer: Any, mask: Mask) -> Hold:
    held = next((hook for hook in layer._forward_pre_hooks.values() if isinstance(hook, Hold)), None)
    if held is None:
        held = Hold(layer, mask)
        layer.register_forward_pre_hook(held)
        layer.register_state_dict_hook(held.before_saving)
    held.mask = mask
    return held
