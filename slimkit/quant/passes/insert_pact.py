"""Pass: PACT, a trainable clipping level before each activation quantizer.

Source: Choi et al. 2018, "PACT: Parameterized Clipping Activation for Quantized Neural Networks" (arXiv 1805.06085).

    y  = clip(x, -alpha, alpha)                                  two-sided form, on any quantized activation
    y  = min(relu(x), alpha)                                     the paper's form (eq. 1), on outputs of ReLU
    yq = round(y * (n-1) / alpha) * alpha / (n-1)                eq. 2, here with n = 2**(bits-1) signed levels
    dL/dx     = dL/dyq * [|x| <= alpha]                          straight through, inside the range
    dL/dalpha = sum(dL/dyq * sign(x) * [|x| > alpha])            eq. 3 and its mirror image

alpha is the quantizer's threshold itself, so clipping and quantizing are one op, and an exported model has alpha as
the activation's scale and no trace of PACT. Two departures from the paper: the grid is symmetric and signed, as the
runtimes' int8 is, also behind a ReLU; and the ReLU itself stays, so that readers of it which are not quantized (a
residual add, a squeeze-and-excite pool) see it unclipped.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

import numpy as np

from slimkit.ir.graph import Graph, GraphOp, GraphVar, OpRole
from slimkit.quant.passes.insert_fake_quant import gradient_of
from slimkit.quant.quantizers import FP32, Site, fixed_scale

__all__ = ["ALPHA_FLOOR", "DEFAULT_ALPHA", "Pact"]

#: alpha before anything was observed; ``QatTrainer.initialise`` and ``initialise_scales`` replace it by one from data.
DEFAULT_ALPHA = 8.0
#: alpha is kept at or above this after each update; at 0 a layer would be dead for good.
ALPHA_FLOOR = 1e-3

_RELUS = ("relu", "relu6", "leaky_relu")


class Pact:
    """PACT over one graph: ``quantize`` while fake-quant ops are inserted, ``finish`` for backward and optimizer.

    Args:
        form: ``two_sided`` or ``relu``.
        initial: alpha by tensor name, where known.
        alpha_of: name of the parameter for a tensor's name.
    """

    def __init__(
        self,
        form: str = "two_sided",
        initial: Optional[Dict[str, float]] = None,
        alpha_of: Callable[[str], str] = lambda name: f"{name}@alpha",
    ) -> None:
        self.form = form
        self.initial = initial or {}
        self.alpha_of = alpha_of
        self.alphas: Dict[str, GraphVar] = {}

    def quantize(self, site: Site, x: GraphVar, bits: int) -> Optional[GraphVar]:
        """Clips and quantizes a tensor; None when the form does not apply to it."""
        if x.producer is None and x.desc.stop_gradient():
            return None  # a feed: no gradient comes this far, so its alpha could not be trained
        if self.form == "relu" and (x.producer is None or x.producer.type not in _RELUS):
            return None
        name = self.alpha_of(x.name)
        start = np.full(1, self.initial.get(x.name, DEFAULT_ALPHA), np.float32)
        alpha = site.state(name, start)
        self.alphas[name] = alpha
        if site.differentiable:
            alpha.desc.set_stop_gradient(False)
            x = self._clip(site, x, alpha)
        return fixed_scale(site, x, alpha, bits)

    @staticmethod
    def _clip(site: Site, x: GraphVar, alpha: GraphVar) -> GraphVar:
        """The clip as ops whose gradients, also alpha's, ``append_backward`` knows."""
        upper = site.op("elementwise_min", site.temp(f"{x.name}@upper", x), {"axis": -1}, X=x, Y=alpha)
        minus = site.op("scale", site.temp(f"{x.name}@minus_alpha"), {"scale": -1.0}, X=alpha)
        return site.op("elementwise_max", site.temp(f"{x.name}@clipped", x), {"axis": -1}, X=upper, Y=minus)

    def finish(self, gradients: List[Any]) -> Dict[str, GraphVar]:
        """Adds the gradient ops; returns alpha's name -> its gradient variable.

        Args:
            gradients: ``FakeQuantReport.gradients``.
        """
        parts: Dict[str, List[GraphVar]] = {}
        graph: Optional[Graph] = None
        for graph, op, slot, before, after in gradients:
            alpha = self.alphas.get(self.alpha_of(before.name))
            out = gradient_of(op, slot)
            if alpha is None or out is None or after.producer is None:
                continue
            latest = graph.var(alpha.name)
            parts.setdefault(alpha.name, []).append(self._backward(graph, op, out, before, after, latest))
        return {name: self._total(graph, name, items) for name, items in parts.items()} if graph is not None else {}

    @staticmethod
    def _backward(
        graph: Graph, op: GraphOp, out: GraphVar, x: GraphVar, quantized: GraphVar, alpha: GraphVar
    ) -> GraphVar:
        """Masks the gradient that ``op`` gives and returns this reader's part of dL/dalpha, shape [1]."""
        role, base = OpRole.BACKWARD, out.name
        incoming = graph.create_var(f"{base}.pact", x.shape, x.dtype)
        graph.replace_output(op, out, incoming)

        def add(
            op_type: str, name: str, like: Optional[GraphVar], attrs: Dict[str, Any], **inputs: GraphVar
        ) -> GraphVar:
            new = graph.create_var(name, like.shape if like is not None else (1,), FP32)
            graph.insert_op(op_type, inputs, {"Out": new}, attrs, role)
            return new

        minus = add("scale", f"{base}.minus_alpha", None, {"scale": -1.0}, X=alpha)
        graph.insert_op(
            "clip_grad",
            {"X": x, "Out@GRAD": incoming, "Min": minus, "Max": alpha},
            {"X@GRAD": out},
            {"min": 0.0, "max": 0.0},
            role,
        )
        # Where |x| > alpha the quantized value is alpha * sign(x), elsewhere the difference is 0.
        clipped = add("elementwise_sub", f"{base}.clipped", x, {"axis": -1}, X=incoming, Y=out)
        signed = add("elementwise_mul", f"{base}.signed", x, {"axis": -1}, X=clipped, Y=quantized)
        total = graph.create_var(f"{base}.alpha_sum", (), FP32)
        graph.insert_op(
            "reduce_sum",
            {"X": signed},
            {"Out": total},
            {"reduce_all": True, "keep_dim": False, "dim": [0]},
            role,
        )
        return add("elementwise_div", f"{base}.alpha_grad", None, {"axis": -1}, X=total, Y=alpha)

    @staticmethod
    def _total(graph: Graph, name: str, parts: List[GraphVar]) -> GraphVar:
        if len(parts) == 1:
            return parts[0]
        out = graph.create_var(f"{name}@GRAD", (1,), FP32)
        graph.insert_op("sum", {"X": parts}, {"Out": out}, {}, OpRole.BACKWARD)
        return out
