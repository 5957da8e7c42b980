"""PaddleSlim's ``flops`` and ``dygraph_flops``."""

from __future__ import annotations

from math import prod
from typing import Any, Dict, Optional, Sequence, Tuple, Union

from paddle import nn

from slimkit.analysis.complexity import count_model
from slimkit.analysis.op_view import OpView
from slimkit.analysis.shapes import InputShapes
from slimkit.analysis.sources import layer_model, model_of
from slimkit.ir import Model

__all__ = ["dygraph_flops", "flops"]

Counted = Union[int, Tuple[int, Dict[str, int]]]
_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")


def flops(
    model: Any,
    inputs: Any = None,
    dtypes: Optional[Union[str, Sequence[str]]] = None,
    only_conv: bool = True,
    detail: bool = False,
) -> Counted:
    """Counts what PaddleSlim calls FLOPs: **multiply-accumulates**, so that published figures compare.

    MobileNetV1 at 224 x 224 has 569 million. For floating-point operations, twice as many and more, see
    :func:`slimkit.analysis.complexity`, which tells both apart.

    Where PaddleSlim is right the number is PaddleSlim's. It differs where PaddleSlim is wrong: feeds of dynamic shape
    (there negative numbers), products of tensors with more than two dimensions, transposed, deformable and 3-D
    convolutions and recurrent layers (there missing), ops of control flow, and convolutions of a batch, which count for
    each image, as fully connected layers do there already.

    Args:
        model: a legacy or PIR program, a Model, the path of a saved model, or a Layer.
        inputs: of a layer, see :func:`dygraph_flops`. Of the others feed name -> shape, a list of shapes in the order
            of the feeds, or one shape; what is not given is as the program declares it, a dynamic batch being 1.
        dtypes: of a layer's input shapes; None: float32.
        only_conv: count only ops with multiply-accumulates; otherwise relu, relu6, sigmoid, batch_norm (twice) and
            the window of average pooling (twice) too, one per element, as PaddleSlim does.
        detail: return the number of each weight as well.

    Returns:
        The count; with ``detail``, the count and a dict of weight name and count (of products of two activations: the
        result's name).

    Raises:
        ConfigError: inputs that do not fit the network's feeds.
        ModelError: a dynamic dimension is not given, or the layer cannot be traced.
    """
    if isinstance(model, nn.Layer):
        return dygraph_flops(model, inputs, dtypes=dtypes, only_conv=only_conv, detail=detail)
    return _count(model_of(model), inputs, None, only_conv, detail)


def dygraph_flops(
    model: nn.Layer,
    inputs: Any,
    dtypes: Optional[Union[str, Sequence[str]]] = None,
    only_conv: bool = False,
    detail: bool = False,
) -> Counted:
    """Counts a layer as :func:`flops` does a program: in **multiply-accumulates**, by PaddleSlim's name FLOPs.

    The layer is traced in eval mode and left as it was.

    Args:
        model: the layer.
        inputs: a shape (``[1, 3, 224, 224]``), a list of shapes, or the list of forward's arguments: tensors, arrays,
            dicts and lists of them, such as PaddleDetection's ``[{image, im_shape, scale_factor}]``.
        dtypes: of shapes; one for all, or one each; None: float32.
        only_conv: see :func:`flops`; here the default is False, as in PaddleSlim.
        detail: see :func:`flops`.

    Raises:
        ConfigError: the inputs are no shapes and no arguments.
        ModelError: the layer cannot be traced with them.
        TranslationError: an op of it has no row in slimkit's table.
    """
    traced, arrays = layer_model(model, inputs, dtypes)
    return _count(traced, None, arrays, only_conv, detail)


def _count(model: Model, shapes: InputShapes, arrays: Any, only_conv: bool, detail: bool) -> Counted:
    found, extras = count_model(model, shapes, arrays, _fused_bias if only_conv else _cheap)
    total = found.macs + sum(extras)
    if not detail:
        return total
    each: Dict[str, int] = {}
    for op, extra in zip(found.ops, extras):
        if op.macs:
            name = op.weight or op.output
            each[name] = each.get(name, 0) + op.macs + extra
    return total, each


def _fused_bias(op: OpView) -> int:
    """A bias that is part of a convolution: PaddleSlim counts one multiply-accumulate per number of the result."""
    return op.size_written() if op.type in _CONVOLUTIONS and op.reads("Bias") else 0


def _cheap(op: OpView) -> int:
    """What PaddleSlim adds with ``only_conv=False``."""
    if op.type in ("relu", "sigmoid", "relu6"):
        return op.size_read()
    if op.type == "batch_norm":
        return 2 * op.size_read()
    if op.type == "pool2d" and op.attr("pooling_type") == "avg":
        return 2 * op.size_written() * prod(op.attr("ksize"))
    return _fused_bias(op)
