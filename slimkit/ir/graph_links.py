"""Adjacency of a ``Graph``: read once, kept up to date by every edit."""

from __future__ import annotations

from typing import Any, Dict, List

from slimkit.errors import ModelError
from slimkit.ir.graph_nodes import GraphOp, GraphVar

__all__ = ["GraphLinks"]


class GraphLinks:
    """Op and var nodes by id, versions of variables by name, and the links between them.

    Paddle's graph knows data flow only. That a variable may be overwritten when all have read it, which the order of a
    program's ops says, is kept here as control dependencies.

    Args:
        core_graph: Paddle's ``core.Graph``.
        owner: kept alive by every node; nodes live as long as Paddle's graph.
    """

    def __init__(self, core_graph: Any, owner: Any) -> None:
        self._graph = core_graph
        self._owner = owner
        self._ops: Dict[int, GraphOp] = {}
        self._vars: Dict[int, GraphVar] = {}
        self._by_name: Dict[str, List[GraphVar]] = {}
        self._read_nodes()

    def _read_nodes(self) -> None:
        # Paddle hands its nodes out as a set in no order; ids rise as ops are written, so versions come in order.
        nodes = sorted(self._graph.nodes(), key=lambda n: n.id())
        for node in nodes:
            if node.is_op() and node.op() is not None:
                self._ops[node.id()] = GraphOp(node, self._owner)
            elif node.is_var() and not node.is_ctrl_var():
                self._add_var(GraphVar(node, self._owner))
        for op in self._ops.values():
            for n in op.node.inputs:
                if not n.is_ctrl_var():
                    var = self._vars[n.id()]
                    op.inputs.append(var)
                    var.consumers.append(op)
            for n in op.node.outputs:
                if not n.is_ctrl_var():
                    var = self._vars[n.id()]
                    op.outputs.append(var)
                    var.producer = op
        for versions in list(self._by_name.values()):
            for before, after in zip(versions, versions[1:]):
                if after.producer is not None:
                    self._order_after(before, after.producer)

    def _add_var(self, var: GraphVar) -> GraphVar:
        self._vars[var.node.id()] = var
        self._by_name.setdefault(var.name, []).append(var)
        return var

    def _add_op(self, desc: Any) -> GraphOp:
        op = GraphOp(self._graph.create_op_node(desc), self._owner)
        self._ops[op.id] = op
        return op

    def _drop_if_dangling(self, var: GraphVar) -> None:
        if var.producer is None and not var.consumers and var.node.id() in self._vars:
            del self._vars[var.node.id()]
            self._by_name[var.name].remove(var)
            self._graph.remove_node(var.node)

    def _unlink_controls(self, op: GraphOp) -> None:
        for other, node in [*op.waits_for, *op.awaited_by]:
            other.awaited_by[:] = [pair for pair in other.awaited_by if pair[0] is not op]
            other.waits_for[:] = [pair for pair in other.waits_for if pair[0] is not op]
            if len(node.inputs) + len(node.outputs) <= 2:
                for n in [*node.inputs]:
                    n.remove_output(node)
                for n in [*node.outputs]:
                    n.remove_input(node)
                self._graph.remove_node(node)
            else:  # shared with further ops
                node.remove_input(op.node)
                node.remove_output(op.node)

    def _link_input(self, var: GraphVar, op: GraphOp) -> None:
        var.node.append_output(op.node)
        op.node.append_input(var.node)
        var.consumers.append(op)
        op.inputs.append(var)
        versions = self._by_name[var.name]
        if len(versions) > 1:
            following = versions[versions.index(var) + 1 :]
            writer = next((v.producer for v in following if v.producer is not None), None)
            if writer is not None and writer is not op:
                self._order(op, writer)

    def _unlink_input(self, var: GraphVar, op: GraphOp) -> None:
        var.node.remove_output(op.node)
        op.node.remove_input(var.node)
        var.consumers.remove(op)
        op.inputs.remove(var)

    def _link_output(self, op: GraphOp, var: GraphVar) -> None:
        if var.producer is not None:
            raise ModelError(
                f"The variable '{var.name}' is already written by op '{var.producer.type}'; "
                "an op that writes it again needs graph.new_version(var)."
            )
        op.node.append_output(var.node)
        var.node.append_input(op.node)
        op.outputs.append(var)
        var.producer = op
        versions = self._by_name[var.name]
        if versions[0] is not var:
            self._order_after(versions[versions.index(var) - 1], op)

    def _order_after(self, before: GraphVar, op: GraphOp) -> None:
        """Makes an op that overwrites a variable wait for the version before: its readers, else its writer."""
        others = [reader for reader in before.consumers if reader is not op]
        if not before.consumers and before.producer is not None and before.producer is not op:
            others = [before.producer]
        for other in others:
            self._order(other, op)

    def _order(self, earlier: GraphOp, later: GraphOp) -> None:
        """Makes ``later`` run after ``earlier`` though no data flows between them."""
        if any(other is later for other, _ in earlier.awaited_by):
            return
        node = self._graph.create_control_dep_var()
        earlier.node.append_output(node)
        node.append_input(earlier.node)
        node.append_output(later.node)
        later.node.append_input(node)
        earlier.awaited_by.append((later, node))
        later.waits_for.append((earlier, node))
