"""Embedding tables that ``quant_embedding`` stored as integers, brought back to float.

The lookup reads integers and a dequantize op is behind it: ``dequantize_abs_max``, a grid, or ``dequantize_log``, whose
levels are a dictionary; the table then is float again and on no grid.
"""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.numerics.symmetric import dequantize
from slimkit.quant.passes.extract_table import scope_value
from slimkit.quant.passes.read_linear import once, store_floats
from slimkit.quant.passes.read_old import take_from_behind
from slimkit.quant.table import QuantParams

__all__ = ["read_embeddings"]

_LOOKUPS = ("lookup_table", "lookup_table_v2")


def read_embeddings(
    scope: Any, graph: Graph, floats: Dict[str, np.ndarray]
) -> Dict[GraphOp, Tuple[str, QuantParams]]:
    """Makes tables float and removes the dequantize ops.

    Args:
        scope: holds the tables.
        graph: one block; is edited.
        floats: name -> scales of the stored tensors that are float already.

    Returns:
        Lookup op -> slot and grid of its table, where there is a grid.

    Raises:
        ModelError: a dequantize op that is not behind a lookup.
    """
    found: Dict[GraphOp, Tuple[str, QuantParams]] = {}
    for op in graph.ops("dequantize_abs_max", "dequantize_log"):
        rows = op.input_var("X")
        lookup = rows.producer if rows is not None else None
        table = lookup.input_var("W") if lookup is not None and lookup.type in _LOOKUPS else None
        if lookup is None or table is None or not table.persistable:
            raise ModelError(
                f"{op.type} of '{op.input_names('X')[0]}' is not behind an embedding ({', '.join(_LOOKUPS)}); export "
                "the model again without it."
            )
        if op.type == "dequantize_log":
            _read_log(scope, op, table, floats)
        else:
            found[lookup] = ("W", _read_abs_max(scope, op, table, floats))
        take_from_behind(graph, op, lookup)
    return found


def _read_abs_max(scope: Any, op: GraphOp, table: GraphVar, floats: Dict[str, np.ndarray]) -> QuantParams:
    scale = np.asarray(scope_value(scope, op.input_names("Scale")[0]), np.float32).reshape(-1)
    bits = round(float(np.log2(op.attr("max_range") + 1))) + 1
    if once(table, scale, floats):
        store_floats(scope, table, dequantize(scope_value(scope, table.name), scale[0], bits))
    return QuantParams(table.name, scale, bits, is_weight=True)


def _read_log(scope: Any, op: GraphOp, table: GraphVar, floats: Dict[str, np.ndarray]) -> None:
    levels = scope_value(scope, op.input_names("Dict")[0])
    if once(table, levels, floats):
        q = scope_value(scope, table.name).astype(int)
        store_floats(scope, table, np.where(q < 0, -1, 1) * levels[q % 128])  # 128 less where it is negative
