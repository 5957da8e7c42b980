"""``Graph``: the editing view of a program.

A ``Graph`` stands on Paddle's ``IrGraph`` (a ``core.Graph``: op nodes and var nodes in SSA form, so a variable
that is written twice has two nodes of one name). Paddle's own Python ``IrGraph`` answers every question by
walking all nodes, which makes a pass quadratic. Here adjacency is read once and kept up to date by every edit:
``producer``, ``consumers``, ``insert_op``, ``replace_input``, ``replace_output`` and ``remove_op`` cost O(degree).

Training programs are graphs like any other: backward and optimizer ops are nodes with a role.
"""

from __future__ import annotations

import zlib  # noqa: F401  (zlib must be loaded before paddle: its bundled copy crashes gzip otherwise)
from typing import Any, Iterable, Iterator, List, Mapping, Optional

from paddle.base import core
from paddle.base.framework import IrGraph, Program

from slimkit.errors import ModelError
from slimkit.ir.graph_links import GraphLinks
from slimkit.ir.graph_nodes import GraphOp, GraphVar, OpRole, VarLike, as_list
from slimkit.ir.guards import legacy_ir
from slimkit.ir.parameters import copy_program_info, hoist_parameters, promote_to_parameter

__all__ = ["Graph", "GraphOp", "GraphVar", "OpRole", "promote_to_parameter"]


