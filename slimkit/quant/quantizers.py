"""The ops that put one tensor on its grid while training: one small builder per range type.

Every builder takes the graph, the tensor and a ``Site`` and returns the quantized-dequantized tensor. The tables
``ACTIVATION_QUANTIZERS`` and ``WEIGHT_QUANTIZERS`` name them by the config's range types.

The forward arithmetic of the symmetric types is ``clip(round(x / M * (n-1)), -(n-1), n-1) * M / (n-1)`` with
``n = 2**(bits-1)`` (Krishnamoorthi 2018, arXiv 1806.08342, eq. 7-9, symmetric). The gradient is straight-through
(Bengio et al. 2013): in a program with backward ops no gradient op is needed, the consumer's gradient simply is the
tensor's; before ``minimize`` the ops chosen have straight-through gradients of their own.
"""

from __future__ import annotations

from typing import Callable, Dict, Optional, Tuple

import numpy as np

from slimkit.ir.graph import GraphVar
from slimkit.quant.site import FP32, INT64, Site, quantized_name, set_tensor, suffix

__all__ = [
    "ACTIVATION_QUANTIZERS",
    "AFFINE_MARK",
    "ROUND_TYPE",
    "WEIGHT_QUANTIZERS",
    "Site",
    "set_tensor",
]

#: ``round_type`` of Paddle's kernels. 1: clip to [-M, M], round half away from zero, vectorised. 0 rounds ties to even,
#: but its kernel is a scalar loop (a training step costs 1.3x instead of 1.08x) and lets -M-M/(n-1) through.
ROUND_TYPE = 1
#: Attribute on the last op of an affine quantizer: the name of the tensor it quantizes.
AFFINE_MARK = "slimkit_affine_of"
#: Added to the width of an affine range so that a constant tensor does not divide by zero.
AFFINE_EPSILON = 1e-12


Builder = Callable[[Site, GraphVar, int, int], GraphVar]


def fixed_scale(site: Site, x: GraphVar, scale: GraphVar, bits: int) -> GraphVar:
    """Quantizes ``x`` on the symmetric grid whose threshold is the variable ``scale`` (shape ``[1]``)."""
    out = site.temp(quantized_name(x.name, bits), x)
    attrs = {
        "bit_length": bits,
        "is_test": True,
        "round_type": ROUND_TYPE,
        "moving_rate": site.moving_rate,
    }
    site.graph.insert_op(
        "fake_quantize_dequantize_moving_average_abs_max",
        {"X": x, "InScale": scale},
        {"Out": out, "OutScale": site.graph.new_version(scale)},
        attrs,
    )
    return out


def dynamic_abs_max(site: Site, x: GraphVar, bits: int, axis: int) -> GraphVar:
    """M = max|x| of this very run."""
    out = site.temp(quantized_name(x.name, bits), x)
    scale = site.temp(f"{x.name}@scale{suffix(bits)}")
    attrs = {"bit_length": bits, "round_type": ROUND_TYPE}
    site.graph.insert_op("fake_quantize_dequantize_abs_max", {"X": x}, {"Out": out, "OutScale": scale}, attrs)
    return out


def channel_wise_abs_max(site: Site, x: GraphVar, bits: int, axis: int) -> GraphVar:
    """M_c = max|x| of channel c along ``axis`` (0 or 1)."""
    out = site.temp(quantized_name(x.name, bits), x)
    scale = site.temp(f"{x.name}@scale{suffix(bits)}", shape=(x.shape[axis],))
    attrs = {"bit_length": bits, "round_type": ROUND_TYPE, "quant_axis": axis}
    site.graph.insert_op(
        "fake_channel_wise_quantize_dequantize_abs_max", {"X": x}, {"Out": out, "OutScale": scale}, attrs
    )
    return out


def moving_average_abs_max(site: Site, x: GraphVar, bits: int, axis: int) -> GraphVar:
    """V_t = (1-k) V + k V_(t-1) of max|x|, kept as accum/state, which removes the bias of a start at zero."""
    scale = site.state(f"{x.name}@scale{suffix(bits)}", np.full(1, 0.001, np.float32))
    if not site.training:
        return fixed_scale(site, x, scale, bits)
    state = site.state(f"{x.name}@state{suffix(bits)}", np.zeros(1, np.float32))
    accum = site.state(f"{x.name}@accum{suffix(bits)}", np.zeros(1, np.float32))
    out = site.temp(quantized_name(x.name, bits), x)
    version = site.graph.new_version
    site.graph.insert_op(
        "fake_quantize_dequantize_moving_average_abs_max",
        {"X": x, "InScale": scale, "InState": state, "InAccum": accum},
        {"Out": out, "OutScale": version(scale), "OutState": version(state), "OutAccum": version(accum)},
        {
            "bit_length": bits,
            "is_test": False,
            "round_type": ROUND_TYPE,
            "moving_rate": site.moving_rate,
        },
    )
    return out


