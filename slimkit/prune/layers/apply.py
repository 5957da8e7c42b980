"""Making channels of a layer go where they are: physically, or by zeros in their place."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

import numpy as np
import paddle
from paddle import nn

from slimkit.errors import ModelError
from slimkit.prune.layers.attributes import changed_attributes
from slimkit.prune.layers.optimizers import optimizers_of, state_of
from slimkit.prune.layers.tensors import LayerTensors, Undo, drop_gradient, forget_programs, without
from slimkit.prune.plan import Plan

__all__ = ["mask_layer", "prune_layer", "shrink"]

Slices = Mapping[str, Mapping[int, np.ndarray]]


def prune_layer(layer: nn.Layer, plan: Plan, optimizers: Any = None) -> Undo:
    """Removes a plan's channels from a layer, in place.

    Parameters and buffers get smaller and stay the same objects under the same names, so an optimizer that holds them
    goes on; gradients are cleared; attributes such as ``_groups`` follow by the table ``LAYER_ATTRIBUTES``; programs
    that ``to_static`` made are made anew.

    Args:
        layer: it; of one process inside ``DataParallel`` too, of several before it is wrapped.
        plan: made from ``LayerNetwork(layer, ...).groups``.
        optimizers: an optimizer or several that have made steps already: what they keep of a parameter (velocity,
            moments, master weight) shrinks as it does, the values that stay unchanged. One that has made none, or is
            made later, need not be given.

    Returns:
        What gives the layer and the optimizers back what they had, when called.

    Raises:
        ModelError: the plan does not fit the layer, which then stays as it was; or it is in ``DataParallel``.
    """
    if getattr(layer, "_reducer", None) is not None:
        raise ModelError(
            "DataParallel reduces gradients of the sizes that it was made with, so a layer cannot be pruned inside it "
            "when there are several processes; prune the layer, the same in each, and wrap it then."
        )
    undo = Undo(layer)
    try:
        with paddle.no_grad():
            shrink(layer, plan.slices(), optimizers, undo)
    except BaseException:
        undo()
        raise
    for tensor, _ in undo.tensors:
        drop_gradient(tensor)
    return undo


def shrink(layer: nn.Layer, slices: Slices, optimizers: Any, undo: Undo) -> None:
    """Does the work of :func:`prune_layer`; gradients stay as they are."""
    tensors = LayerTensors(layer)
    before: Dict[str, Tuple[int, ...]] = {}
    for name, axes in slices.items():
        tensor = tensors.variable(name)
        _check(tensor, axes)
        if any(len(indices) for indices in axes.values()):
            before[name] = tuple(tensor.shape)
    for optimizer in optimizers_of(optimizers):
        for name, shape in before.items():
            for state in state_of(optimizer, name, shape):
                undo.replace(state, without(state, slices[name]))
    for name in before:
        tensor = tensors.variable(name)
        undo.replace(tensor, without(tensor, slices[name]))
    for part in layer.sublayers(include_self=True):
        for attribute, value in changed_attributes(part, before).items():
            undo.set(part, attribute, value)
    forget_programs(layer)


def _check(tensor: paddle.Tensor, axes: Mapping[int, np.ndarray]) -> None:
    for axis, indices in axes.items():
        if len(indices) and (axis >= tensor.ndim or indices[-1] >= tensor.shape[axis]):
            raise ModelError(
                f"'{tensor.name}' of shape {list(tensor.shape)} has no index {int(indices[-1])} on axis {axis}; it was "
                "pruned already, so make a new plan of the layer as it is now."
            )


def mask_layer(layer: nn.Layer, plan: Plan) -> Undo:
    """Sets whatever a plan would remove to zero, in place; the layer then computes what the pruned one would.

    Returns:
        What gives the layer its values back, when called.

    Raises:
        ModelError: the plan does not fit the layer, which then stays as it was.
    """
    undo = Undo(layer)
    tensors = LayerTensors(layer)
    slices = plan.zeros()
    for name, axes in slices.items():
        _check(tensors.variable(name), axes)
    with paddle.no_grad():
        for name, axes in slices.items():
            tensor = tensors.variable(name)
            masked = tensor.detach()
            for axis, indices in axes.items():
                if len(indices):
                    keep = np.ones(tensor.shape[axis], np.float32)
                    keep[indices] = 0
                    mask = paddle.to_tensor(keep, place=tensor.place).astype(tensor.dtype)
                    masked = masked * mask.reshape([-1 if i == axis else 1 for i in range(tensor.ndim)])
            undo.replace(tensor, masked.clone())
    return undo
