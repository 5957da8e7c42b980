"""When Paddle Inference's oneDNN int8 path gains from an op's integers: the conditions of the row "paddle" of
``CAPABILITIES``. Each says why not, or None. Measured on Paddle 3.3.1; see docs/runtimes.md.
"""

from __future__ import annotations

from typing import Optional, Tuple

from slimkit.ir.graph import GraphOp, GraphVar
from slimkit.quant.ops import WEIGHT_OPS

__all__ = [
    "both_computed",
    "no_matrix_of_rows",
    "not_a_residual",
    "not_behind_a_residual",
    "one_pixel",
    "residual_slots",
]

#: Numbers of a weight above which integers pay even for a single pixel. Below, quantizing the pixel costs more than the
#: product: each op of the legacy executor takes about 25 us, the float product of 512 x 512 numbers as long.
WORTHWHILE = 1 << 18

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
_PIXELWISE = (
    *("conv2d", "batch_norm", "relu", "relu6", "hard_swish", "hard_sigmoid", "sigmoid", "swish", "leaky_relu", "scale"),
    *("flatten_contiguous_range", "flatten2", "reshape2", "squeeze2", "dropout", "assign"),
)
_ACTIVATIONS = ("relu", "relu6", "leaky_relu", "hard_swish", "swish", "sigmoid", "hard_sigmoid", "mish", "gelu")


def one_pixel(op: GraphOp) -> Optional[str]:
    """Small products behind a global average pool, as in squeeze-and-excitation blocks."""
    row = WEIGHT_OPS.get(op.type)
    if row is None:
        return None
    x, weight = op.input_var(row.activation), op.input_var(row.weight)
    if x is None or weight is None or _size(weight) > WORTHWHILE or not _is_one_pixel(x):
        return None
    return "its input is one pixel (a global average), and quantizing that takes longer than the product"


def no_matrix_of_rows(op: GraphOp) -> Optional[str]:
    """Products that LegalizeOnednn cannot write as a convolution; Paddle reads their int8 weight scales wrongly."""
    if op.type not in ("mul", "matmul", "matmul_v2"):
        return None
    x = op.input_var("X")
    if x is not None and len(x.shape) == 2 and not op.attr("trans_x", False) and not op.attr("transpose_X", False):
        return None
    return "Paddle's oneDNN int8 reads the weight scales of a product over more than rows along the wrong axis"


def both_computed(op: GraphOp) -> Optional[str]:
    """Products of two activations, as in attention."""
    y = op.input_var("Y") if op.type in ("mul", "matmul", "matmul_v2") else None
    if y is None or y.persistable:
        return None
    return "both its inputs are computed: the products of attention are small, and integers cost more than they save"


def not_a_residual(op: GraphOp) -> Optional[str]:
    """Adds run in integers only as a part of the convolution before them."""
    if op.type == "elementwise_add" and not residual_slots(op):
        return "it is no residual add that the runtime joins with a convolution, and alone it runs in float"
    return None


def not_behind_a_residual(op: GraphOp) -> Optional[str]:
    """An average pool is computed in float, but the residual add before it needs a grid for its result."""
    if op.type != "pool2d":
        return None
    x = op.input_var("X")
    producer = x.producer if x is not None else None
    if producer is not None and producer.type in ("relu", "relu6"):
        x = producer.input_var("X")
        producer = x.producer if x is not None else None
    average = op.attr("pooling_type") == "avg"
    if average and producer is not None and producer.type == "elementwise_add" and residual_slots(producer):
        return None
    return "pooling moves no more than it reads, and runs as it comes"


def residual_slots(op: GraphOp) -> Tuple[str, ...]:
    """The slot of a residual add that is not the convolution it is joined with; none for other adds."""
    x, y = op.input_var("X"), op.input_var("Y")
    if op.type != "elementwise_add" or x is None or y is None or x is y or x.persistable or y.persistable:
        return ()
    if len(x.shape) != 4 or len(y.shape) != 4 or tuple(x.shape[1:]) != tuple(y.shape[1:]):
        return ()
    if not any(_on_grid_after(op)):
        return ()
    for mine, other in (("X", "Y"), ("Y", "X")):
        var = op.input_var(mine)
        if var is not None and len(var.consumers) == 1 and _convolution_behind(var) is not None:
            return (other,)
    return ()


def _on_grid_after(add: GraphOp):
    """Whether the sum, behind its activation, is read by an op that puts it on a grid."""
    out = add.output_var("Out")
    if out is not None and len(out.consumers) == 1 and out.consumers[0].type in _ACTIVATIONS:
        out = out.consumers[0].output_var("Out")
    for reader in out.consumers if out is not None else ():
        yield reader.type in _CONVOLUTIONS or (reader.type == "pool2d" and reader.attr("pooling_type") == "avg")


def _convolution_behind(var: GraphVar) -> Optional[GraphOp]:
    """The convolution whose result, with batch norm and bias, a tensor is."""
    op = var.producer
    while op is not None and (op.type == "batch_norm" or _is_bias(op)):
        x = op.input_var("X")
        if x is None or len(x.consumers) != 1:
            return None
        op = x.producer
    return op if op is not None and op.type in _CONVOLUTIONS else None


def _is_bias(op: GraphOp) -> bool:
    y = op.input_var("Y")
    return op.type == "elementwise_add" and y is not None and y.persistable


def _is_one_pixel(var: GraphVar) -> bool:
    op = var.producer
    while op is not None:
        if op.type == "pool2d":
            whole = op.attr("adaptive", False) and list(op.attr("ksize", [])) == [1, 1]
            return bool(op.attr("pooling_type") == "avg" and (whole or op.attr("global_pooling", False)))
        if op.type not in _PIXELWISE and not _is_bias(op):
            return False
        x = op.input_var("Input" if op.type == "conv2d" else "X")
        op = x.producer if x is not None else None
    return False


def _size(var: GraphVar) -> int:
    size = 1
    for side in var.shape:
        size *= side
    return size