def _reduce_all(site: Site, op_type: str, x: GraphVar, name: str) -> GraphVar:
    """A full reduction, shape [1]."""
    scalar = site.temp(f"{name}.0d", shape=())
    site.op(op_type, scalar, {"reduce_all": True, "keep_dim": False, "dim": [0]}, X=x)
    out = site.temp(name)
    shape_of = site.temp(f"{name}.xshape", shape=(0,))
    site.graph.insert_op("reshape2", {"X": scalar}, {"Out": out, "XShape": shape_of}, {"shape": [1]})
    return out


def _batch_abs_max(site: Site, x: GraphVar, suffix: str) -> GraphVar:
    magnitude = site.op("abs", site.temp(f"{x.name}@abs{suffix}", x), X=x)
    return _reduce_all(site, "reduce_max", magnitude, f"{x.name}@max{suffix}")


def _window(reduce: str) -> Builder:
    """The window's max or mean of max|x| over the last ``window`` steps, in a ring buffer."""

    def build(site: Site, x: GraphVar, bits: int, axis: int) -> GraphVar:
        tail = suffix(bits)
        scale = site.state(f"{x.name}@scale{tail}", np.full(1, 0.001, np.float32))
        if not site.training:
            return fixed_scale(site, x, scale, bits)
        ring = site.state(f"{x.name}@window{tail}", np.zeros(site.window, np.float32))
        step = site.state(f"{x.name}@step{tail}", np.zeros(1, np.int64))
        size = site.state(f"window_size@{site.window}", np.full(1, site.window, np.int64))
        graph, version = site.graph, site.graph.new_version
        now = _batch_abs_max(site, x, tail)
        slot = site.op("elementwise_mod", site.temp(f"{x.name}@slot{tail}", step), {"axis": -1}, X=step, Y=size)
        filled = version(ring)
        graph.insert_op("scatter", {"X": ring, "Ids": slot, "Updates": now}, {"Out": filled}, {"overwrite": True})
        following = version(step)
        graph.insert_op("increment", {"X": step}, {"Out": following}, {"step": 1.0})
        new_scale = version(scale)
        if reduce == "max":
            graph.insert_op(
                "assign",
                {"X": _reduce_all(site, "reduce_max", filled, f"{x.name}@peak{tail}")},
                {"Out": new_scale},
            )
        else:
            total = _reduce_all(site, "reduce_sum", filled, f"{x.name}@sum{tail}")
            seen = site.op(
                "elementwise_min", site.temp(f"{x.name}@seen{tail}", step), {"axis": -1}, X=following, Y=size
            )
            count = site.temp(f"{x.name}@count{tail}")
            graph.insert_op("cast", {"X": seen}, {"Out": count}, {"in_dtype": int(INT64), "out_dtype": int(FP32)})
            graph.insert_op("elementwise_div", {"X": total, "Y": count}, {"Out": new_scale}, {"axis": -1})
        return fixed_scale(site, x, new_scale, bits)

    return build


def _affine(site: Site, x: GraphVar, low: GraphVar, high: GraphVar, bits: int, axis: int = -1) -> GraphVar:
    """Quantizes on the affine grid of [low, high] widened to hold 0 (Krishnamoorthi 2018, eq. 1-4).

    ``low`` and ``high`` broadcast against ``x``.
    """
    name, tail = x.name, suffix(bits)
    levels = site.state(f"quant_levels@{bits}", np.full(1, 2**bits - 1, np.float32))

    def temp(kind: str) -> GraphVar:
        return site.temp(f"{name}@{kind}{tail}", low)

    low0 = site.op("clip", temp("low0"), {"min": -3e38, "max": 0.0}, X=low)
    high0 = site.op("clip", temp("high0"), {"min": 0.0, "max": 3e38}, X=high)
    span = site.op("elementwise_sub", temp("span"), {"axis": -1}, X=high0, Y=low0)
    width = site.op("scale", temp("width"), {"scale": 1.0, "bias": AFFINE_EPSILON, "bias_after_scale": True}, X=span)
    step = site.op("elementwise_div", temp("quant_step"), {"axis": -1}, X=width, Y=levels)
    ratio = site.op("elementwise_div", temp("ratio"), {"axis": -1}, X=low0, Y=step)
    minus_zero = site.op("round", temp("minus_zero"), X=ratio)
    return affine_grid(site, x, step, minus_zero, bits, axis)


def affine_grid(site: Site, x: GraphVar, step: GraphVar, minus_zero: GraphVar, bits: int, axis: int = -1) -> GraphVar:
    """``(clip(round(x / step) + zero, 0, 2**bits - 1) - zero) * step``.

    Args:
        site: where the ops go.
        x: the tensor.
        step: distance of neighbouring levels; broadcasts against ``x``.
        minus_zero: minus the zero point, a whole number.
        bits: of the grid.
        axis: the channel axis, noted on the last op; -1 for none.
    """
    name, tail = x.name, suffix(bits)

    def temp(kind: str) -> GraphVar:
        return site.temp(f"{name}@{kind}{tail}", x)

    scaled = site.op("elementwise_div", temp("scaled"), {"axis": -1}, X=x, Y=step)
    rounded = site.op("round", temp("rounded"), X=scaled)
    shifted = site.op("elementwise_sub", temp("shifted"), {"axis": -1}, X=rounded, Y=minus_zero)
    integer = site.op("clip", temp("integer"), {"min": 0.0, "max": float(2**bits - 1)}, X=shifted)
    centred = site.op("elementwise_add", temp("centred"), {"axis": -1}, X=integer, Y=minus_zero)
    grid_name = quantized_name(name, bits)
    grid = site.temp(f"{grid_name}.grid" if site.differentiable else grid_name, x)
    marks = {"axis": -1, AFFINE_MARK: name, "bit_length": bits, "quant_axis": axis}
    site.op("elementwise_mul", grid, marks, X=centred, Y=step)
    return straight_through(site, x, grid, grid_name) if site.differentiable else grid


