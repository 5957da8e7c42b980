"""``complexity``: what one run of a network costs.

The two units, defined here once and never mixed:

* **MACs**, multiply-accumulates: one product added to a sum. A convolution has one per number of its result and number
  of one filter. What papers on pruning and mobile networks call FLOPs (He et al., Li et al., Howard et al.) are MACs,
  and so are PaddleSlim's.
* **FLOPs**, floating-point operations: 2 x MACs, and every other operation on an element (bias, batch norm,
  activation, pooling, addition), each function being one operation.

Parameters are the numbers the forward pass reads from files, batch norms' running statistics among them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
from paddle import nn

from slimkit.analysis.costs import QUANTIZERS, VIEWS, WEIGHT_SLOTS, cost_of
from slimkit.analysis.op_view import NoShapeError, OpView, Shape, forward_ops, sub_block
from slimkit.analysis.shapes import InputShapes, Shapes, feed_shapes
from slimkit.analysis.sources import layer_model, model_of, parameter_shapes
from slimkit.ir import Model

__all__ = ["Complexity", "OpCost", "complexity", "count_model", "count_parameters"]

#: Of a simulated quantization only the tensor is the network's; scales and states are not.
_TENSOR_ONLY: Dict[str, Tuple[str, ...]] = dict.fromkeys(QUANTIZERS, ("X",))
#: Ops that cost nothing and whose parameters are worth a line.
_TABLES = ("lookup_table", "lookup_table_v2")


@dataclass(frozen=True)
class OpCost:
    """What one op costs.

    Attributes:
        type: of the op.
        output: its first result.
        weight: the parameter it multiplies by, None when both operands are activations or there is none.
        macs: multiply-accumulates, all turns of a loop together.
        flops: floating-point operations: ``2 * macs`` and what else it computes.
        parameters: numbers in its parameters; one that several ops read counts for the first.
        output_shape: of the first result.
    """

    type: str
    output: str
    weight: Optional[str]
    macs: int
    flops: int
    parameters: int
    output_shape: Shape


@dataclass(frozen=True)
class Complexity:
    """What one run of a network costs.

    Attributes:
        macs: multiply-accumulates.
        flops: floating-point operations, ``2 * macs`` and the others.
        parameters: numbers the network is made of.
        ops: what costs something or has parameters, in program order.
        input_shapes: feed name -> the shape it was counted for.
        uncounted: op types that no table knows, or whose shape no run showed -> how many; they count nothing.
    """

    macs: int
    flops: int
    parameters: int
    ops: List[OpCost]
    input_shapes: Dict[str, Shape] = field(default_factory=dict)
    uncounted: Dict[str, int] = field(default_factory=dict)

    def macs_of(self) -> Dict[str, int]:
        """Weight -> MACs of the ops that multiply by it."""
        found: Dict[str, int] = {}
        for op in self.ops:
            if op.weight is not None and op.macs:
                found[op.weight] = found.get(op.weight, 0) + op.macs
        return found

    def to_dict(self) -> Dict[str, Any]:
        """Plain dicts and lists, for JSON."""
        found = asdict(self)
        found["input_shapes"] = {name: list(shape) for name, shape in self.input_shapes.items()}
        for op in found["ops"]:
            op["output_shape"] = list(op["output_shape"])
        return found

    def __str__(self) -> str:
        rows: List[Tuple[str, ...]] = [("op", "weight", "output", "MACs", "FLOPs", "parameters")]
        shown = [op for op in self.ops if op.macs]
        for op in shown:
            numbers = (f"{op.macs:,}", f"{op.flops:,}", f"{op.parameters:,}")
            rows.append((op.type, op.weight or "-", "x".join(map(str, op.output_shape)), *numbers))
        others = (self.macs, self.flops, self.parameters)
        own = (sum(op.macs for op in shown), sum(op.flops for op in shown), sum(op.parameters for op in shown))
        rows.append(("others", "", "", *(f"{total - part:,}" for total, part in zip(others, own))))
        rows.append(("total", "", "", *(f"{total:,}" for total in others)))
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        lines = []
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row[:3], widths)]
            cells += [cell.rjust(width) for cell, width in zip(row[3:], widths[3:])]
            lines.append("  ".join(cells).rstrip())
        if self.uncounted:
            lines.append("not counted: " + ", ".join(f"{kind} ({count})" for kind, count in self.uncounted.items()))
        return "\n".join(lines)


def complexity(model: Any, input_shapes: InputShapes = None) -> Complexity:
    """Counts what one run of a network costs; of a training program, the forward pass.

    Ops of a loop count once a turn, and how many turns there are is found by running the network on ones; ops of a
    branch count whether or not it is taken. Simulated quantization counts nothing.

    Args:
        model: a Model, a legacy or PIR program, the path of a saved model, or a Layer.
        input_shapes: feed name -> shape; a list of shapes in the order of the feeds; or the one shape of the one
            feed. What is not given is as the program declares it, a dynamic batch being 1. Of a layer: as the
            ``inputs`` of :func:`slimkit.analysis.dygraph_flops`.

    Returns:
        The totals and the ops.

    Raises:
        ConfigError: a shape of a feed there is not.
        ModelError: a dynamic dimension is not given, or the program does not run with these shapes.
    """
    if isinstance(model, nn.Layer):
        traced, arrays = layer_model(model, input_shapes)
        return count_model(traced, None, arrays)[0]
    return count_model(model_of(model), input_shapes)[0]


def count_parameters(model: Model) -> int:
    """Returns how many numbers the parameters of the forward pass hold."""
    return sum(prod(shape) for shape in parameter_shapes(model.program.desc, _TENSOR_ONLY).values())


def count_model(
    model: Model,
    input_shapes: InputShapes = None,
    arrays: Optional[Mapping[str, np.ndarray]] = None,
    extra: Optional[Callable[[OpView], int]] = None,
) -> Tuple[Complexity, List[int]]:
    """Does the work of :func:`complexity`.

    Args:
        model: it.
        input_shapes: see there.
        arrays: values of feeds, for the run if it comes to one.
        extra: a further number to count of each op.

    Returns:
        The complexity, and ``extra`` of each of its ``ops``.
    """
    given = input_shapes
    if arrays and given is None:
        given = {name: array.shape for name, array in arrays.items()}
    feeds = feed_shapes(model, given)
    shapes = Shapes(model, feeds, arrays)
    shapes.learn(_needed(shapes))
    return _Count(shapes, extra).run(feeds)


def _needed(shapes: Shapes) -> List[str]:
    """Tensors whose shape is not known and counts, and what tells how often a loop's ops run."""
    names: Dict[str, None] = {}
    for number, desc in forward_ops(shapes.program):
        op = OpView(desc, number, shapes.of)
        try:
            counts = any(cost_of(op)[:2])
            if op.type in _TABLES:
                op.written()
            if counts and number in shapes.loops:
                names.update(dict.fromkeys(op.writes()))
        except NoShapeError:
            names.update(dict.fromkeys([*op.reads(), *op.writes()]))
    return list(names)


