"""What an op costs: one row an op type.

A formula gives two numbers: multiply-accumulates, and the floating-point operations that are not part of any. Shapes
are those of one run; positions that a convolution reads from its padding count, as everywhere in the literature.
"""

from __future__ import annotations

from math import prod
from typing import Callable, Dict, FrozenSet, Tuple

from slimkit.analysis.op_view import OpView
from slimkit.errors import ModelError

__all__ = ["FORMULAS", "FREE", "PER_INPUT", "PER_OUTPUT", "QUANTIZERS", "VIEWS", "WEIGHT_SLOTS", "Cost", "cost_of"]

#: (multiply-accumulates, other floating-point operations)
Cost = Tuple[int, int]

# ------------------------------------------------------------------ multiply-accumulates


def _bias(op: OpView, *slots: str) -> int:
    """Additions of a bias that is part of the op."""
    return op.size_written() if op.reads(*(slots or ("Bias",))) else 0


def _conv(op: OpView) -> Cost:
    """Filter [outputs, inputs / groups, *kernel]: each number of the result is a sum over one filter.

    Raises:
        ModelError: the input has another number of channels, which Paddle's shape inference does not see.
    """
    last = op.attr("data_format", "NCHW") in ("NHWC", "NDHWC")
    inputs, needed = op.read("Input", "X")[-1 if last else 1], op.read("Filter")[1] * (op.attr("groups", 1) or 1)
    if inputs != needed:
        raise ModelError(
            f"The {op.type} with the weight '{op.reads('Filter')[0]}' gets {inputs} channels and needs {needed}; give "
            "the network inputs of the shape it was made for."
        )
    return op.size_written() * prod(op.read("Filter")[1:]), _bias(op)


def _conv_transpose(op: OpView) -> Cost:
    """Filter [inputs, outputs / groups, *kernel]: each number of the input is spread over one filter."""
    return op.size_read() * prod(op.read("Filter")[1:]), _bias(op)


def _deformable_conv(op: OpView) -> Cost:
    """A convolution whose taps are sampled bilinearly (7 operations) and weighted by a mask."""
    filters = op.read("Filter")
    inputs, positions = op.read("Input")[1], op.size_written() // filters[0]
    taps = positions * inputs * prod(filters[2:])
    return op.size_written() * prod(filters[1:]), taps * (8 if op.reads("Mask") else 7)


def _matmul(op: OpView) -> Cost:
    """[..., m, k] x [..., k, n], batch dimensions broadcast: each number of the result is a sum of k."""
    x = op.read("X")
    transposed = op.attr("trans_x", op.attr("transpose_X", False)) and len(x) > 1
    scaled = op.attr("alpha", 1.0) not in (None, 1.0)
    return op.size_written() * x[-2 if transposed else -1], op.size_written() if scaled else 0


def _mul(op: OpView) -> Cost:
    return op.size_written() * prod(op.read("Y")[: op.attr("y_num_col_dims", 1)]), 0


def _fc(op: OpView) -> Cost:
    return op.size_written() * op.read("W")[0], _bias(op)


def _dot(op: OpView) -> Cost:
    return op.size_read(), 0


def _addmm(op: OpView) -> Cost:
    size = op.size_written()
    scaled = sum(op.attr(name, 1.0) != 1.0 for name in ("Alpha", "Beta"))
    return size * op.read("X")[-1], size * (1 + scaled)


def _bilinear(op: OpView) -> Cost:
    """x [batch, m], weight [s, m, n], y [batch, n]: x by the weight, and that by y."""
    _, m, n = op.read("Weight")
    return op.size_written() * (m * n + n), _bias(op)


def _einsum(op: OpView) -> Cost:
    """Two operands: one multiply-accumulate per combination of all indices; of more, as if taken one by one."""
    terms = op.attr("equation").replace(" ", "").split("->")[0].split(",")
    sides: Dict[str, int] = {}
    for term, shape in zip(terms, op.read_all("Operands")):
        head, dots, tail = term.partition("...")
        rest = len(shape) - len(head) - len(tail)
        ellipsis = [f".{rest - i}" for i in range(rest)] if dots else []
        for label, side in zip([*head, *ellipsis, *tail], shape):
            sides[label] = max(side, sides.get(label, 1))
    if len(terms) < 2:
        return 0, op.size_read()
    return prod(sides.values()) * (len(terms) - 1), 0


#: Operations per hidden unit and step beside the products: gates' activations, products and sums.
_GATES = {"LSTM": 9, "GRU": 8, "RNN_TANH": 2, "RNN_RELU": 2}


def _rnn(op: OpView) -> Cost:
    """Input [time, batch, features]: every weight matrix of every layer and direction is used once a step."""
    time, batch = op.read("Input")[:2]
    weights = op.read_all("WeightList")
    matrices = sum(prod(shape) for shape in weights if len(shape) == 2)
    biases = sum(prod(shape) for shape in weights if len(shape) == 1)
    units = op.attr("hidden_size") * op.attr("num_layers", 1) * (2 if op.attr("is_bidirec", False) else 1)
    return time * batch * matrices, time * batch * (biases + units * _GATES.get(op.attr("mode", "LSTM"), 2))


