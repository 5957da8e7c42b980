"""Losses, boxes, recurrence, control flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from casebook import case, fl, ints, layer
from paddle import _C_ops, nn
from paddle.nn import functional as F

# -- losses

case("cross_entropy_with_softmax", lambda x, y: F.cross_entropy(x, y), fl(4, 5), ints(4, 1), grad=True)
case("cross_entropy_with_softmax", lambda x, y: F.cross_entropy(x, F.softmax(y), soft_label=True), fl(4, 5), fl(4, 5))
case("cross_entropy_with_softmax",
     lambda x, y: F.cross_entropy(x, y, weight=paddle.ones([5])), fl(4, 5), ints(4))  # fmt: skip
case("bce_loss", F.binary_cross_entropy, fl(3, 2, low=0.1, high=0.9), fl(3, 2, low=0, high=1), grad=True)
case("sigmoid_cross_entropy_with_logits", F.binary_cross_entropy_with_logits, fl(3, 2), fl(3, 2, low=0, high=1),
     grad=True)  # fmt: skip
case("nll_loss", lambda x, y: F.nll_loss(F.log_softmax(x), y), fl(4, 5), ints(4), grad=True)
case("kldiv_loss", lambda x, y: F.kl_div(x, y, reduction="batchmean"), fl(3, 2), fl(3, 2, low=0.1), grad=True)
case("huber_loss", lambda x, y: F.smooth_l1_loss(x, y, delta=0.5), fl(3, 2), fl(3, 2), grad=True)
case("log_loss", lambda x, y: F.log_loss(x, y), fl(3, 1, low=0.1, high=0.9), fl(3, 1, low=0, high=1))
case("label_smooth", lambda x: F.label_smooth(x, epsilon=0.2), fl(3, 4))
case("warpctc",
     lambda x, y, n, m: F.ctc_loss(x, y, n, m, blank=0), fl(6, 2, 5), (ints(2, 3, high=4) + 1).astype("int32"),
     np.array([6, 5], "int64"), np.array([3, 2], "int64"), grad=True)  # fmt: skip

# -- detection

_BOXES = np.array([[0, 0, 4, 4], [1, 1, 5, 5], [6, 6, 9, 9]], "float32")
case("yolo_box",
     lambda x, s: paddle.vision.ops.yolo_box(x, s, [10, 13, 16, 30], 2, 0.01, 8), fl(1, 14, 4, 4),
     np.array([[32, 32]], "int32"))  # fmt: skip
case("prior_box", lambda x, y: paddle.vision.ops.prior_box(x, y, [4.0], [8.0], [1.0, 2.0]), fl(1, 2, 3, 3),
     fl(1, 3, 12, 12))  # fmt: skip
case("box_coder",
     lambda p, v, t: paddle.vision.ops.box_coder(p, v, t, "encode_center_size"), _BOXES,
     np.full((3, 4), 0.1, "float32"), _BOXES + 1)  # fmt: skip
case("multiclass_nms3",
     lambda b, s: _C_ops.multiclass_nms3(b, s, None, 0.05, 100, 10, 0.5, True, 1.0, -1), fl(1, 6, 4, low=0, high=9),
     fl(1, 2, 6, low=0, high=1))  # fmt: skip
case("matrix_nms", lambda b, s: paddle.vision.ops.matrix_nms(b, s, 0.05, 0.0, 100, 10, return_index=True), _BOXES[None],
     fl(1, 2, 3, low=0, high=1))  # fmt: skip
case("nms", lambda b: paddle.vision.ops.nms(b, 0.3), _BOXES)
case("roi_align", lambda x, b, n: paddle.vision.ops.roi_align(x, b, n, 2), fl(1, 2, 8, 8), _BOXES[:, :] / 2,
     np.array([3], "int32"))  # fmt: skip
case("generate_proposals",
     lambda s, d, i, a, v: paddle.vision.ops.generate_proposals(s, d, i, a, v, return_rois_num=True),
     fl(1, 2, 3, 3, low=0, high=1), fl(1, 8, 3, 3), np.array([[24, 24]], "float32"),
     np.abs(fl(3, 3, 2, 4)) * np.array([1, 1, 8, 8], "float32"), np.ones((3, 3, 2, 4), "float32"))  # fmt: skip
case("distribute_fpn_proposals",
     lambda b, n: paddle.vision.ops.distribute_fpn_proposals(b, 2, 3, 2, 4, rois_num=n), _BOXES,
     np.array([3], "int32"))  # fmt: skip
case("roi_pool", lambda x, b, n: paddle.vision.ops.roi_pool(x, b, n, 2), fl(1, 2, 10, 10), _BOXES,
     np.array([3], "int32"))  # fmt: skip
case("psroi_pool", lambda x, b, n: paddle.vision.ops.psroi_pool(x, b, n, 2), fl(1, 8, 10, 10), _BOXES,
     np.array([3], "int32"))  # fmt: skip

# -- recurrent, structure, control flow

layer("rnn", lambda: nn.LSTM(4, 3, num_layers=2, direction="bidirect"), fl(2, 5, 4))
layer("rnn", lambda: nn.GRU(4, 3), fl(2, 5, 4))
layer("builtin.parameter", lambda: nn.Linear(3, 2), fl(2, 3), grad=True)
case("data", lambda x: x + 1, fl(2, 3))
case("builtin.combine", lambda x: paddle.concat([x, x]), fl(2, 3))
case("builtin.split", lambda x: paddle.split(x, 3, axis=1)[1], fl(2, 6))


def _branch(x: Any) -> Any:
    y = x * 1.0
    if x.mean() > 0:
        y = x * 2 + 1
    else:
        y = x - 3
    return y * x


def _loop(x: Any) -> Any:
    i = paddle.zeros([1], "int64")
    y = x * 0
    while i < 4:
        x, y = y + x, x
        i = i + 1
    return x, y


case("if", _branch, fl(2, 3, low=0.5))
case("if", _branch, fl(2, 3, high=-0.5), grad=True)
case("while", _loop, fl(2, 3))
case("cf.yield", _branch, fl(2, 3, high=-0.5))


def _check_and_print(x: Any) -> Any:
    paddle.static.Print(x) if not paddle.in_dynamic_mode() else None
    return x * 2


def _asserted(x: Any) -> Any:
    assert x.mean() > -100
    return x * 2


def _changed_constant(x: Any) -> Any:
    shape = paddle.full([2], 3, "int64")
    shape[0] = 2
    return x.reshape(shape) + paddle.cast(shape.sum(), "float32")


case("print", _check_and_print, fl(2, 3))
case("assert", _asserted, fl(2, 3))
case("full", _changed_constant, fl(6))
