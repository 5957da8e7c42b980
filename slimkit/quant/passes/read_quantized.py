"""Pass: takes the quantize and dequantize ops out of a deployed graph and puts what they knew into a ``QuantTable``.

The inverse of the freeze passes, for both formats and for unfrozen training graphs, written by slimkit or PaddleSlim.
The grids are found per op by small readers; undoing the ops is :class:`ExtractTable`'s work.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Collection, Dict, List, Optional, Set, Tuple

import numpy as np

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.quant.passes.extract_table import INTEGER_QUANTIZERS, ExtractTable, Found, Sources, is_quantizer
from slimkit.quant.passes.read_affine import read_affine
from slimkit.quant.passes.read_embedding import read_embeddings
from slimkit.quant.passes.read_linear import fold_integer_casts, linear_params, linear_source
from slimkit.quant.passes.read_observers import RemoveObservers, grid_key, name_results, strip_notes
from slimkit.quant.passes.read_old import DEQUANTIZERS, OldWeights
from slimkit.quant.table import QuantParams, QuantTable

__all__ = ["ReadQuantized"]


class ReadQuantized(ExtractTable):
    """See the module.

    Args:
        scope: holds scales and weights; weights become float in it.
        results: names of the model's results.
    """

    def __init__(self, scope: Any, results: Collection[str] = ()) -> None:
        super().__init__(scope)
        self.results = set(results)
        self.floats: Dict[str, np.ndarray] = {}  # weight brought back -> its scales

    def apply(self, graph: Graph) -> QuantTable:
        """Edits the graph in place and returns the table.

        Raises:
            ModelError: a quantize op of an unknown kind, or one that lacks its counterpart.
        """
        self.integers: Set[str] = set()
        self.seen: Dict[str, QuantParams] = {}
        self.own: Dict[GraphOp, Tuple[str, QuantParams]] = {}
        if not graph.sub_graphs:
            _name_apart(graph)
        for part in graph.all_graphs():
            self.integers.update(fold_integer_casts(self.scope, part))
            self.seen.update(RemoveObservers(self.scope, self.results).apply(part))
            self.own.update(OldWeights(self.scope, self.floats).apply(part))
            self.own.update(read_embeddings(self.scope, part, self.floats))
        table = super().apply(graph)
        for part in graph.all_graphs():
            for op in part.ops():
                if is_quantizer(op.type):
                    raise ModelError(
                        f"{op.type} '{op.outputs[0].name if op.outputs else ''}' is a quantize op slimkit does not "
                        "know or one without its counterpart; export the model again in the onnx or old format."
                    )
            name_results(part, table, self.seen)
            strip_notes(part)
        return table

    def _apply_block(self, graph: Graph, table: QuantTable) -> None:
        for op, (slot, params) in self.own.items():
            if graph.has_op(op):
                self.stored[op] = {slot: self._key(table, params)}
        super()._apply_block(graph, table)

    def _key(self, table: QuantTable, params: QuantParams) -> str:
        return grid_key(table, params)

    def _read(self, graph: Graph, op: GraphOp) -> Optional[Found]:
        if op.type == "dequantize_linear":
            x, out = linear_source(op), op.output_var("Y")
            return (linear_params(self.scope, op, x, self.floats), x, out) if out is not None else None
        if op.type in INTEGER_QUANTIZERS or op.type in DEQUANTIZERS:
            return self._read_integers(op)
        affine = read_affine(self.scope, op, self.integers)
        return affine if affine is not None else super()._read(graph, op)

    def _read_integers(self, op: GraphOp) -> Optional[Found]:
        """fake_quantize: read as integers by an op with a weight, or the first half of a pair with fake_dequantize."""
        out, quantizer = op.output_var("Out"), op
        if op.type in DEQUANTIZERS:
            q = op.input_var("X")
            if q is None or q.producer is None or q.producer.type not in INTEGER_QUANTIZERS:
                return None
            quantizer = q.producer
        elif out is not None and all(reader.type in DEQUANTIZERS for reader in out.consumers):
            return None
        x = quantizer.input_var("X")
        return (self._symmetric(quantizer, x), x, out) if x is not None and out is not None else None

    def _prepare(self, graph: Graph, op: GraphOp, found: Found, sources: Sources, table: QuantTable) -> Found:
        """A tensor quantized twice, or one that is a result, keeps an ``assign`` that reads it on its grid."""
        params, x, out = found
        before = sources.get(x.node.id())
        if before is not None and np.array_equal(table.params[before[1]].scale, params.scale):
            params, x = table.params[before[1]], before[0]
        elif before is not None:
            copy = graph.create_var(f"{x.name}.once", x.shape, x.dtype)
            for reader in [r for r in x.consumers if is_quantizer(r.type) and out in (r.outputs + _after(r))]:
                graph.replace_input(reader, x, copy)
            graph.insert_op("assign", {"X": x}, {"Out": copy})
            params, x = replace(params, tensor=copy.name), copy
        if out.name in self.results:
            graph.insert_op("assign", {"X": out}, {"Out": graph.new_version(out)})
        return params, x, out


def _name_apart(graph: Graph) -> None:
    """A variable written twice gets a name for each value: PaddleSlim's files scale their results in place, twice,
    and converters that read a program through PIR abort on it."""
    for name in {var.name for var in graph.vars() if not var.persistable}:
        for number, version in enumerate(graph.vars(name)[:-1]):
            writer = version.producer
            if writer is not None:
                new = graph.create_var(f"{name}.{number}", version.shape, version.dtype)
                graph.replace_output(writer, version, new)
                graph.replace_all_uses(version, new)
                graph.drop_unread(version)


def _after(op: GraphOp) -> List[GraphVar]:
    """What the ops behind an op give."""
    return [out for var in op.outputs for reader in var.consumers for out in reader.outputs]