def _steps(op: OpView) -> Cost:
    """The older recurrent ops: input [steps of all sequences, features], the matrices are used once a step."""
    rows = prod(op.read("Input", "X")[:-1])
    matrices = [*op.read_all("Weight", "Filter"), *op.read_all("WeightX"), *op.read_all("WeightH")]
    hidden = op.read("Weight", "WeightH", "Filter")[0]
    return rows * sum(prod(shape) for shape in matrices), rows * hidden * _GATES["LSTM" if "lstm" in op.type else "GRU"]


def _filter_rows(op: OpView) -> Cost:
    """Sequence convolutions: the whole filter is used once a step."""
    return prod(op.read("X")[:-1]) * prod(op.read("Filter")), 0


FORMULAS: Dict[str, Callable[[OpView], Cost]] = {
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv3d", "fused_conv2d", "fused_conv3d", "conv2d_fusion"), _conv),
    **dict.fromkeys(
        ("conv2d_transpose", "depthwise_conv2d_transpose", "conv3d_transpose", "conv2d_transpose_bias"), _conv_transpose
    ),
    **dict.fromkeys(("deformable_conv", "deformable_conv_v1"), _deformable_conv),
    **dict.fromkeys(("matmul", "matmul_v2", "fused_matmul", "bmm", "mv"), _matmul),
    "mul": _mul,
    "fc": _fc,
    "dot": _dot,
    "addmm": _addmm,
    "bilinear_tensor_product": _bilinear,
    "einsum": _einsum,
    **dict.fromkeys(("rnn", "cudnn_lstm"), _rnn),
    **dict.fromkeys(("lstm", "lstmp", "gru", "gru_unit", "fusion_gru", "fusion_lstm"), _steps),
    **dict.fromkeys(("sequence_conv", "row_conv"), _filter_rows),
}  # fmt: skip

#: Where an op of the table has its weight; its first parameter when it has none of these slots.
WEIGHT_SLOTS = ("Filter", "W", "Y", "Weight", "WeightList", "WeightX")

# ------------------------------------------------------------------ operations without multiply-accumulates


def _pool(op: OpView) -> Cost:
    """One addition or comparison per number in the window; global and adaptive windows cover the input once."""
    if op.attr("global_pooling", False) or op.attr("adaptive", False):
        return 0, op.size_read()
    return 0, op.size_written() * prod(op.attr("ksize"))


def _sum(op: OpView) -> Cost:
    return 0, op.size_written() * (len(op.reads("X")) - 1)


def _roi_align(op: OpView) -> Cost:
    return 0, op.size_written() * 7 * max(op.attr("sampling_ratio", 1), 1) ** 2


FORMULAS.update(dict.fromkeys(("pool2d", "pool3d", "max_pool2d_with_index"), _pool))
FORMULAS.update({"sum": _sum, "roi_align": _roi_align})

_UNARY = (
    "abs acos acosh asin asinh atan atanh brelu ceil celu clip cos cosh digamma elu erf erfinv exp expm1 floor gelu "
    "hard_shrink hard_sigmoid hard_swish leaky_relu lgamma log log10 log1p log2 logit logsigmoid mish pow prelu "
    "reciprocal relu relu6 round rsqrt scale selu sigmoid sign silu sin sinh softplus softshrink softsign sqrt square "
    "stanh swish tan tanh tanh_shrink thresholded_relu trunc increment label_smooth fill_diagonal_tensor"
)
_BINARY = (
    "elementwise_add elementwise_div elementwise_floordiv elementwise_fmax elementwise_fmin elementwise_max "
    "elementwise_min elementwise_mod elementwise_mul elementwise_pow elementwise_sub atan2 minus kron cumsum cumprod"
)
_COMPARING = (
    "equal equal_all greater_equal greater_than less_equal less_than not_equal logical_and logical_not logical_or "
    "logical_xor bitwise_and bitwise_not bitwise_or bitwise_xor isfinite_v2 isinf_v2 isnan_v2"
)

#: Operations per element of the result. A function of one or two numbers is one operation, whatever it computes.
PER_OUTPUT: Dict[str, int] = {
    **dict.fromkeys(f"{_UNARY} {_BINARY} {_COMPARING}".split(), 1),
    **dict.fromkeys(("batch_norm", "sync_batch_norm", "affine_channel"), 2),  # statistics folded: multiply, add
    "lerp": 3,
    "cross": 3,
    # n points weighted and added: n multiplications, n - 1 additions
    **dict.fromkeys(("linear_interp_v2", "linear_interp"), 3),
    **dict.fromkeys(("bilinear_interp_v2", "bilinear_interp", "grid_sampler"), 7),
    **dict.fromkeys(("trilinear_interp_v2", "trilinear_interp"), 15),
    **dict.fromkeys(("bicubic_interp_v2", "bicubic_interp"), 31),
    "affine_grid": 5,
}  # fmt: skip

