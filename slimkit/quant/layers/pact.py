"""PACT for dygraph layers (Choi et al. 2018, arXiv 1805.06085): the clipping level alpha is trained.

As in slimkit's training programs, alpha is the quantizer's threshold: clipping and quantizing are one op, and what
is exported is alpha as that activation's scale. docs/pact.md has the equations.
"""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from typing import Any, Tuple

import numpy as np
import paddle
from paddle import _C_ops, nn
from paddle.autograd import PyLayer

from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.thresholds import mse_threshold
from slimkit.quant.layers.fake_quant import FakeQuantMovingAverageAbsMax, Float32State, assign, fixed_scale

__all__ = ["PACT", "pact_quantize"]

#: The smallest alpha: below it a layer would be dead for good.
SMALLEST_ALPHA = 1e-3
#: alpha's L2 decay, the paper's lambda.
L2 = 1e-4


class PACT(Float32State):
    """``clip(x, -alpha, alpha)`` with a trainable alpha of shape [1].

    Used as a preprocess class it computes just that; the built-in PACT of ``QAT`` reads its alpha and computes clipping
    and quantizing in one.
    """

    def __init__(self) -> None:
        super().__init__()
        attr = paddle.ParamAttr(
            name=f"{self.full_name()}.pact",
            initializer=nn.initializer.Constant(100.0),
            regularizer=paddle.regularizer.L2Decay(L2),
        )
        self.alpha = self.create_parameter(shape=[1], attr=attr, dtype="float32")

    def forward(self, x: Any) -> Any:
        relu = nn.functional.relu
        return x - relu(x - self.alpha) + relu(-self.alpha - x)


class _ClipAndQuantize(PyLayer):
    """Forward: the grid of threshold alpha. Backward: eq. 3 and its mirror image, straight through inside."""

    @staticmethod
    def forward(ctx: Any, x: Any, alpha: Any, scale: Any, bits: int) -> Any:
        out = fixed_scale(x, scale, bits)
        ctx.save_for_backward(x, out)
        ctx.threshold = scale.item()
        ctx.of_x = not x.stop_gradient
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Tuple[Any, ...]:
        x, out = ctx.saved_tensor()
        inside = _C_ops.clip_grad(x, gradient, -ctx.threshold, ctx.threshold)
        # Beyond the threshold out is +-alpha, and the gradient that did not go to x is alpha's.
        beyond = _C_ops.subtract(gradient, inside)
        of_alpha = paddle.dot(beyond.flatten(), out.flatten()) / ctx.threshold
        return inside if ctx.of_x else None, of_alpha.reshape([1])


def pact_quantize(x: Any, preprocess: PACT, quantizer: FakeQuantMovingAverageAbsMax) -> Any:
    """Clips and quantizes ``x`` with alpha as the threshold, and keeps the quantizer's scale equal to it.

    The first batch starts alpha at the threshold of least quantization error; a checkpoint's alpha that lies above its
    scale (PaddleSlim starts it at 100) starts at the scale.

    Args:
        x: the activation, float32.
        preprocess: holds alpha.
        quantizer: holds the scale that eval mode and exports use.
    """
    if not quantizer.training:
        return quantizer(x)
    if not paddle.in_dynamic_mode():  # a training program is being traced: clipping, and a moving range that is kept
        return quantizer(preprocess(x))
    _start(x, preprocess, quantizer)
    with paddle.no_grad():
        assign(paddle.clip(preprocess.alpha, SMALLEST_ALPHA), quantizer._scale)
    return _ClipAndQuantize.apply(x, preprocess.alpha, quantizer._scale, quantizer._quant_bits)


def _start(x: Any, preprocess: PACT, quantizer: FakeQuantMovingAverageAbsMax) -> None:
    if getattr(preprocess, "_started", False):
        return
    with paddle.no_grad():
        if quantizer.seen:
            value = min(preprocess.alpha.item(), quantizer._scale.item())
        else:
            value = _least_error(x, quantizer._quant_bits)
            quantizer.start()
        value = max(value, SMALLEST_ALPHA)
        start = paddle.full([1], value, dtype="float32")
        if paddle.distributed.is_initialized() and paddle.distributed.get_world_size() > 1:
            # Every process has seen another batch; they must go on with one alpha.
            paddle.distributed.all_reduce(start, op=paddle.distributed.ReduceOp.MAX)
        assign(start, preprocess.alpha)
    preprocess._started = True


def _least_error(x: Any, bits: int) -> float:
    histogram = AbsHistogram()
    histogram.update(np.asarray(x.detach().astype("float32").numpy()))
    return float(mse_threshold(histogram, bits))
