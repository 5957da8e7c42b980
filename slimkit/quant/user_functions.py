"""The user's own preprocess and quantize functions, grafted into the graph.

A function takes a Variable and returns one, in the words of ``paddle.static`` as PaddleSlim's tutorials write it; it
may create parameters through ``LayerHelper``. It is run once per tensor in a program of its own. Paddle 3 rejects
legacy Variables in many APIs; a function that trips over one is run on PIR values instead and translated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
import paddle

from slimkit.errors import ConfigError
from slimkit.ir.graph import Graph, GraphVar, OpRole
from slimkit.ir.guards import legacy_ir
from slimkit.ir.static_function import trace_function
from slimkit.quant.own_optimizer import graft
from slimkit.quant.passes.insert_fake_quant import TensorHook, gradient_of
from slimkit.quant.quantizers import Site, set_tensor

__all__ = ["UserFunctions"]

Function = Callable[[Any], Any]


@dataclass
class _Traced:
    """A function's program: ``block`` holds forward ops, then, from ``backward_from`` on, gradient ops."""

    block: Any
    output: str
    parameters: List[str]
    backward_from: int
    gradient_in: str = ""
    gradient_out: str = ""
    parameter_gradients: Dict[str, str] = field(default_factory=dict)


@dataclass
class _Applied:
    traced: _Traced
    names: Dict[str, GraphVar]
    x: GraphVar


