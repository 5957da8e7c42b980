"""Batch norm folded into products whose weights lie on grids already: the integers stay, the scales take the factor.

A weight ``q s / n`` whose channels are multiplied by ``g`` is ``(sign(g) q) (s |g|) / n``: on its grid again, up to
float32's rounding. Runtimes that fold batch norm only into float weights (ONNX Runtime) need this for models that were
quantized before batch norm was folded, as PaddleSlim's are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Collection, List, Set, Tuple

import numpy as np

from slimkit.ir.graph import Graph, GraphOp
from slimkit.ir.guards import legacy_ir
from slimkit.quant.ops import WEIGHT_OPS, weight_axis
from slimkit.quant.passes.extract_table import scope_value
from slimkit.quant.passes.fold_linear import FoldLinear
from slimkit.quant.quantized import Quantized
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable

__all__ = ["fold_on_grid"]


def fold_on_grid(quantized: Quantized, stay: Collection[str] = ()) -> Quantized:
    """A copy with batch norm and other channel-wise linear ops folded, as :class:`FoldLinear` does, and its table.

    What lies between a product and a tensor that is read on a grid of its own stays, as do products with an affine
    weight.

    Args:
        quantized: its weights lie on their grids.
        stay: names of tensors behind which nothing is folded.
    """
    model = quantized.model.clone(copy_params=True)
    table = QuantTable(dict(quantized.table.params), list(quantized.table.ops), list(quantized.table.skipped))
    read = {table.params[key].tensor for op in table.ops for key in op.inputs.values()}
    affine = {op.output for op in table.ops for key in op.inputs.values() if _is_affine_weight(table.params[key])}
    keep: Set[str] = {*model.fetches, *read, *affine, *stay}
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        before = {op.outputs[0].name: _weight(op) for _, op in _products(graph)}
        keep.update(name for op in table.ops for name in op.outputs if name not in before)
        FoldLinear(model.scope, keep).apply(graph)
        rows = {op.output: i for i, op in enumerate(table.ops)}
        for _, op in _products(graph):
            index = rows.get(op.outputs[0].name)
            if index is not None:
                table.ops[index] = _rescaled(model.scope, op, table.ops[index], before[op.outputs[0].name], table)
        model.program = graph.to_program()
    used = {key for op in table.ops for key in (*op.inputs.values(), *op.outputs.values())}
    table.params = {key: params for key, params in table.params.items() if key in used}
    return Quantized(model, table)


def _products(graph: Graph) -> List[Tuple[Graph, GraphOp]]:
    return [(part, op) for part in graph.all_graphs() for op in part.ops(*WEIGHT_OPS) if op.outputs]


def _weight(op: GraphOp) -> str:
    names = op.input_names(WEIGHT_OPS[op.type].weight)
    return names[0] if names else ""


def _is_affine_weight(params: QuantParams) -> bool:
    return params.is_weight and not params.symmetric


def _rescaled(scope: Any, op: GraphOp, row: QuantizedOp, before: str, table: QuantTable) -> QuantizedOp:
    """The row of a product whose weight was folded into."""
    slot, after = WEIGHT_OPS[op.type].weight, _weight(op)
    key = row.inputs.get(slot)
    if key is None or after == before:
        return row
    params = table.params[key]
    axis = weight_axis(op.type, bool(op.attr("trans_y", False) or op.attr("transpose_Y", False)))
    old, new = (scope_value(scope, name).astype(np.float64) for name in (before, after))
    gain = np.abs(_gain(old, new, axis))
    scale = np.broadcast_to(params.scale, gain.shape) * gain
    folded = replace(params, tensor=after, scale=scale.astype(np.float32), axis=axis)
    outputs = {name: k for name, k in row.outputs.items() if name != row.output}  # that one is no result any more
    return replace(row, inputs={**row.inputs, slot: table.add(folded)}, outputs=outputs)


def _gain(old: np.ndarray, new: np.ndarray, axis: int) -> np.ndarray:
    """The factor of each channel: ``<new, old> / <old, old>``; 1 for a channel of zeros."""
    others = tuple(d for d in range(old.ndim) if d != axis)
    norm = (old * old).sum(others)
    return np.where(norm > 0, (new * old).sum(others) / np.where(norm > 0, norm, 1), 1.0)
