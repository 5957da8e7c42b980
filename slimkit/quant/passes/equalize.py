"""Pass: the channels in front of a depthwise convolution get equal ranges, so that one scale fits all of them.

A depthwise filter reads one channel, and its weight has a scale of its own: with ``x'_c = s_c x_c`` and
``w'_c = w_c / s_c`` the product is the same and the weight's grid loses nothing, while the activation's grid, whose
step is set by the widest channel, becomes finer for all the others.

Where a linear op, through nothing but ReLU, makes ``x``, ``s`` goes into its weight and bias. Elsewhere one
multiplication is added, if that makes the noise in front of the filter at least ``LEAST_GAIN`` decibels smaller.

Source: Nagel et al. 2019 (arXiv 1906.04721), section 4.1; with weight scales per channel the balance between activation
and weight that equation 11 strikes is not needed in front of a depthwise convolution.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, List, Mapping, Optional

import numpy as np
import paddle

from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.quant.ops import WEIGHT_OPS
from slimkit.quant.passes.fold_linear import FoldLinear
from slimkit.quant.site import FP32, add_parameter

__all__ = ["LEAST_GAIN", "Equalize", "equalizable"]

#: Decibels of noise that a multiplication of its own has to save: two bits for one more op.
LEAST_GAIN = 12.0
#: A channel is stretched at most so much: what calibration saw of a quiet channel is not all that it will hold.
_MOST = 32.0
_HOMOGENEOUS = ("relu", "leaky_relu")


def equalizable(graph: Graph) -> List[str]:
    """The tensors that depthwise convolutions with weights of their own read, each once, in order."""
    names = [x.name for op in graph.ops() for x in [_input(op)] if x is not None]
    return list(dict.fromkeys(names))


class Equalize:
    """See the module.

    Args:
        scope: holds the parameters; new ones are written in it.
        ranges: tensor -> largest magnitude of each channel, shape [channels].
        keep: variables that must stay, the model's results.
        place: device of the new parameters; None: CPU.
    """

    def __init__(
        self, scope: Any, ranges: Mapping[str, np.ndarray], keep: Collection[str] = (), place: Any = None
    ) -> None:
        self.scope, self.ranges, self.keep = scope, ranges, set(keep)
        self.place = place or paddle.CPUPlace()

    def apply(self, graph: Graph) -> Dict[str, int]:
        """Edits the graph in place; returns ``folded`` and ``multiplied`` -> tensors equalized in that way."""
        counts = {"folded": 0, "multiplied": 0}
        for name in equalizable(graph):
            x = graph.var(name)
            if name in self.ranges and len(graph.vars(name)) == 1:
                how = self._equalize(graph, x, np.asarray(self.ranges[name], np.float64))
                if how:
                    counts[how] += 1
        if counts["folded"]:
            FoldLinear(self.scope, self.keep, self.place).apply(graph)
        return {kind: count for kind, count in counts.items() if count}

    def _equalize(self, graph: Graph, x: GraphVar, ranges: np.ndarray) -> str:
        readers = [op for op in x.consumers if _input(op) is x]
        widest = float(ranges.max(initial=0.0))
        if widest <= 0 or not np.isfinite(widest):
            return ""
        stretch = np.minimum(widest / np.maximum(ranges, 1e-12), _MOST)
        source = self._linear_source(x) if len(readers) == len(x.consumers) else None
        if source is None and self._gain(readers, stretch) < LEAST_GAIN:
            return ""
        factor = self._parameter(graph, f"{x.name}.stretch", stretch.reshape(1, -1, 1, 1))
        at = source or x
        stretched = graph.create_var(f"{at.name}.stretched", at.shape, FP32)
        for op in list(at.consumers) if source is not None else readers:
            graph.replace_input(op, at, stretched)
        graph.insert_op("elementwise_mul", {"X": at, "Y": factor}, {"Out": stretched}, {"axis": -1})
        for op in readers:
            weight = op.input_var("Filter")
            if weight is not None:
                self._shrink(graph, op, weight, stretch)
        return "folded" if source is not None else "multiplied"

    def _linear_source(self, x: GraphVar) -> Optional[GraphVar]:
        """The result of a product and its bias that ``x`` is, seen through ReLU; nobody else reads it on the way."""
        while x.producer is not None and x.producer.type in _HOMOGENEOUS:
            before = x.producer.input_var("X")
            if before is None or len(before.consumers) != 1 or x.name in self.keep:
                return None
            x = before
        made, end = x.producer, x
        if made is not None and made.type == "elementwise_add":
            other, source = made.input_var("Y"), made.input_var("X")
            if other is None or source is None or not other.persistable or len(source.consumers) != 1:
                return None
            made = source.producer
        row = WEIGHT_OPS.get(made.type) if made is not None else None
        weight = made.input_var(row.weight) if made is not None and row is not None else None
        foldable = weight is not None and weight.persistable and made is not None and len(weight.shape) == 4
        if not foldable or end.name in self.keep or made is None or made.type == "conv2d_transpose":
            return None
        return end

    def _gain(self, readers: List[GraphOp], stretch: np.ndarray) -> float:
        """Decibels by which the rounding noise behind the filters becomes smaller."""
        power = np.zeros(stretch.size)
        for op in readers:
            weight = self._value(op.input_names("Filter")[0])
            power += np.square(weight, dtype=np.float64).reshape(stretch.size, -1).sum(axis=1)
        after = float((power / stretch**2).sum())
        return 10 * float(np.log10(power.sum() / after)) if after > 0 else 0.0

    def _shrink(self, graph: Graph, op: GraphOp, weight: GraphVar, stretch: np.ndarray) -> None:
        value = self._value(weight.name)
        factor = np.repeat(stretch, value.shape[0] // stretch.size).reshape(-1, 1, 1, 1)
        graph.replace_input(op, weight, self._parameter(graph, f"{weight.name}.shrunk", value / factor))
        graph.drop_unread(weight)

    def _value(self, name: str) -> np.ndarray:
        return np.array(self.scope.find_var(name).get_tensor())

    def _parameter(self, graph: Graph, name: str, value: np.ndarray) -> GraphVar:
        return add_parameter(graph, self.scope, name, value, self.place)


def _input(op: GraphOp) -> Optional[GraphVar]:
    """What a depthwise convolution with a weight of its own reads, or None for any other op."""
    if op.type not in ("depthwise_conv2d", "conv2d") or op.attr("data_format", "NCHW") != "NCHW":
        return None
    x, weight = op.input_var("Input"), op.input_var("Filter")
    if x is None or weight is None or not weight.persistable or x.persistable or x.dtype != FP32:
        return None
    groups = op.attr("groups", 1)
    depthwise = len(weight.shape) == 4 and weight.shape[1] == 1 and groups > 1 and weight.shape[0] % groups == 0
    return x if depthwise and len(x.shape) == 4 and x.shape[1] == groups else None