class _Count:
    """Goes through the ops of the forward pass once."""

    def __init__(self, shapes: Shapes, extra: Optional[Callable[[OpView], int]]) -> None:
        self._shapes, self._extra = shapes, extra
        named = parameter_shapes(shapes.program, _TENSOR_ONLY)
        self._sizes = {name: prod(shape) for name, shape in named.items()}
        self._unclaimed = dict(self._sizes)
        self._origin: Dict[str, str] = {}
        self._ops: List[OpCost] = []
        self._numbers: List[int] = []
        self._uncounted: Dict[str, int] = {}

    def run(self, feeds: Dict[str, Shape]) -> Tuple[Complexity, List[int]]:
        for number, desc in forward_ops(self._shapes.program):
            op = OpView(desc, number, self._shapes.of)
            if op.type in QUANTIZERS or op.type in VIEWS:
                self._follow(op)
            elif sub_block(desc) < 0:
                self._add(op)
        macs, flops = (sum(getattr(op, unit) for op in self._ops) for unit in ("macs", "flops"))
        total = sum(self._sizes.values())
        return Complexity(macs, flops, total, self._ops, feeds, self._uncounted), self._numbers

    def _follow(self, op: OpView) -> None:
        read = op.reads("X")
        source = self._origin.get(read[0], read[0]) if read else ""
        if source in self._sizes:
            self._origin.update(dict.fromkeys(op.writes("Out", "Y"), source))

    def _add(self, op: OpView) -> None:
        weights = [self._origin.get(name, name) for name in op.reads()]
        parameters = sum(self._unclaimed.pop(name, 0) for name in weights)
        macs, others, extra, known = self._turns(op)
        if not known:
            self._uncounted[op.type] = self._uncounted.get(op.type, 0) + 1
        if not (macs or others or parameters):
            return
        weight = self._weight(op) if macs else None
        shape = self._output_shape(op)
        output = (op.writes("Out", "Output", "Y") or op.writes() or [""])[0]
        self._ops.append(OpCost(op.type, output, weight, macs, 2 * macs + others, parameters, shape))
        self._numbers.append(extra)

    def _turns(self, op: OpView) -> Tuple[int, int, int, bool]:
        """Cost of all turns, and whether it is known."""
        macs = others = extra = 0
        for turn in range(self._shapes.turns(op.block)):
            view = op.at(turn, self._shapes)
            try:
                more = cost_of(view)
                extra += self._extra(view) if self._extra else 0
            except NoShapeError:
                return macs, others, extra, False
            macs, others = macs + more[0], others + more[1]
            if not more[2]:
                return 0, 0, 0, False
        return macs, others, extra, True

    def _weight(self, op: OpView) -> Optional[str]:
        names = [self._origin.get(name, name) for name in [*op.reads(*WEIGHT_SLOTS), *op.reads()]]
        return next((name for name in names if name in self._sizes), None)

    def _output_shape(self, op: OpView) -> Shape:
        try:
            return op.at(-1, self._shapes).written("Out", "Output", "Y")
        except (NoShapeError, IndexError):  # a branch that was not taken; an op without results
            return ()