def straight_through(site: Site, x: GraphVar, y: GraphVar, name: str) -> GraphVar:
    """``x + stop_gradient(y - x)``: the value of ``y``, the gradient of ``x``."""
    error = site.graph.create_var(f"{name}.error", x.shape, x.dtype, stop_gradient=True)
    site.op("elementwise_sub", error, {"axis": -1}, X=y, Y=x)
    return site.op("elementwise_add", site.temp(name, x), {"axis": -1}, X=x, Y=error)


def _range_of(site: Site, x: GraphVar, bits: int, axis: Optional[int]) -> Tuple[GraphVar, GraphVar]:
    """min and max of the tensor, shape [1], or of each channel, kept in rank for broadcasting."""
    tail, rank = suffix(bits), len(x.shape)
    dims = [d for d in range(rank) if d != axis]
    shape = tuple(x.shape[d] if d == axis else 1 for d in range(rank))
    if axis is None:
        return (
            _reduce_all(site, "reduce_min", x, f"{x.name}@batch_low{tail}"),
            _reduce_all(site, "reduce_max", x, f"{x.name}@batch_high{tail}"),
        )
    attrs = {"reduce_all": False, "keep_dim": True, "dim": dims}
    low = site.op("reduce_min", site.temp(f"{x.name}@batch_low{tail}", shape=shape), attrs, X=x)
    high = site.op("reduce_max", site.temp(f"{x.name}@batch_high{tail}", shape=shape), attrs, X=x)
    return low, high


def min_max(site: Site, x: GraphVar, bits: int, axis: int) -> GraphVar:
    """The affine grid of this run's own min and max."""
    return _affine(site, x, *_range_of(site, x, bits, None), bits)


def channel_wise_min_max(site: Site, x: GraphVar, bits: int, axis: int) -> GraphVar:
    """An affine grid for each channel along ``axis``."""
    return _affine(site, x, *_range_of(site, x, bits, axis), bits, axis)


def moving_average_min_max(site: Site, x: GraphVar, bits: int, axis: int) -> GraphVar:
    """The affine grid of the moving averages of min and max."""
    tail = suffix(bits)
    names = ("low", "high")
    ends = [site.state(f"{x.name}@{n}{tail}", np.full(1, v, np.float32)) for n, v in zip(names, (-0.001, 0.001))]
    if not site.training:
        return _affine(site, x, ends[0], ends[1], bits)
    version = site.graph.new_version
    state = site.state(f"{x.name}@range_state{tail}", np.zeros(1, np.float32))
    new_state = version(state)
    rate = {"scale": site.moving_rate, "bias": 1.0, "bias_after_scale": True}
    site.graph.insert_op("scale", {"X": state}, {"Out": new_state}, rate)
    moved = []
    for name, end, now in zip(names, ends, _range_of(site, x, bits, None)):
        accum = site.state(f"{x.name}@{name}_accum{tail}", np.zeros(1, np.float32))
        decayed = site.op("scale", site.temp(f"{x.name}@{name}_decayed{tail}"), {"scale": site.moving_rate}, X=accum)
        new_accum = version(accum)
        site.graph.insert_op("elementwise_add", {"X": decayed, "Y": now}, {"Out": new_accum}, {"axis": -1})
        new_end = version(end)
        site.graph.insert_op("elementwise_div", {"X": new_accum, "Y": new_state}, {"Out": new_end}, {"axis": -1})
        moved.append(new_end)
    return _affine(site, x, moved[0], moved[1], bits)


#: Range type of the config -> builder(site, tensor, bits, channel axis).
ACTIVATION_QUANTIZERS: Dict[str, Builder] = {
    "abs_max": dynamic_abs_max,
    "range_abs_max": _window("max"),
    "window_mean_abs_max": _window("mean"),
    "moving_average_abs_max": moving_average_abs_max,
    "min_max": min_max,
    "moving_average_min_max": moving_average_min_max,
}
WEIGHT_QUANTIZERS: Dict[str, Builder] = {
    "abs_max": dynamic_abs_max,
    "channel_wise_abs_max": channel_wise_abs_max,
    "range_abs_max": _window("max"),
    "moving_average_abs_max": moving_average_abs_max,
    "min_max": min_max,
    "channel_wise_min_max": channel_wise_min_max,
}
