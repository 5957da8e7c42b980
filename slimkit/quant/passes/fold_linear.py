"""Pass: batch norm, bias, scalar and per-channel factors behind a convolution or matrix product become its own weight
and one bias.

With ``y = W x`` and a chain of channel-wise ``g y + s`` behind it, ``y' = (g W) x + s`` (Jacob et al. 2018, arXiv
1712.05877, eq. 14 for batch norm). Weight scales are then those of the product that a runtime executes, and what the
runtime fuses is one addition. Only chains that nobody else reads are folded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Collection, Dict, List, Optional, Tuple

import numpy as np
import paddle

from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.quant.ops import WEIGHT_OPS, weight_axis
from slimkit.quant.site import FP32, add_parameter

__all__ = ["FoldLinear"]

Factors = Tuple[np.ndarray, np.ndarray]


@dataclass
class _Chain:
    """The channel-wise linear ops behind a product: ``gain * y + shift``, float64, shape [channels]."""

    ops: List[GraphOp] = field(default_factory=list)
    gain: np.ndarray = field(default_factory=lambda: np.ones(1))
    shift: np.ndarray = field(default_factory=lambda: np.zeros(1))


class FoldLinear:
    """See the module.

    Args:
        scope: holds the parameters; folded ones are written in it.
        keep: variables that must stay, the model's results.
        place: device of the new parameters; None: CPU.
    """

    def __init__(self, scope: Any, keep: Collection[str] = (), place: Any = None) -> None:
        self.scope = scope
        self.keep = set(keep)
        self.place = place or paddle.CPUPlace()

    def apply(self, graph: Graph) -> Dict[str, int]:
        """Edits the graph in place; returns the type of each op folded -> how many."""
        counts: Dict[str, int] = {}
        for part in graph.all_graphs():
            for op in part.ops(*WEIGHT_OPS):
                for folded in self._fold(part, op):
                    counts[folded] = counts.get(folded, 0) + 1
        return counts

    # ---------------------------------------------------------------- one product

    def _fold(self, graph: Graph, op: GraphOp) -> List[str]:
        row = WEIGHT_OPS[op.type]
        weight, out = op.input_var(row.weight), op.output_var(row.output)
        if weight is None or out is None or not weight.persistable or weight.producer is not None:
            return []
        value = self._value(weight)
        if value is None or value.dtype != np.float32:
            return []
        transposed = bool(op.attr("trans_y", False) or op.attr("transpose_Y", False))
        axis = weight_axis(op.type, transposed)
        if not _foldable(op, value):
            return []
        chain, end = self._chain(op, out, value.shape[axis])
        types = [o.type for o in chain.ops]
        if not chain.ops or (types == ["elementwise_add"] and self._is_plain_bias(op, chain.ops[0], out)):
            return []
        for old in chain.ops:
            graph.remove_op(old, remove_dangling=False)
        self._rewrite(graph, op, (weight, value, axis), (out, end), chain)
        return types

    def _rewrite(
        self,
        graph: Graph,
        op: GraphOp,
        stored: Tuple[GraphVar, np.ndarray, int],
        ends: Tuple[GraphVar, GraphVar],
        chain: _Chain,
    ) -> None:
        (weight, value, axis), (out, end) = stored, ends
        channels = value.shape[axis]
        gain, shift = np.broadcast_to(chain.gain, channels), np.broadcast_to(chain.shift, channels)
        if np.any(gain != 1):
            scaled = value * gain.reshape([-1 if d == axis else 1 for d in range(value.ndim)])
            graph.replace_input(op, weight, self._parameter(graph, f"{weight.name}.folded", scaled))
            graph.drop_unread(weight)
        bias = self._parameter(graph, f"{end.name}.bias", shift)
        attrs = {"axis": 1 if op.type in ("conv2d", "depthwise_conv2d", "conv2d_transpose") else -1}
        if op.attr("data_format", "NCHW") == "NHWC":
            attrs["axis"] = 3
        graph.insert_op("elementwise_add", {"X": out, "Y": bias}, {"Out": end}, attrs)

    def _parameter(self, graph: Graph, name: str, value: np.ndarray) -> GraphVar:
        return add_parameter(graph, self.scope, name, value, self.place)

    # ---------------------------------------------------------------- what is behind it

    def _chain(self, op: GraphOp, out: GraphVar, channels: int) -> Tuple[_Chain, GraphVar]:
        chain, end = _Chain(), out
        while len(end.consumers) == 1 and end.name not in self.keep:
            following = end.consumers[0]
            factors = self._factors(op, following, end, channels)
            after = following.output_var("Y" if following.type == "batch_norm" else "Out")
            if factors is None or after is None or after.dtype != FP32:
                break
            chain.ops.append(following)
            chain.gain, chain.shift = factors[0] * chain.gain, factors[0] * chain.shift + factors[1]
            end = after
        return chain, end

    def _factors(self, product: GraphOp, op: GraphOp, x: GraphVar, channels: int) -> Optional[Factors]:
        """(gain, shift) of a channel-wise linear op, or None."""
        if op.type in ("elementwise_add", "elementwise_mul"):
            values = self._channel_values(product, op, x, channels)
            if values is None:
                return None
            return (np.ones(1), values) if op.type == "elementwise_add" else (values, np.zeros(1))
        if op.input_var("X") is not x:
            return None
        if op.type == "batch_norm":
            return self._batch_norm(product, op)
        if op.type == "scale" and not op.input_names("ScaleTensor"):
            gain, shift = float(op.attr("scale", 1.0)), float(op.attr("bias", 0.0))
            after = op.attr("bias_after_scale", True)
            return np.full(1, gain), np.full(1, shift if after else shift * gain)
        return None

    def _batch_norm(self, product: GraphOp, op: GraphOp) -> Optional[Factors]:
        """Eval mode: gamma (y - mean) / sqrt(variance + epsilon) + beta."""
        same_layout = op.attr("data_layout", "NCHW") == product.attr("data_format", "NCHW")
        if product.type in ("mul", "matmul", "matmul_v2"):
            same_layout = True
        if not same_layout or (op.attr("use_global_stats", False) is False and not op.attr("is_test", True)):
            return None
        found = [self._value(op.input_var(slot)) for slot in ("Scale", "Bias", "Mean", "Variance")]
        if any(v is None for v in found):
            return None
        gamma, beta, mean, variance = (np.asarray(v, np.float64) for v in found)
        gain = gamma / np.sqrt(variance + op.attr("epsilon", 1e-5))
        return gain, beta - mean * gain

    def _channel_values(self, product: GraphOp, op: GraphOp, x: GraphVar, channels: int) -> Optional[np.ndarray]:
        """The other operand, one value or one a channel, or None."""
        first_is_x = op.input_var("X") is x
        other = op.input_var("Y" if first_is_x else "X")
        value = self._value(other) if other is not None and other.persistable and other.producer is None else None
        if value is None or value.dtype != np.float32 or not x.shape:
            return None
        if value.size == 1:
            return value.reshape(1).astype(np.float64)
        axis = op.attr("axis", -1)
        if value.size != channels or (not first_is_x and (axis >= 0 or value.ndim > len(x.shape))):
            return None
        first = len(x.shape) - value.ndim if axis < 0 else axis
        last = product.type in ("mul", "matmul", "matmul_v2") or product.attr("data_format", "NCHW") == "NHWC"
        wanted = len(x.shape) - 1 if last else 1
        where = [first + d for d, size in enumerate(value.shape) if size == channels]
        return value.reshape(-1).astype(np.float64) if wanted in where else None

    @staticmethod
    def _is_plain_bias(op: GraphOp, add: GraphOp, out: GraphVar) -> bool:
        bias = add.input_var("Y")
        if bias is None or len(bias.shape) != 1:
            return False
        return op.type not in ("conv2d", "depthwise_conv2d", "conv2d_transpose") or add.attr("axis", -1) in (1, 3)

    def _value(self, var: Optional[GraphVar]) -> Optional[np.ndarray]:
        held = self.scope.find_var(var.name) if var is not None else None
        if held is None or not held.get_tensor()._is_initialized():
            return None
        return np.array(held.get_tensor())


def _foldable(op: GraphOp, weight: np.ndarray) -> bool:
    if op.type == "conv2d_transpose":
        return op.attr("groups", 1) == 1
    if op.type in ("mul", "matmul", "matmul_v2"):
        return weight.ndim == 2 and op.attr("alpha", 1.0) == 1.0
    return weight.ndim == 4
