"""A user's PACT class, computed in one op: the layer is asked once whether it clips, and if so is not called again.

PaddleOCR, PaddleDetection and the tutorials each carry a PACT of their own, ``x - relu(x - alpha) + relu(-alpha - x)``,
whose ops, forward and backward, cost several times what quantizing does. ``clip`` has the same values and gradients;
and where no value lies beyond alpha, which the quantizer's own maximum tells, there is nothing to compute.
"""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from typing import Any, Tuple

import numpy as np
import paddle
from paddle import _C_ops, nn
from paddle.autograd import PyLayer

from slimkit.quant.layers.fake_quant import FakeQuantMovingAverageAbsMax, assign
from slimkit.quant.quantizers import ROUND_TYPE

__all__ = ["clip_and_quantize", "is_clip"]

#: Attribute of a preprocess layer: what is_clip() found.
_FOUND = "_slimkit_is_clip"
#: Another: whether its last batch reached alpha.
_CLIPS = "_slimkit_clips"
#: A maximum this close to alpha, as a fraction of it, may be one that was clipped.
_NEAR = 1e-4


def is_clip(preprocess: nn.Layer, x: Any) -> bool:
    """Whether a layer's values and gradients are those of ``clip(x, -alpha, alpha)``, alpha being its one parameter.

    It is asked once, with numbers on both sides of alpha. For layers with hooks the answer is no, and for tensors on a
    GPU, where reading alpha every step would make the host wait.

    Args:
        preprocess: the layer.
        x: the tensor that it is for.
    """
    if not x.place.is_cpu_place() or preprocess._forward_pre_hooks or preprocess._forward_post_hooks:
        return False
    found = preprocess.__dict__.get(_FOUND)
    if found is None:
        found = _asked(preprocess)
        object.__setattr__(preprocess, _FOUND, found)
    return bool(found)


def _asked(preprocess: nn.Layer) -> bool:
    parameters = preprocess.parameters()
    if len(parameters) != 1 or list(parameters[0].shape) not in ([1], []) or any(True for _ in preprocess.buffers()):
        return False
    alpha, level = parameters[0], parameters[0].item()
    if alpha.stop_gradient or not np.isfinite(level) or level <= 0:
        return False
    values = (level * np.linspace(-3, 3, 120)).astype(np.float32).reshape(1, 2, 6, 10)  # none is alpha itself
    asking = np.linspace(1, 2, 120, dtype=np.float32).reshape(values.shape)
    probe = paddle.to_tensor(values, stop_gradient=False)
    try:
        with paddle.enable_grad():
            out = preprocess(probe)
            of_x, of_alpha = paddle.grad(out, [probe, alpha], paddle.to_tensor(asking))
    except Exception:  # a layer of another rank, or with other inputs or gradients: not one of these
        return False
    inside = np.abs(values) < level
    expected = (asking * np.sign(values))[~inside].sum()
    return bool(
        np.allclose(out.numpy(), np.clip(values, -level, level), rtol=0, atol=2e-6 * level)
        and np.allclose(of_x.numpy(), np.where(inside, asking, 0), rtol=0, atol=1e-6)
        and np.allclose(of_alpha.numpy(), expected, rtol=1e-4, atol=1e-4)
    )


class _ClipAndQuantize(PyLayer):
    """Forward: the grid of the clipped tensor's moving range. Backward: the clip's gradients, straight through else."""

    @staticmethod
    def forward(ctx: Any, x: Any, alpha: Any, preprocess: nn.Layer, quantizer: FakeQuantMovingAverageAbsMax) -> Any:
        level, rate, before = alpha.item(), quantizer._moving_rate, quantizer._accum.item()
        # Whether anything lies beyond alpha is known from the maximum, afterwards; what is tried first is what the last
        # step needed.
        clips = preprocess.__dict__.get(_CLIPS, False)
        found = _quantized(_C_ops.clip(x, -level, level) if clips else x, quantizer)
        largest = found[3].item() - rate * before
        reaches = largest > level * (1 - _NEAR)
        if reaches and not clips:
            found = _quantized(_C_ops.clip(x, -level, level), quantizer)
        object.__setattr__(preprocess, _CLIPS, reaches)
        out, scale, state, accum = found
        for value, buffer in ((scale, quantizer._scale), (state, quantizer._state), (accum, quantizer._accum)):
            assign(value, buffer)
        ctx.level = level if reaches else None
        ctx.of_x = not x.stop_gradient
        ctx.shape = alpha.shape
        if reaches:
            ctx.save_for_backward(x)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Tuple[Any, ...]:
        if ctx.level is None:
            return gradient if ctx.of_x else None, paddle.zeros(ctx.shape, dtype=gradient.dtype)
        (x,) = ctx.saved_tensor()
        inside = _C_ops.clip_grad(x, gradient, -ctx.level, ctx.level)
        of_alpha = paddle.dot(_C_ops.subtract(gradient, inside).flatten(), _C_ops.sign(x).flatten())
        return inside if ctx.of_x else None, of_alpha.reshape(ctx.shape)


def _quantized(x: Any, quantizer: FakeQuantMovingAverageAbsMax) -> Any:
    """(quantized x, scale, state, accum)"""
    return _C_ops.fake_quantize_dequantize_moving_average_abs_max(
        x, quantizer._scale, quantizer._accum, quantizer._state, quantizer._moving_rate, quantizer._quant_bits, False,
        ROUND_TYPE,
    )  # fmt: skip


def clip_and_quantize(x: Any, preprocess: nn.Layer, quantizer: FakeQuantMovingAverageAbsMax) -> Any:
    """What ``quantizer(preprocess(x))`` computes in a training step, with its state, for a layer that :func:`is_clip`.

    Args:
        x: the activation, float32, in dynamic mode.
        preprocess: holds alpha.
        quantizer: in train mode.
    """
    quantizer.start()
    alpha = preprocess.parameters()[0]
    if alpha.item() <= 0:  # no threshold any more
        return quantizer(preprocess(x))
    return _ClipAndQuantize.apply(x, alpha, preprocess, quantizer)
