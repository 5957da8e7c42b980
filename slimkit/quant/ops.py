"""Which ops can be quantized, and through which slots: one row an op.

The op types and slots are those of PaddleSlim 2.6 (``paddle.static.quantization.quant_config``), the output axis
of a weight is where its scales differ (Krishnamoorthi 2018, section 3.1.2: per-channel = per output channel).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

__all__ = [
    "ACTIVATION_OPS",
    "FLOAT_ONLY",
    "TENSORRT_OPS",
    "WEIGHT_OPS",
    "ActivationOp",
    "WeightOp",
    "weight_axis",
]


@dataclass(frozen=True)
class WeightOp:
    """An op with a weight: its activation slot, weight slot, output slot and the weight's output-channel axis.

    ``axis`` counts from the front of the weight's shape; ``transposed_axis`` holds when ``trans_y``/``transpose_Y``.
    """

    activation: str
    weight: str
    output: str
    axis: int
    transposed_axis: int = -1


@dataclass(frozen=True)
class ActivationOp:
    """An op with activations only: the slots to quantize and its output slot."""

    inputs: Tuple[str, ...]
    output: str = "Out"


WEIGHT_OPS: Dict[str, WeightOp] = {
    "conv2d": WeightOp("Input", "Filter", "Output", axis=0),
    "depthwise_conv2d": WeightOp("Input", "Filter", "Output", axis=0),
    "conv2d_transpose": WeightOp("Input", "Filter", "Output", axis=1),
    "mul": WeightOp("X", "Y", "Out", axis=1),
    "matmul": WeightOp("X", "Y", "Out", axis=1, transposed_axis=0),
    "matmul_v2": WeightOp("X", "Y", "Out", axis=1, transposed_axis=0),
}

_UNARY = (
    "pool2d concat softmax argmax transpose gather mean reshape reshape2 transpose2 nearest_interp trilinear_interp "
    "squeeze relu relu6 leaky_relu tanh swish dropout sigmoid hard_swish hard_sigmoid pad2d pad3d flatten flatten2 "
    "unsqueeze2 flatten_contiguous_range split squeeze2 nearest_interp_v2 bilinear_interp bilinear_interp_v2 arg_max "
    "abs assign cast clip crop cumsum expand_v2 fill_any_like gelu norm p_norm pow reduce_mean stack top_k_v2 "
    "logical_not meshgrid tile reduce_sum square softplus shuffle_channel reduce_max scale"
)
_BINARY = (
    "elementwise_add elementwise_sub elementwise_mul elementwise_pow equal not_equal greater_equal greater_than "
    "less_equal less_than logical_and"
)

ACTIVATION_OPS: Dict[str, ActivationOp] = {
    **{name: ActivationOp(("X",)) for name in _UNARY.split()},
    **{name: ActivationOp(("X", "Y")) for name in _BINARY.split()},
    "mul": ActivationOp(("X", "Y")),
    "matmul": ActivationOp(("X", "Y")),
    "matmul_v2": ActivationOp(("X", "Y")),
    "slice": ActivationOp(("Input",)),
    "strided_slice": ActivationOp(("Input",)),
    "prelu": ActivationOp(("X",)),
    "batch_norm": ActivationOp(("X",), "Y"),
    "layer_norm": ActivationOp(("X",), "Y"),
    "instance_norm": ActivationOp(("X",), "Y"),
    "group_norm": ActivationOp(("X",), "Y"),
    "gru": ActivationOp(("Input",), "Hidden"),
    "lstm": ActivationOp(("Input",), "Hidden"),
    "box_coder": ActivationOp(("PriorBox",), "OutputBox"),
    "fill_constant_batch_size_like": ActivationOp(("Input",)),
    "fill_constant": ActivationOp(()),
    "lookup_table": ActivationOp(("W",)),
    "lookup_table_v2": ActivationOp(("W",)),
    "roi_align": ActivationOp(("X",)),
    "where": ActivationOp(("X", "Y")),
    "grid_sampler": ActivationOp(("X", "Grid"), "Output"),
}

TENSORRT_OPS: Tuple[str, ...] = (
    "mul",
    "conv2d",
    "pool2d",
    "depthwise_conv2d",
    "elementwise_add",
    "leaky_relu",
)

#: Reasons an op of a quantizable type has to stay float, by cause.
FLOAT_ONLY: Dict[str, str] = {
    "no_weight": "its second input is computed, not a weight",
    "no_matrix": "its weight is no matrix (2 dimensions), so it has no output channels to quantize",
    "not_float": "the tensor is not float32",
    "rule": "skipped by a rule of the config",
    "scope": "its name scope matches not_quant_pattern",
}


def weight_axis(op_type: str, transposed: bool = False) -> int:
    """The axis of a weight along which per-channel scales lie.

    Args:
        op_type: a key of ``WEIGHT_OPS``.
        transposed: the op reads its weight transposed (``trans_y`` of matmul_v2, ``transpose_Y`` of matmul).
    """
    row = WEIGHT_OPS[op_type]
    return row.transposed_axis if transposed and row.transposed_axis >= 0 else row.axis
