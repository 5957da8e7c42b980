"""Why ops without a row keep the channels that they read."""

from __future__ import annotations

from typing import Dict

from slimkit.prune.wording import an

__all__ = ["REFUSED", "reason_of"]

_LOSS = "they are compared with labels in {op} op"
_BOXES = "they are coordinates, scores or classes for {op} op"
_BY_INDEX = "{op} op picks or writes elements of them by number"
_MATRIX = "{op} op reads them as a matrix"
_BLOCK = "they go through {op} op, whose inner block is left as it is"

#: Op type -> reason. Types that are not here have a reason too, which says that nobody wrote a row.
REFUSED: Dict[str, str] = {
    "rnn": "an rnn op (LSTM, GRU) reads them, whose recurrent weights are left as they are",
    **dict.fromkeys(("while", "conditional_block", "select_input", "select_output"), _BLOCK),
    **dict.fromkeys(
        (
            *("softmax_with_cross_entropy", "sigmoid_cross_entropy_with_logits", "bce_loss", "nll_loss", "kldiv_loss"),
            *("huber_loss", "log_loss", "warpctc", "label_smooth", "accuracy", "auc"),
        ),
        _LOSS,
    ),
    **dict.fromkeys(
        (
            *("multiclass_nms3", "matrix_nms", "nms", "yolo_box", "box_coder", "prior_box", "generate_proposals_v2"),
            *("distribute_fpn_proposals", "psroi_pool"),
        ),
        _BOXES,
    ),
    **dict.fromkeys(
        (
            *("scatter", "scatter_nd_add", "set_value", "index_sample", "index_add", "index_put", "take_along_axis"),
            *("put_along_axis", "masked_select", "where_index", "one_hot_v2", "repeat_interleave", "multiplex"),
            *("searchsorted", "unique", "mode", "crop_tensor", "assign_pos"),
        ),
        _BY_INDEX,
    ),
    **dict.fromkeys(
        (
            *("addmm", "bilinear_tensor_product", "cross", "diag_embed", "diag_v2", "diagonal", "dot", "einsum"),
            *("inverse", "kron", "mv", "tril_triu", "meshgrid", "affine_grid"),
        ),
        _MATRIX,
    ),
    "spectral_norm": "a spectral_norm op divides by the largest singular value, to which all of them count",
    "lrn": "an lrn op normalizes each by its neighbours",
    "temporal_shift": "a temporal_shift op moves a fixed part of them in time",
    "data_norm": "a data_norm op keeps sums over them",
    "equal_all": "an equal_all op compares all of them",
}


def reason_of(op_type: str) -> str:
    """Why the channels that an op without a row reads stay."""
    return REFUSED.get(op_type, "{op} op reads them, for which slimkit has no pruning rule").format(op=an(op_type))
