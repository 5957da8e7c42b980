"""The layers that put a tensor on its grid while a dygraph network trains.

Names of classes and of their state are Paddle 2's (``paddle.nn.quant.quant_layers``), so that checkpoints keep their
keys. The arithmetic is that of ``slimkit.quant.quantizers``: ``clip(round(x / M * L), -L, L) * M / L`` with
``L = 2**(bits-1) - 1`` (Krishnamoorthi 2018, arXiv 1806.08342, eq. 7-9, symmetric), its gradient is straight-through
(Bengio et al. 2013). Every ``forward`` works in dynamic mode and on the PIR values of a trace.
"""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from typing import Any, Optional

import paddle
from paddle import _C_ops, nn

from slimkit.quant.quantizers import ROUND_TYPE

__all__ = [
    "FakeQuantAbsMax",
    "FakeQuantChannelWiseAbsMax",
    "FakeQuantMovingAverageAbsMax",
    "FakeQuantRangeAbsMax",
    "fixed_scale",
]

#: What Paddle 2 starts an activation's scale, state and accum with: the mark of one that no batch was seen for.
UNSEEN_SCALE, UNSEEN_STATE = 0.001, 1.0


def fixed_scale(x: Any, scale: Any, bits: int) -> Any:
    """Quantizes and dequantizes ``x`` on the symmetric grid whose threshold is the tensor ``scale`` (shape [1])."""
    return _C_ops.fake_quantize_dequantize_moving_average_abs_max(x, scale, None, None, 0.9, bits, True, ROUND_TYPE)[0]


def assign(value: Any, buffer: Any) -> None:
    """Writes a value into a buffer in place; no gradient is recorded."""
    with paddle.no_grad():
        _C_ops.assign_out_(value.detach(), buffer)


class Float32State(nn.Layer):
    """A layer whose state stays float32 when its network is cast: the quantizing kernels know no other type."""

    def _apply(self, func: Any, device: Any, dtype: Any, *more: Any, **named: Any) -> None:
        super()._apply(func, device, None, *more, **named)


class _OwnScale(Float32State):
    """A quantizer whose range is the tensor's own, of this very run.

    Args:
        bits: of the grid.
        channels: length of the scale kept for checkpoints; None: none is kept (an activation).
    """

    def __init__(self, bits: int = 8, channels: Optional[int] = None) -> None:
        super().__init__()
        self._quant_bits = bits
        self._scale: Any
        if channels is None:
            self._scale = None
        else:
            self.register_buffer("_scale", paddle.zeros([channels]))

    def _keep(self, scale: Any) -> None:
        if self._scale is not None and self.training and paddle.in_dynamic_mode():
            assign(scale, self._scale)


class FakeQuantAbsMax(_OwnScale):
    """M = max|x|, for a whole tensor."""

    def forward(self, x: Any) -> Any:
        out, scale = _C_ops.fake_quantize_dequantize_abs_max(x, self._quant_bits, ROUND_TYPE)
        self._keep(scale)
        return out


class FakeQuantChannelWiseAbsMax(_OwnScale):
    """M_c = max|x| of channel c along ``axis`` (0 or 1)."""

    def __init__(self, bits: int = 8, channels: Optional[int] = None, axis: int = 0) -> None:
        super().__init__(bits, channels)
        self._quant_axis = axis

    def forward(self, x: Any) -> Any:
        out, scale = _C_ops.fake_channel_wise_quantize_dequantize_abs_max(
            x, self._quant_bits, ROUND_TYPE, self._quant_axis
        )
        self._keep(scale)
        return out


class FakeQuantMovingAverageAbsMax(Float32State):
    """V_t = (1-k) V + k V_(t-1) of max|x|, kept as accum/state; fixed in eval mode.

    State: ``_scale``, ``_state``, ``_accum``, each of shape [1]. Until a batch was seen in train mode, eval mode lets
    the tensor through unchanged.

    Args:
        bits: of the grid.
        moving_rate: k.
    """

    def __init__(self, bits: int = 8, moving_rate: float = 0.9) -> None:
        super().__init__()
        self._quant_bits = bits
        self._moving_rate = moving_rate
        self._seen = False
        self.register_buffer("_scale", paddle.full([1], UNSEEN_SCALE))
        self.register_buffer("_state", paddle.full([1], UNSEEN_STATE))
        self.register_buffer("_accum", paddle.full([1], UNSEEN_STATE))

    @property
    def seen(self) -> bool:
        """Whether the scale is of observed activations: of a training forward, or of a checkpoint that had some."""
        if not self._seen:
            fresh = (UNSEEN_SCALE, UNSEEN_STATE, UNSEEN_STATE)
            held = [float(self._buffers[name].numpy()[0]) for name in ("_scale", "_state", "_accum")]  # not traced
            self._seen = any(abs(value - start) > 1e-6 for value, start in zip(held, fresh))
        return self._seen

    def start(self) -> None:
        """Forgets the start values at the first batch, which would bias the moving average."""
        if not self.seen:
            self._state.zero_()
            self._accum.zero_()
            self._seen = True

    def fixed(self, x: Any) -> Any:
        """``x`` on the grid, or as it is while no batch was seen."""
        if self.seen:
            return fixed_scale(x, self._scale, self._quant_bits)
        if paddle.in_dynamic_mode():
            return x
        # A program is traced that will run after training too: it must ask anew.
        fresh = paddle.logical_and(self._scale <= UNSEEN_SCALE, self._state == UNSEEN_STATE)
        return paddle.where(fresh, x, fixed_scale(x, self._scale, self._quant_bits))

    def forward(self, x: Any) -> Any:
        if not self.training:
            return self.fixed(x)
        if paddle.in_dynamic_mode():
            self.start()
        out, scale, state, accum = _C_ops.fake_quantize_dequantize_moving_average_abs_max(
            x, self._scale, self._accum, self._state, self._moving_rate, self._quant_bits, False, ROUND_TYPE
        )
        for value, buffer in ((scale, self._scale), (state, self._state), (accum, self._accum)):
            assign(value, buffer)
        return out


class FakeQuantRangeAbsMax(FakeQuantMovingAverageAbsMax):
    """The largest max|x| of the last ``window_size`` training steps.

    The window itself is not in checkpoints: a resumed training starts a new one from the scale.
    """

    def __init__(self, bits: int = 8, window_size: int = 10000) -> None:
        super().__init__(bits)
        self._window_size = window_size
        self._steps = 0
        self.register_buffer("_window", paddle.zeros([window_size]), persistable=False)

    def forward(self, x: Any) -> Any:
        if self.training and paddle.in_dynamic_mode():
            with paddle.no_grad():
                if self._steps == 0 and self.seen:
                    self._window[-1] = self._scale[0]
                self.start()
                self._window[self._steps % self._window_size] = x.abs().max().astype("float32")
                self._steps += 1
                assign(self._window.max().reshape([1]), self._scale)
        elif self.training:  # a training program is traced, which keeps no window: of all its steps
            assign(paddle.maximum(self._scale, x.abs().max().astype("float32").reshape([1])), self._scale)
        return fixed_scale(x, self._scale, self._quant_bits) if self.training else self.fixed(x)
