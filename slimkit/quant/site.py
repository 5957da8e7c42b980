"""Where quantizers are put: the graph, its scope and state variables, and the names they get."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from paddle.base import core

from slimkit.ir.graph import Graph, GraphVar
from slimkit.ir.params import set_tensor

__all__ = ["FP32", "INT64", "Site", "add_parameter", "quantized_name", "set_tensor", "suffix"]

FP32 = core.VarDesc.VarType.FP32
INT64 = core.VarDesc.VarType.INT64


def add_parameter(graph: Graph, scope: Any, name: str, value: np.ndarray, place: Any) -> GraphVar:
    """A new float32 parameter of a graph with its value in the scope; a name in use gets a number."""
    number, wanted = 1, name
    while graph.has_var(name):
        number += 1
        name = f"{wanted}.{number}"
    set_tensor(scope, name, np.ascontiguousarray(value, np.float32).reshape(np.shape(value)), place)
    return graph.create_var(name, np.shape(value), FP32, persistable=True, stop_gradient=True)


@dataclass
class Site:
    """Where quantizers of one pass are put, and with what settings.

    Attributes:
        graph: the graph that is edited.
        scope: holds the state variables.
        place: where state lives.
        training: scales move; otherwise they are read.
        differentiable: the program has no backward ops yet, so every op put in must have a gradient.
        moving_rate: k of the moving average.
        window: steps in the window types.
        states: names of the persistable variables made, in order.
    """

    graph: Graph
    scope: Any
    place: Any
    training: bool
    differentiable: bool
    moving_rate: float
    window: int
    states: List[str] = field(default_factory=list)

    def state(self, name: str, value: np.ndarray) -> GraphVar:
        """A persistable variable; its value in the scope is kept if it has one (train and test program share it)."""
        held = self.scope.find_var(name)
        if held is None or not held.get_tensor()._is_initialized():
            set_tensor(self.scope, name, value, self.place)
        if self.graph.has_var(name):
            return self.graph.var(name)
        self.states.append(name)
        dtype = INT64 if value.dtype == np.int64 else FP32
        return self.graph.create_var(name, value.shape, dtype, persistable=True, stop_gradient=True)

    def temp(
        self, name: str, like: Optional[GraphVar] = None, shape: Tuple[int, ...] = (1,), dtype: Any = FP32
    ) -> GraphVar:
        """A temporary; ``like`` gives its shape and dtype. A name in use gets a number (one weight on two axes)."""
        if like is not None:
            shape, dtype = like.shape, like.dtype
        wanted, number = name, 1
        while self.graph.has_var(name):
            number += 1
            name = f"{wanted}.{number}"
        return self.graph.create_var(name, shape, dtype)

    def op(self, op_type: str, out: GraphVar, attrs: Optional[Dict[str, Any]] = None, **inputs: Any) -> GraphVar:
        """Adds an op with one output ``Out`` and returns it."""
        self.graph.insert_op(op_type, inputs, {"Out": out}, attrs)
        return out


def quantized_name(name: str, bits: int) -> str:
    """Name of the quantized-dequantized tensor (PaddleSlim: ``x.quantized.dequantized``)."""
    return f"{name}.quantized.dequantized" if bits == 8 else f"{name}.quantized{bits}.dequantized"


def suffix(bits: int) -> str:
    return "" if bits == 8 else str(bits)