#: Operations per element of the input.
PER_INPUT: Dict[str, int] = {
    **dict.fromkeys(
        "mean reduce_all reduce_amax reduce_amin reduce_any reduce_max reduce_mean reduce_min reduce_prod reduce_sum "
        "arg_max arg_min maxout".split(), 1,
    ),
    **dict.fromkeys(("squared_l2_norm", "frobenius_norm", "p_norm", "logsumexp"), 2),
    **dict.fromkeys(("norm", "lrn"), 3),  # square, add, divide
    # maximum, subtract, exponential, add, divide
    **dict.fromkeys(("softmax", "log_softmax", "softmax_with_cross_entropy", "sequence_softmax"), 5),
    # mean, centre, square, add, divide, multiply, add
    **dict.fromkeys(("layer_norm", "instance_norm", "group_norm"), 7),
    **dict.fromkeys(
        "bce_loss huber_loss kldiv_loss log_loss square_error_cost sigmoid_cross_entropy_with_logits".split(), 3
    ),
}  # fmt: skip

#: Quantization simulated on a float tensor: counts nothing, and the weight behind it is the op's weight.
QUANTIZERS: FrozenSet[str] = frozenset(
    "fake_quantize_abs_max fake_quantize_dequantize_abs_max fake_channel_wise_quantize_abs_max "
    "fake_channel_wise_quantize_dequantize_abs_max fake_quantize_range_abs_max fake_quantize_moving_average_abs_max "
    "fake_quantize_dequantize_moving_average_abs_max moving_average_abs_max_scale fake_dequantize_max_abs "
    "fake_channel_wise_dequantize_max_abs quantize_linear dequantize_linear quantize dequantize requantize "
    "dequantize_abs_max dequantize_log".split()
)

#: Ops behind which a parameter is still the same parameter.
VIEWS: FrozenSet[str] = frozenset(
    "assign cast reshape reshape2 squeeze squeeze2 unsqueeze unsqueeze2 transpose transpose2 "
    "flatten_contiguous_range flatten flatten2 share_data".split()
)

#: Ops that move, make or choose numbers without computing, and the post-processing of detectors, whose work hangs on
#: what was found.
FREE: FrozenSet[str] = QUANTIZERS | VIEWS | frozenset(
    # moving
    "affine_channel_grad broadcast_tensors channel_shuffle concat crop_tensor diag_embed diag_v2 diagonal expand "
    "expand_as_v2 expand_v2 flip fold gather gather_nd im2sequence index_add index_put index_sample index_select "
    "lookup_table lookup_table_v2 masked_select meshgrid multiplex nearest_interp nearest_interp_v2 pad pad2d pad3d "
    "pixel_shuffle pixel_unshuffle put_along_axis repeat_interleave roll scatter scatter_nd_add set_value "
    "shuffle_channel slice space_to_depth split stack strided_slice take_along_axis temporal_shift tile tril_triu "
    "unbind unfold unstack where where_index one_hot one_hot_v2 "
    # making
    "assign_value bernoulli empty eye fill_any_like fill_constant fill_constant_batch_size_like fill_zeros_like "
    "gaussian_random linspace randint randperm range seed shape size uniform_random truncated_gaussian_random "
    # choosing
    "accuracy argsort auc kthvalue mode nll_loss searchsorted top_k top_k_v2 unique dropout "
    # detectors
    "anchor_generator bipartite_match box_clip box_coder collect_fpn_proposals density_prior_box "
    "distribute_fpn_proposals generate_proposals generate_proposals_v2 iou_similarity matrix_nms multiclass_nms "
    "multiclass_nms2 multiclass_nms3 nms prior_box psroi_pool roi_pool yolo_box yolov3_loss "
    # control flow
    "array_length array_to_lod_tensor conditional_block conditional_block_infer create_array lod_array_length "
    "lod_reset lod_tensor_to_array max_sequence_len merge_lod_tensor print py_func py_layer read_from_array "
    "recurrent rnn_memory_helper select_input select_output shrink_rnn_memory split_lod_tensor "
    "tensor_array_to_tensor while write_to_array".split()
)  # fmt: skip


def cost_of(op: OpView) -> Tuple[int, int, bool]:
    """Returns multiply-accumulates, other floating-point operations, and whether the op's type is in a table.

    Raises:
        NoShapeError: the shape of a tensor it needs is not known.
    """
    if op.type in FORMULAS:
        return (*FORMULAS[op.type](op), True)
    if op.type in PER_OUTPUT:
        return 0, PER_OUTPUT[op.type] * op.size_written(), True
    if op.type in PER_INPUT:
        return 0, PER_INPUT[op.type] * op.size_read(), True
    return 0, 0, op.type in FREE