class UserFunctions:
    """The functions of one ``quant_aware`` call.

    Args:
        graph: the graph they are grafted into.
        scope: gets their parameters.
        place: device of the initialisation.
        functions: hook name (``activation_preprocess`` ...) -> function.
        for_test: no gradients are made.
        executor: runs initialisation; None: a new one.
    """

    def __init__(
        self,
        graph: Graph,
        scope: Any,
        place: Any,
        functions: Mapping[str, Function],
        for_test: bool,
        executor: Optional[Any] = None,
    ) -> None:
        self.graph = graph
        self.scope = scope
        self.place = place
        self.functions = functions
        self.for_test = for_test
        self.executor = executor
        self.parameters: List[str] = []
        self._made: Dict[int, _Applied] = {}  # by the node of the variable a function returned

    def hooks(self) -> Dict[str, TensorHook]:
        """Hooks for ``InsertFakeQuant`` by its argument names."""
        return {name: self._hook(name, function) for name, function in self.functions.items()}

    def _hook(self, kind: str, function: Function) -> TensorHook:
        def apply(site: Site, x: GraphVar, bits: int) -> GraphVar:
            backward = not site.differentiable and not self.for_test
            traced = self._trace(kind, function, x, backward)
            again = sum(item.x.name == x.name for item in self._made.values())  # a tensor on two grids
            known = self._graft_forward(traced, x, f"{x.name}.{kind}{again or ''}.")
            out = known[traced.output]
            self._made[out.node.id()] = _Applied(traced, known, x)
            self.parameters += [p for p in traced.parameters if p not in self.parameters]
            return out

        return apply

    # ---------------------------------------------------------------- trace

    def _trace(self, kind: str, function: Function, x: GraphVar, backward: bool) -> _Traced:
        prefix = f"{x.name}.{kind}."
        try:
            return self._trace_legacy(function, x, prefix, backward)
        except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError) as legacy_error:
            try:
                return self._trace_pir(function, x, prefix, backward)
            except Exception as pir_error:
                name = getattr(function, "__name__", kind)
                raise ConfigError(
                    f"The function '{name}' given as {kind} failed on the tensor '{x.name}' of shape "
                    f"{list(x.shape)}: {_first_line(pir_error)} (as a legacy program: {_first_line(legacy_error)})."
                ) from pir_error

    def _trace_legacy(self, function: Function, x: GraphVar, prefix: str, backward: bool) -> _Traced:
        main, startup = paddle.static.Program(), paddle.static.Program()
        with legacy_ir(), paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard(prefix):
            if hasattr(main, "_name_generator"):  # Paddle 3: legacy programs number their own names
                main._name_generator = paddle.base.unique_name.UniqueNameGenerator(prefix)
            block = main.global_block()
            data = block.create_var(name=x.name, shape=list(x.shape), dtype=x.dtype, stop_gradient=False)
            output = function(data)
            self._initialise(startup)
            return self._differentiate(main, x.name, output.name, prefix, backward)

    def _trace_pir(self, function: Function, x: GraphVar, prefix: str, backward: bool) -> _Traced:
        found = trace_function(function, x.name, x.shape, prefix)
        for name, value in found.params.items():
            if not self._has_value(name):
                set_tensor(self.scope, name, value, self.place)
        with legacy_ir(), paddle.utils.unique_name.guard(prefix):
            return self._differentiate(found.program, x.name, found.output, prefix, backward)

    def _has_value(self, name: str) -> bool:
        held = self.scope.find_var(name)
        return held is not None and held.get_tensor()._is_initialized()

    def _initialise(self, startup: Any) -> None:
        """Runs the startup program for parameters that have no value yet (train and test program share them)."""
        names = [n for op in startup.global_block().ops for n in op.output_arg_names]
        fresh = [n for n in names if not self._has_value(n)]
        if not fresh:
            return
        kept = {n: np.array(self.scope.find_var(n).get_tensor()) for n in names if n not in fresh}
        (self.executor or paddle.static.Executor(self.place)).run(startup, scope=self.scope)
        for name, value in kept.items():
            set_tensor(self.scope, name, value, self.place)

    def _differentiate(self, main: Any, x: str, output: str, prefix: str, backward: bool) -> _Traced:
        block = main.global_block()
        parameters = [p.name for p in main.all_parameters()]
        traced = _Traced(block, output, parameters, len(block.ops))
        if not backward:
            return traced
        trainable = [p for p in main.all_parameters() if p.trainable]
        out = block.vars[output]
        with paddle.static.program_guard(main, paddle.static.Program()):
            target = block.create_var(name=f"{prefix}output@GRAD", shape=out.shape, dtype=out.dtype)
            block.vars[x].stop_gradient = False
            gradients = paddle.static.gradients([out], [block.vars[x], *trainable], [target])
        traced.gradient_in = target.name
        traced.gradient_out = gradients[0].name if gradients[0] is not None else ""
        traced.parameter_gradients = {p.name: g.name for p, g in zip(trainable, gradients[1:]) if g is not None}
        return traced

    # ---------------------------------------------------------------- graft

    def _graft_forward(self, traced: _Traced, x: GraphVar, prefix: str) -> Dict[str, GraphVar]:
        return graft(self.graph, _Ops(traced.block, 0, traced.backward_from), {x.name: x}, OpRole.FORWARD, prefix)

    def finish(self, gradients: List[Tuple[Graph, Any, str, GraphVar, GraphVar]]) -> Dict[str, GraphVar]:
        """Adds the functions' gradient ops; returns parameter -> gradient variable.

        Args:
            gradients: ``FakeQuantReport.gradients``.
        """
        parts: Dict[str, List[GraphVar]] = {}
        for graph, op, slot, before, after in gradients:
            out = gradient_of(op, slot)
            for number, item in enumerate(self._chain(before, after)):
                if out is None or not item.traced.gradient_out:
                    break
                out = self._graft_backward(graph, op, item, out, f"{out.name}.hook{number}", parts)
        result = {}
        for name, items in parts.items():
            if len(items) == 1:
                result[name] = items[0]
                continue
            total = graph.create_var(f"{name}@GRAD", items[0].shape, items[0].dtype)
            graph.insert_op("sum", {"X": items}, {"Out": total}, {}, OpRole.BACKWARD)
            result[name] = total
        return result

    def _chain(self, before: GraphVar, after: GraphVar) -> List[_Applied]:
        """The functions between a tensor and its quantized one, first applied first."""
        found: List[_Applied] = []
        waiting, seen = [after], set()
        while waiting:
            var = waiting.pop()
            item = self._made.get(var.node.id())
            if var is before or var.node.id() in seen:
                continue
            seen.add(var.node.id())
            if item is not None:
                found.insert(0, item)
                waiting = [item.x]
            elif var.producer is not None:
                waiting += var.producer.inputs
        return found

    @staticmethod
    def _graft_backward(
        graph: Graph, op: Any, item: _Applied, out: GraphVar, name: str, parts: Dict[str, List[GraphVar]]
    ) -> GraphVar:
        """Puts an item's gradient ops between ``out``'s producer and ``out``; returns the new incoming gradient."""
        incoming = graph.create_var(name, out.shape, out.dtype)
        producer = out.producer or op
        graph.replace_output(producer, out, incoming)
        known = {**item.names, item.traced.gradient_in: incoming}
        block = item.traced.block
        ops = _Ops(block, item.traced.backward_from, len(block.ops))
        grafted = graft(graph, ops, known, OpRole.BACKWARD, f"{name}.")
        graph.insert_op("assign", {"X": grafted[item.traced.gradient_out]}, {"Out": out}, {}, OpRole.BACKWARD)
        for parameter, gradient in item.traced.parameter_gradients.items():
            parts.setdefault(parameter, []).append(grafted[gradient])
        return incoming


class _Ops:
    """Some ops of a block, in the form ``graft`` reads."""

    def __init__(self, block: Any, start: int, stop: int) -> None:
        self.ops = block.ops[start:stop]
        self.vars = block.vars


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "Error" in line), lines[0] if lines else type(error).__name__)
