"""The layers that AdaRound rounds, and the statistics it needs of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import numpy as np

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph, GraphOp
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.quant.linear_form import LinearForm, linear_form
from slimkit.quant.ops import WEIGHT_OPS
from slimkit.quant.passes.freeze_weights import along
from slimkit.quant.table import QuantParams, QuantTable

__all__ = ["Layer", "Reader", "layers_of"]

#: Places of a layer that are looked at in all: four for each input of a group, within these bounds.
LEAST_PLACES, MOST_PLACES = 2048, 8192


@dataclass
class Reader:
    """An op that reads the weight.

    Attributes:
        output: name of its result.
        activation: slot of its other input.
        form: how it multiplies.
    """

    output: str
    activation: str
    form: LinearForm


@dataclass
class Layer:
    """A weight, the ops that read it, and what is known of their input and target.

    Attributes:
        params: the weight's grid.
        shape: of the weight.
        readers: at least one.
        gram, cross: sums of ``x x^T`` and ``y x^T`` over the places seen, ``[groups, inputs, inputs]`` and
            ``[groups, outputs, inputs]``; empty before ``start`` and after ``clear``.
        x_sum, y_sum: sums of x and y, ``[groups, inputs]`` and ``[groups, outputs]``.
        square: sum of ``y y``.
        seen: number of places.
    """

    params: QuantParams
    shape: Tuple[int, ...]
    readers: List[Reader]
    gram: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    cross: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    x_sum: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    y_sum: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    square: float = 0.0
    seen: int = 0

    @property
    def form(self) -> LinearForm:
        return self.readers[0].form

    def steps(self) -> np.ndarray:
        """The distance of neighbouring levels, float32 ``[groups, outputs, inputs]``."""
        step = along(self.params.scale, len(self.shape), self.params.axis) / np.float32(self.params.qmax)
        return self.form.matrix(np.broadcast_to(step, self.shape))

    def start(self) -> None:
        groups, outputs, inputs = self.steps().shape
        self.gram = np.zeros((groups, inputs, inputs), np.float32)
        self.cross = np.zeros((groups, outputs, inputs), np.float32)
        self.x_sum, self.y_sum = np.zeros((groups, inputs), np.float32), np.zeros((groups, outputs), np.float32)
        self.square, self.seen = 0.0, 0

    def clear(self) -> None:
        self.gram = self.cross = np.zeros(0, np.float32)

    def places(self, batches: int) -> int:
        """How many places of a reader's result to look at in each of so many batches."""
        wanted = min(max(4 * self.gram.shape[1], LEAST_PLACES), MOST_PLACES)
        return -(-wanted // (batches * len(self.readers)))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Adds samples: inputs ``[groups, n, inputs]`` and targets ``[groups, n, outputs]``."""
        self.gram += np.matmul(x.transpose(0, 2, 1), x)
        self.cross += np.matmul(y.transpose(0, 2, 1), x)
        self.x_sum += x.sum(axis=1)
        self.y_sum += y.sum(axis=1)
        self.square += float(np.square(y, dtype=np.float64).sum())
        self.seen += x.shape[1]


def layers_of(model: Model, table: QuantTable) -> List[Layer]:
    """The weights whose rounding can be learned, in the order of the program.

    Left out are weights on an affine grid or on two grids, those that an op outside of the table or in a control-flow
    block reads, and those of ops that are no product of a matrix and rows of their input.
    """
    keys: Dict[str, List[str]] = {}
    for key, params in table.params.items():
        keys.setdefault(params.tensor, []).append(key)
    rows = {(row.type, row.output): row for row in table.ops}
    readers: Dict[str, List[Tuple[GraphOp, bool]]] = {}
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        for part in graph.all_graphs():
            for op in part.ops():
                row = rows.get((op.type, op.outputs[0].name)) if op.outputs else None
                for var in op.inputs:
                    if var.persistable and var.name in keys:
                        listed = row is not None and keys[var.name][0] in row.inputs.values()
                        listed = listed and part is graph and op.type in WEIGHT_OPS
                        readers.setdefault(var.name, []).append((op, listed))
        found = []
        for name, ops in readers.items():
            params = table.params[keys[name][0]]
            plain = params.is_weight and params.symmetric and len(keys[name]) == 1
            if plain and all(listed for _, listed in ops):
                found.append(_layer(params, model.params[name].shape, [op for op, _ in ops]))
    return [layer for layer in found if layer is not None]


def _layer(params: QuantParams, shape: Tuple[int, ...], ops: List[GraphOp]) -> Optional[Layer]:
    try:
        readers = [Reader(op.outputs[0].name, WEIGHT_OPS[op.type].activation, linear_form(op, shape)) for op in ops]
    except ModelError:
        return None
    layer = Layer(params, shape, readers)
    steps = layer.steps()
    marks = np.arange(int(np.prod(shape))).reshape(shape)
    alike = all(np.array_equal(reader.form.matrix(marks), layer.form.matrix(marks)) for reader in readers)
    return layer if alike and np.all(steps == steps[:, :, :1]) and np.all(steps > 0) else None
