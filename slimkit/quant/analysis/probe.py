"""Programs that compute one op quantized, and of the rest of the float model only what depends on it.

Beside each quantized op stand copies of it: one that reads its weight from the grid, one its activations, one both.
They are made by the exporters' own pass, so their arithmetic is that of the export. The program for one op takes the
float values of all that does not depend on the op from the scope, where one run of the float model put them, and goes
on from the copy that reads both: half a run on average for a chain of ops, and no weights are copied.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Set, Tuple

import numpy as np
import paddle
from paddle.base import core

from slimkit.ir.graph import Graph, GraphOp
from slimkit.ir.guards import legacy_ir
from slimkit.ir.params import shared_scope
from slimkit.quant.passes.freeze import FreezeOnnx
from slimkit.quant.quantized import Quantized
from slimkit.quant.table import QuantizedOp, QuantTable

__all__ = ["ACTIVATION", "BOTH", "FLOAT", "WEIGHT", "Probe", "Probes"]

#: What a copy's output is called: the op's own with one of these behind it.
FLOAT, WEIGHT, ACTIVATION, BOTH = "@probe.float", "@probe.weight", "@probe.activation", "@probe.both"


class Probe:
    """The program of one op.

    Attributes:
        output: the op.
        needs: variables of the float model that have to be in the scope.
        kinds: copies of the op that there are, such as ``BOTH``.
        results: those of the model's fetches that depend on the op.
    """

    def __init__(self, output: str, program: Any, scope: Any, needs: List[str], kinds: List[str], results: List[str]):
        self.output, self.needs, self.kinds, self.results = output, needs, kinds, results
        self._program, self._scope = program, scope
        self._executor: Any = None

    def run(self, place: Any = None) -> Dict[str, np.ndarray]:
        """Kind -> the output of that copy, and result -> its value with this op alone quantized."""
        names = [*(self.output + kind for kind in self.kinds), *self.results]
        with legacy_ir():
            if self._executor is None:
                self._executor = paddle.static.Executor(place or paddle.CPUPlace())
            found = self._executor.run(self._program, fetch_list=names, scope=self._scope, return_numpy=True)
        return dict(zip([*self.kinds, *self.results], found))


class Probes:
    """Makes the programs for a model's ops.

    Args:
        quantized: float model and table; neither is changed.
        place: device.

    Attributes:
        possible: outputs of the ops that have one: none in a program with control flow, or that writes a variable
            twice.
    """

    def __init__(self, quantized: Quantized, place: Any = None) -> None:
        self._model, self._table = quantized.model, quantized.table
        self._place = place or paddle.CPUPlace()
        self._kinds: Dict[str, List[str]] = {}
        self._scope: Any = None
        if _simple(quantized.model.program):
            self._scope = shared_scope(quantized.model)
            with legacy_ir():
                self._index(self._with_copies())
        self.possible: Set[str] = set(self._kinds)

    def fill(self, values: Mapping[str, np.ndarray]) -> None:
        """Puts values of the float model where probes read them."""
        for name, value in values.items():
            self._scope.var(name).get_tensor().set(np.asarray(value, order="C"), self._place)

    def drop(self, names: Iterable[str]) -> None:
        """Lets such values go."""
        self._scope.erase(list(names))

    def needs(self, output: str) -> List[str]:
        """The variables of the float model that the program for an op reads from the scope."""
        copies, behind, _ = self._parts(output)
        made = {name for index in (*copies, *behind) for name in self._ops[index].output_arg_names()} | {output}
        read = {name for index in (*copies, *behind) for name in self._ops[index].input_arg_names()}
        return sorted(read - made - self._persistable)

    def probe(self, output: str) -> Probe:
        """The program that quantizes one of the ``possible`` ops."""
        copies, behind, results = self._parts(output)
        needs = self.needs(output)
        with legacy_ir():
            program = self._extract(copies, output, behind, needs)
        return Probe(output, program, self._scope, needs, self._kinds[output], results)

    def _parts(self, output: str) -> Tuple[List[int], List[int], List[str]]:
        """The ops that compute the copies, those behind the op that lead to results, and these results."""
        copies = self._copied([output + kind for kind in self._kinds[output]])
        dependent, names = [], {output}
        for index in self._originals:
            op = self._ops[index]
            if index != self._producer[output] and names.intersection(op.input_arg_names()):
                dependent.append(index)
                names.update(op.output_arg_names())
        results = [name for name in self._model.fetches if name in names]
        wanted, behind = set(results), []
        for index in reversed(dependent):
            if wanted.intersection(self._ops[index].output_arg_names()):
                wanted.update(self._ops[index].input_arg_names())
                behind.append(index)
        return copies, behind[::-1], results

    # ---------------------------------------------------------------- making programs

    def _with_copies(self) -> Any:
        graph = Graph(self._model.program, for_test=True)
        copies = QuantTable(dict(self._table.params))
        by_output = {op.output: op for op in self._table.ops}
        for op in graph.ops():
            row = by_output.get(op.outputs[0].name) if op.outputs else None
            if row is not None and row.type == op.type:
                copies.ops += self._copies(graph, op, row)
        FreezeOnnx(copies, self._scope, self._place).apply(graph)
        return graph.to_program()

    def _copies(self, graph: Graph, op: GraphOp, row: QuantizedOp) -> List[QuantizedOp]:
        weights = {slot: key for slot, key in row.inputs.items() if self._table.params[key].is_weight}
        others = {slot: key for slot, key in row.inputs.items() if slot not in weights}
        wanted: Dict[str, Mapping[str, str]] = {FLOAT: {}, BOTH: row.inputs}
        if weights and others:
            wanted.update({WEIGHT: weights, ACTIVATION: others})
        self._kinds[row.output] = list(wanted)
        for kind in wanted:
            outputs = {v.name: graph.create_var(v.name + kind, v.shape, v.dtype) for v in op.outputs}
            graph.insert_op_desc(op.desc, {v.name: v for v in op.inputs}, outputs)
        return [QuantizedOp(row.type, row.output + kind, inputs) for kind, inputs in wanted.items()]

    def _index(self, program: Any) -> None:
        """Ops by what they write, and which of them the float model has."""
        self._program, block = program, program.desc.block(0)
        self._ops = [block.op(i) for i in range(block.op_size())]
        self._producer = {name: i for i, op in enumerate(self._ops) for name in op.output_arg_names()}
        own = {name for op in self._model.program.global_block().ops for name in op.output_arg_names}
        self._originals = [i for i, op in enumerate(self._ops) if own.issuperset(op.output_arg_names())]
        self._persistable = {var.name() for var in block.all_vars() if var.persistable()}

    def _copied(self, targets: List[str]) -> List[int]:
        """The ops, not the float model's, that targets are computed by, in order."""
        originals, found, ahead = set(self._originals), set(), list(targets)
        while ahead:
            index = self._producer.get(ahead.pop())
            if index is not None and index not in originals and index not in found:
                found.add(index)
                ahead += self._ops[index].input_arg_names()
        return sorted(found)

    def _extract(self, copies: List[int], output: str, behind: List[int], needs: List[str]) -> Any:
        """A program of the copies, the op's output taken from the one that reads both, and the ops behind it."""
        used = [self._ops[index] for index in (*copies, *behind)]
        names = {name for op in used for name in (*op.input_arg_names(), *op.output_arg_names())}
        desc = core.ProgramDesc()  # not a copy made smaller: that keeps the memory of all ops
        block = desc.block(0)
        for name in sorted(names | {output}):
            _declare(block, self._program.desc.block(0).find_var(name.encode()), name in needs)
        for index in copies:
            block.append_op().copy_from(self._ops[index])
        if behind or output in self._model.fetches:
            assign = block.append_op()
            assign.set_type("assign")
            assign.set_input("X", [output + BOTH])
            assign.set_output("Out", [output])
        for index in behind:
            block.append_op().copy_from(self._ops[index])
        return paddle.static.Program._construct_from_desc(desc)


def _declare(block: Any, var: Any, in_scope: bool) -> None:
    """Declares a variable as another program has it, or as one whose value is in the scope."""
    declared = block.var(var.name().encode())
    declared.set_type(var.type())
    declared.set_shape(var.shape())
    declared.set_dtype(var.dtype())
    declared.set_persistable(in_scope or var.persistable())


def _simple(program: Any) -> bool:
    """Whether a program has no control flow, and no variable that is written twice or is no plain tensor."""
    block = program.global_block()
    written = [name for op in block.ops for name in op.output_arg_names]
    inner = [name for name in written if block.has_var(name) and not block.var(name).persistable]
    plain = all(block.var(name).type == core.VarDesc.VarType.DENSE_TENSOR for name in inner)
    return program.num_blocks == 1 and plain and len(set(inner)) == len(inner)
