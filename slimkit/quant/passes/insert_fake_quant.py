"""Pass: quantize-dequantize ops before the inputs of quantizable ops, in forward and, rewired, in backward.

Source: Jacob et al. 2018 (arXiv 1712.05877), section 3: simulated quantization in the forward pass; gradients reach
the float master weights straight through.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.quant.config import QuantConfig
from slimkit.quant.quantizers import ACTIVATION_QUANTIZERS, WEIGHT_QUANTIZERS, Site
from slimkit.quant.selection import Selected, Selection, select

__all__ = ["FakeQuantReport", "InsertFakeQuant", "TensorHook", "gradient_of"]

#: Replaces the built-in quantizer, or comes before it: (site, tensor, bits) -> tensor; None: not for this tensor.
TensorHook = Callable[[Site, GraphVar, int], Optional[GraphVar]]


@dataclass
class FakeQuantReport:
    """What the pass did.

    Attributes:
        quantized: a row per op: type, output, input tensors by slot, bits.
        tensors: tensor -> its quantized-dequantized tensor.
        skipped: a row per quantizable op left float, with the reason.
        unused_rules: rules that matched nothing.
        states: persistable state variables that were made.
        gradients: what a pass that gives a quantizer a gradient of its own continues from; (gradient op, slot of the
            quantized tensor, the tensor before, after). Not for display.
    """

    quantized: List[Dict[str, Any]] = field(default_factory=list)
    tensors: Dict[str, str] = field(default_factory=dict)
    skipped: List[Dict[str, str]] = field(default_factory=list)
    unused_rules: List[str] = field(default_factory=list)
    states: List[str] = field(default_factory=list)
    gradients: List[Tuple[Graph, GraphOp, str, GraphVar, GraphVar]] = field(default_factory=list)


@dataclass
class _Rewired:
    """A forward op's tensors before and after, by slot (further ones of a slot: ``X:1``), for its gradient op."""

    op: GraphOp
    before: Dict[str, GraphVar]
    after: Dict[str, GraphVar]


class InsertFakeQuant:
    """Quantization-aware training as a graph pass.

    Args:
        config: what to quantize and how.
        scope: gets the state variables (scales); existing ones are kept.
        place: where they live.
        for_test: scales are read and not moved.
        layers: parameter name -> layer path, for rules on layers.
        activation_preprocess, activation_quantize, weight_preprocess, weight_quantize: hooks.
    """

    def __init__(
        self,
        config: QuantConfig,
        scope: Any,
        place: Any,
        for_test: bool = False,
        layers: Optional[Mapping[str, str]] = None,
        activation_preprocess: Optional[TensorHook] = None,
        activation_quantize: Optional[TensorHook] = None,
        weight_preprocess: Optional[TensorHook] = None,
        weight_quantize: Optional[TensorHook] = None,
    ) -> None:
        self.config = config
        self.scope = scope
        self.place = place
        self.for_test = for_test
        self.layers = layers
        self.hooks = {
            False: (activation_preprocess, activation_quantize),
            True: (weight_preprocess, weight_quantize),
        }

    def apply(self, graph: Graph) -> FakeQuantReport:
        """Edits the graph (and its sub-graphs) in place."""
        report = FakeQuantReport()
        for part in graph.all_graphs():
            self._apply_block(part, report)
        return report

    def _apply_block(self, graph: Graph, report: FakeQuantReport) -> None:
        selection: Selection = select(graph, self.config, self.layers)
        backward = any(op.is_backward for op in graph.ops())
        site = Site(
            graph,
            self.scope,
            self.place,
            training=not self.for_test and self.config.scale_trainable,
            differentiable=not backward and not self.for_test,
            moving_rate=self.config.moving_rate,
            window=self.config.window_size,
        )
        done: Dict[Tuple[int, int, int], GraphVar] = {}
        rewired = [self._quantize_op(site, item, done, report) for item in selection.chosen]
        if backward:
            report.gradients += _rewire_backward(graph, rewired)
        report.skipped += selection.skipped
        report.unused_rules += selection.unused_rules
        report.states += site.states

    def _quantize_op(
        self, site: Site, item: Selected, done: Dict[Tuple[int, int, int], GraphVar], report: FakeQuantReport
    ) -> _Rewired:
        op = item.op
        row: Dict[str, Any] = {"type": op.type, "output": op.outputs[0].name, "inputs": {}, "bits": {}}
        rewired = _Rewired(op, {}, {})
        tensors = [(slot, var, item.activation_bits, 0, False) for slot, var in item.activations]
        if item.weight is not None:
            tensors.append((item.weight_slot, item.weight, item.weight_bits, item.weight_axis, True))
        for slot, var, bits, axis, is_weight in tensors:
            key = (var.node.id(), bits, axis if is_weight else -1)
            if key not in done:
                done[key] = self._quantize_tensor(site, var, bits, axis, is_weight)
            new = done[key]
            if var in op.inputs:
                site.graph.replace_input(op, var, new)
            name = _free(slot, row["inputs"])
            rewired.before[name], rewired.after[name] = var, new
            row["inputs"][name], row["bits"][name] = var.name, bits
            report.tensors[var.name] = new.name
        report.quantized.append(row)
        return rewired

    def _quantize_tensor(self, site: Site, var: GraphVar, bits: int, axis: int, is_weight: bool) -> GraphVar:
        preprocess, quantize = self.hooks[is_weight]
        if preprocess is not None:
            var = preprocess(site, var, bits) or var
        if quantize is not None:
            quantized = quantize(site, var, bits)
            if quantized is not None:
                return quantized
        if is_weight:
            return WEIGHT_QUANTIZERS[self.config.weight_quantize_type](site, var, bits, axis)
        return ACTIVATION_QUANTIZERS[self.config.activation_quantize_type](site, var, bits, axis)


def _free(slot: str, taken: Mapping[str, Any]) -> str:
    """``slot`` for its first tensor, ``slot:1`` for the second and so on."""
    number = sum(name.split(":")[0] == slot for name in taken)
    return f"{slot}:{number}" if number else slot


def gradient_of(op: GraphOp, slot: str) -> Optional[GraphVar]:
    """The gradient a gradient op writes for a forward slot (``X`` or ``X:1``), or None when nobody needs it."""
    name, _, index = slot.partition(":")
    return op.output_var(f"{name}@GRAD", int(index or 0))


def _rewire_backward(graph: Graph, rewired: List[_Rewired]) -> List[Tuple[Graph, GraphOp, str, GraphVar, GraphVar]]:
    """Gradient ops of quantized ops read what the forward op read: the dequantized tensors.

    A gradient op belongs to the forward op whose output's gradient it reads.
    """
    gradient_ops: Dict[Tuple[str, str], List[GraphOp]] = {}
    for op in graph.ops():
        if op.is_backward and op.type.endswith("_grad"):
            for name in {v.name.split("@GRAD")[0] for v in op.inputs if "@GRAD" in v.name}:
                gradient_ops.setdefault((op.type, name), []).append(op)
    found = []
    for item in rewired:
        made = dict.fromkeys(v.name for v in item.op.outputs)
        ops = [op for name in made for op in gradient_ops.get((f"{item.op.type}_grad", name), [])]
        for op in dict.fromkeys(ops):
            for slot, old in item.before.items():
                if old in op.inputs:
                    graph.replace_input(op, old, item.after[slot])
                found.append((graph, op, slot, old, item.after[slot]))
    return found