class Graph(GraphLinks):
    """The editing view of one program (all its blocks; ``sub_graphs`` are the blocks of control flow).

    Args:
        program: a legacy ``paddle.static.Program``. It is not changed; ``to_program`` gives the edited copy.
        for_test: marks the graph as one for inference.
    """

    def __init__(
        self, program: Program, for_test: bool = False, *, _core: Any = None, _root: Optional[Graph] = None
    ) -> None:
        if not isinstance(program, Program):
            raise ModelError(
                f"Graph needs a legacy paddle.static.Program, got {type(program).__name__}; "
                "load or trace the model with slimkit.ir.Model and pass model.program."
            )
        self.for_test = for_test
        self._source = program
        made = core.Graph(program.desc) if _core is None else _core
        super().__init__(made, (made, _root._graph if _root is not None else None))
        self.sub_graphs: List[Graph] = []
        if _root is None:
            self.sub_graphs = [
                Graph(program, for_test, _core=self._graph.get_sub_graph(i), _root=self)
                for i in range(1, self._graph.sub_graph_size())
            ]

    # ---------------------------------------------------------------- queries

    def all_graphs(self) -> Iterator[Graph]:
        """This graph and those of its control-flow blocks."""
        yield self
        yield from self.sub_graphs

    def ops(self, *types: str) -> List[GraphOp]:
        """Ops in topological order; with ``types``, only those."""
        order = [n.id() for n in core.topology_sort(self._graph)]
        found = [self._ops[i] for i in order if i in self._ops]
        return [op for op in found if op.type in types] if types else found

    def vars(self, name: Optional[str] = None) -> List[GraphVar]:
        """All var nodes, or every version of the variable ``name``, first to last."""
        return list(self._by_name.get(name, [])) if name is not None else list(self._vars.values())

    def var(self, name: str) -> GraphVar:
        """The last version of a variable.

        Raises:
            ModelError: there is no such variable.
        """
        versions = self._by_name.get(name)
        if not versions:
            raise ModelError(f"The graph has no variable '{name}'; graph.vars() lists what there is.")
        return versions[-1]

    def has_var(self, name: str) -> bool:
        return bool(self._by_name.get(name))

    @staticmethod
    def producer(var: GraphVar) -> Optional[GraphOp]:
        return var.producer

    @staticmethod
    def consumers(var: GraphVar) -> List[GraphOp]:
        return list(var.consumers)

    def has_op(self, op: GraphOp) -> bool:
        """Whether the op is still in the graph."""
        return self._ops.get(op.id) is op

    def __len__(self) -> int:
        return len(self._ops)

    # ---------------------------------------------------------------- edits

    def create_var(
        self,
        name: str,
        shape: Iterable[int],
        dtype: Any,
        persistable: bool = False,
        stop_gradient: bool = False,
    ) -> GraphVar:
        """Adds a dense-tensor variable (a new version when the name exists).

        Args:
            name: its name.
            shape: its shape, -1 for a dynamic dimension.
            dtype: a ``core.VarDesc.VarType`` such as FP32.
            persistable: whether it lives in the scope across runs.
            stop_gradient: whether a later ``append_backward`` stops here.
        """
        desc = core.VarDesc(name)
        desc.set_type(core.VarDesc.VarType.DENSE_TENSOR)
        desc.set_shape(list(shape))
        desc.set_dtype(dtype)
        desc.set_persistable(persistable)
        desc.set_stop_gradient(stop_gradient)
        return self._add_var(GraphVar(self._graph.create_var_node(desc), self._owner))

    def new_version(self, var: GraphVar) -> GraphVar:
        """A further version of ``var``, for an op that writes it in place."""
        return self._add_var(GraphVar(self._graph.create_var_node(var.desc), self._owner))

    def insert_op(
        self,
        op_type: str,
        inputs: Mapping[str, VarLike],
        outputs: Mapping[str, VarLike],
        attrs: Optional[Mapping[str, Any]] = None,
        role: int = OpRole.FORWARD,
    ) -> GraphOp:
        """Adds an op between existing variables.

        Args:
            op_type: legacy op type.
            inputs: slot -> var or vars.
            outputs: slot -> var or vars.
            attrs: attributes; Python floats, ints, bools, strings and lists of them.
            role: its ``op_role``.
        """
        desc = core.OpDesc()
        desc.set_type(op_type)
        for slot, read in inputs.items():
            desc.set_input(slot, [v.name for v in as_list(read)])
        for slot, written in outputs.items():
            desc.set_output(slot, [v.name for v in as_list(written)])
        for key, value in (attrs or {}).items():
            desc._set_attr(key, value)
        desc._set_attr("op_role", role)
        desc._set_attr("op_device", "")
        op = self._add_op(desc)
        for read in inputs.values():
            for var in as_list(read):
                if var not in op.inputs:
                    self._link_input(var, op)
        for written in outputs.values():
            for var in as_list(written):
                self._link_output(op, var)
        return op

    def insert_op_desc(self, desc: Any, inputs: Mapping[str, GraphVar], outputs: Mapping[str, GraphVar]) -> GraphOp:
        """Adds a copy of an op description; ``inputs``/``outputs`` map the names in it to variables here."""
        copy = core.OpDesc()
        copy.copy_from(desc)
        for name in desc.input_arg_names():
            if name in inputs and inputs[name].name != name:
                copy._rename_input(name, inputs[name].name)
        for name in desc.output_arg_names():
            if name in outputs and outputs[name].name != name:
                copy._rename_output(name, outputs[name].name)
        op = self._add_op(copy)
        for name in dict.fromkeys(desc.input_arg_names()):
            if name in inputs and inputs[name] not in op.inputs:
                self._link_input(inputs[name], op)
        for name in dict.fromkeys(desc.output_arg_names()):
            if name in outputs and outputs[name] not in op.outputs:
                self._link_output(op, outputs[name])
        return op

    def replace_input(self, op: GraphOp, old: GraphVar, new: GraphVar) -> None:
        """Makes ``op`` read ``new`` wherever it read ``old``."""
        self._unlink_input(old, op)
        op.desc._rename_input(old.name, new.name)
        if new not in op.inputs:
            self._link_input(new, op)

    def replace_output(self, op: GraphOp, old: GraphVar, new: GraphVar) -> None:
        """Makes ``op`` write ``new`` where it wrote ``old``."""
        op.outputs.remove(old)
        old.producer = None
        op.node.remove_output(old.node)
        old.node.remove_input(op.node)
        op.desc._rename_output(old.name, new.name)
        self._link_output(op, new)

    def replace_all_uses(self, old: GraphVar, new: GraphVar) -> None:
        """Makes every consumer of ``old`` read ``new``."""
        for op in list(old.consumers):
            self.replace_input(op, old, new)

    def make_constant(self, var: GraphVar) -> None:
        """Cuts a variable off from its producer and makes it persistable; its value then comes from the scope."""
        if var.producer is not None:
            op = var.producer
            op.outputs.remove(var)
            op.node.remove_output(var.node)
            var.node.remove_input(op.node)
            var.producer = None
        var.desc.set_persistable(True)
        var.desc.set_stop_gradient(True)

    def drop_unread(self, var: GraphVar) -> None:
        """Removes a variable that no op writes or reads; others stay."""
        self._drop_if_dangling(var)

    def remove_op(self, op: GraphOp, remove_dangling: bool = True) -> None:
        """Removes an op; with ``remove_dangling`` also the variables nobody else produces or reads."""
        for var in list(op.inputs):
            self._unlink_input(var, op)
            if remove_dangling:
                self._drop_if_dangling(var)
        for var in list(op.outputs):
            op.outputs.remove(var)
            var.producer = None
            op.node.remove_output(var.node)
            var.node.remove_input(op.node)
            if remove_dangling:
                self._drop_if_dangling(var)
        self._unlink_controls(op)
        del self._ops[op.id]
        self._graph.remove_node(op.node)

    # ---------------------------------------------------------------- out

    def ir_graph(self) -> IrGraph:
        """Paddle's own ``IrGraph`` over the same nodes."""
        return IrGraph(self._graph, for_test=self.for_test)

    def to_program(self) -> Program:
        """The edited program; parameters keep ``trainable``, regularizer and learning-rate multiplier."""
        if core.has_circle(self._graph):
            raise ModelError("The edited graph has a cycle; a pass linked an op's output to its own input.")
        with legacy_ir():
            program = self.ir_graph().to_program()
            hoist_parameters(program)
            copy_program_info(self._source, program)
        return program
