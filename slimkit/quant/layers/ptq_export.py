"""A calibrated dygraph network -> float ``Model`` + ``QuantTable``.

While the network is traced, its observers emit a fake-quant op with their threshold at the input of each layer. These
ops leave the program again as grids in the table; the weights' grids are read from the traced weights.
"""

from __future__ import annotations

import logging
import zlib  # noqa: F401  (must precede paddle)
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Set

import numpy as np
from paddle import nn

from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.ir.guards import legacy_ir
from slimkit.quant.layers.ptq_observer import TRACE, Calibration, observers
from slimkit.quant.layers.ptq_quantizers import AbsmaxQuantizer, BaseQuantizer
from slimkit.quant.layers.save import trace_quantized
from slimkit.quant.ops import WEIGHT_OPS, weight_axis
from slimkit.quant.passes.extract_table import scope_value
from slimkit.quant.passes.fold_on_grid import fold_on_grid
from slimkit.quant.passes.read_observers import grid_key
from slimkit.quant.ptq_table import weight_grid
from slimkit.quant.quantized import Quantized
from slimkit.quant.table import QuantizedOp, QuantTable
from slimkit.quant.weights_on_grid import put_on_grids

__all__ = ["traced_quantized"]

_logger = logging.getLogger("slimkit")

#: Ops that move values or repeat them: what they give lies on the grid of what they get.
_MOVING = frozenset("pad2d pad3d reshape2 transpose2 squeeze2 unsqueeze2 flatten_contiguous_range assign slice".split())


def traced_quantized(layer: nn.Layer, input_spec: Sequence[Any], calibration: Calibration) -> Quantized:
    """Traces a network in eval mode.

    Args:
        layer: the network; its observers have their thresholds.
        input_spec: one ``InputSpec`` (or a nest of them) per argument of forward.
        calibration: shared by the observers.

    Returns:
        The float model, batch norm folded where asked for, and its grids.

    Raises:
        ModelError: the network cannot be traced.
    """
    with calibration.switched(TRACE):
        quantized = trace_quantized(layer, input_spec)
    model, table = quantized.model, quantized.table
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        for part in graph.all_graphs():
            _complete(part, table, model.scope, calibration.weight)
        stay = _not_folded(graph, layer) if calibration.listed else set()
    used = {key for op in table.ops for key in op.inputs.values()}
    table.params = {key: params for key, params in table.params.items() if key in used}
    if calibration.fuse:
        put_on_grids(model, table)  # the integers of the simulation, whatever batch norm multiplies them by
        quantized = fold_on_grid(quantized, stay)
    return quantized


def _complete(graph: Graph, table: QuantTable, scope: Any, weight: BaseQuantizer) -> None:
    """Rows of products get their weight's grid; rows of ops between a layer's input and its product go."""
    rows: Dict[str, QuantizedOp] = {row.output: row for row in table.ops}
    for op in graph.ops():
        row = rows.get(op.outputs[0].name) if op.outputs else None
        if row is None:
            continue
        table.ops.remove(row)
        products = _products(op)
        if not products:
            reason = "what its layer computes of the input before the product is not known to keep the grid"
            table.skipped.append({"op": row.output, "type": op.type, "layer": "", "reason": reason})
            _logger.warning("%s '%s' stays float: %s.", op.type, row.output, reason)
        for product, var in products:
            key = next(iter(row.inputs.values()))
            name = product.outputs[0].name
            if any(other.output == name for other in table.ops):
                continue
            if product is not op:
                key = grid_key(table, replace(table.params[key], tensor=var.name))
            table.ops.append(_row(product, key, table, scope, weight))


def _products(op: GraphOp) -> List[Any]:
    """(product with a stored weight, the tensor it reads) behind an op that reads a layer's input."""
    if op.type in WEIGHT_OPS:
        activation = op.input_var(WEIGHT_OPS[op.type].activation)
        return [(op, activation)] if activation is not None and _stored(op) is not None else []
    out = op.output_var("Out")
    if op.type not in _MOVING or out is None:
        return []
    return [found for reader in out.consumers for found in _products(reader)]


def _stored(op: GraphOp) -> Optional[GraphVar]:
    weight = op.input_var(WEIGHT_OPS[op.type].weight)
    return weight if weight is not None and weight.persistable and weight.producer is None else None


def _row(op: GraphOp, key: str, table: QuantTable, scope: Any, quantizer: BaseQuantizer) -> QuantizedOp:
    kind, weight = WEIGHT_OPS[op.type], _stored(op)
    value = np.asarray(scope_value(scope, weight.name), np.float32)  # type: ignore[union-attr]
    axis = weight_axis(op.type, bool(op.attr("trans_y", False) or op.attr("transpose_Y", False)))
    along = None if isinstance(quantizer, AbsmaxQuantizer) else axis
    params = weight_grid(weight.name, value, quantizer.quant_bits, along)  # type: ignore[union-attr]
    return QuantizedOp(op.type, op.outputs[0].name, {kind.activation: key, kind.weight: grid_key(table, params)})


def _not_folded(graph: Graph, layer: nn.Layer) -> Set[str]:
    """Results of the products whose batch norm stays: all but those of the ``fuse_list``."""
    held: Dict[str, Any] = {seen.weight.name: observer for seen, observer in _listed(layer)}
    stay, folded = set(), set()
    for part in graph.all_graphs():
        for op in part.ops(*WEIGHT_OPS):
            weight, out = op.input_var(WEIGHT_OPS[op.type].weight), op.output_var(WEIGHT_OPS[op.type].output)
            observer = held.get(weight.name) if weight is not None else None
            if observer is not None and _statistics(out) == observer.norm._mean.name:
                folded.add(observer.path)
            elif out is not None:
                stay.add(out.name)
    for observer in held.values():
        if observer.path not in folded:
            _logger.warning(
                "fuse_list: '%s' keeps its batch norm, which does not follow it in the program or is not the only one "
                "that reads its result.", observer.path,
            )  # fmt: skip
    return stay


def _listed(layer: nn.Layer) -> List[Any]:
    return [(seen, observer) for seen, observer in observers(layer) if observer.norm is not None]


def _statistics(var: Optional[GraphVar]) -> Optional[str]:
    """The name of the mean of the batch norm that alone reads a product's result, or that result with a bias."""
    while var is not None and len(var.consumers) == 1:
        following = var.consumers[0]
        if following.type == "batch_norm":
            return following.input_names("Mean")[0]
        var = following.output_var("Out") if following.type == "elementwise_add" else None
    return None
