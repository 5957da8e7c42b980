"""``Flow``: channel numbers carried from op to op, and from ops to the parameters they are stored in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from slimkit.ir.graph import Graph
from slimkit.ir.graph_nodes import GraphOp, GraphVar
from slimkit.prune.labels import Labels
from slimkit.prune.wording import an

__all__ = ["ALONE", "Binding", "Flow", "View", "tracked"]

#: Ops that give one number to which a channel of zeros adds nothing, such as a penalty on weights in a loss.
_SUMS = ("reduce_sum", "p_norm", "frobenius_norm", "squared_l2_norm")


#: Why the one channel of a tensor stays.
ALONE = "a tensor has this channel alone"


def tracked(labels: np.ndarray) -> List[int]:
    """The axes of a label array along which channels differ."""
    return [axis for axis, length in enumerate(labels.shape) if length > 1]


@dataclass(frozen=True)
class View:
    """A parameter as an op sees it, perhaps through ops that only rearrange its axes.

    Attributes:
        parameter: its name.
        axes: for each axis of the view the parameter's axis, or None for one of length 1.
    """

    parameter: str
    axes: Tuple[Optional[int], ...]


@dataclass(frozen=True)
class Binding:
    """An axis of a parameter and the channels along it: ``labels`` is as long as the axis."""

    parameter: str
    axis: int
    labels: np.ndarray
    role: str
    op_type: str
    op_output: str


class Flow:
    """The channels of every tensor of a graph.

    A tensor's channels are an array of label numbers with the tensor's rank; its length along an axis is 1 where
    channels do not differ. ``None`` stands for a tensor without channels that could go.

    Args:
        graph: the network.
        editable: attributes of ops, such as the sections of a split, may be rewritten when channels go; False for the
            trace of a layer whose forward is code.
        layer_norm: channels may go although a layer_norm takes its mean over them.
        from_shapes: where ``editable`` is False: the code computes the numbers in its reshapes from shapes, so they
            follow although the trace has them as constants.
    """

    def __init__(
        self, graph: Graph, editable: bool = True, layer_norm: bool = False, from_shapes: bool = False
    ) -> None:
        self.graph = graph
        self.editable = editable
        self.layer_norm = layer_norm
        self.shapes_stay = not editable and not from_shapes
        self.labels = Labels()
        self.bindings: List[Binding] = []
        self._bound: Dict[Tuple[str, int], np.ndarray] = {}
        self._binders: Dict[Tuple[str, int], Set[int]] = {}
        self._channels: Dict[int, np.ndarray] = {}
        self._views: Dict[int, View] = {}

    # ---------------------------------------------------------------- tensors

    def channels(self, var: Optional[GraphVar]) -> Optional[np.ndarray]:
        """The label array of a tensor."""
        return None if var is None else self._channels.get(var.node.id())

    def set(self, var: Optional[GraphVar], labels: Optional[np.ndarray]) -> None:
        """Gives a tensor its label array."""
        if var is None or labels is None:
            return
        if labels.size > 1:
            self._channels[var.node.id()] = labels
        elif self.rank(var):
            self.labels.fix(labels, ALONE)

    def along(self, var: Optional[GraphVar], axis: int, reason: str) -> Optional[np.ndarray]:
        """The labels along one axis, after making sure that no other axis of the tensor shrinks.

        Returns:
            int64 [length of the axis], or None.
        """
        labels = self.channels(var)
        if labels is None:
            return None
        axis %= labels.ndim
        for other in tracked(labels):
            if other != axis:
                labels = self.hold(labels, other, reason)
                if labels is None:
                    return None
        return labels.ravel() if labels.shape[axis] > 1 else None

    def hold(self, labels: Optional[np.ndarray], axis: int, reason: str) -> Optional[np.ndarray]:
        """Says that a tensor must not shrink along an axis.

        Channels which spread over several axes, as attention heads do, go together along it; those which lie along it
        alone must stay.

        Returns:
            The labels with the axis reduced to length 1; None when nothing is left that could go.
        """
        if labels is None:
            return None
        axis %= labels.ndim
        if labels.shape[axis] == 1:
            return labels
        if len(tracked(labels)) == 1:
            self.labels.fix(labels, reason)
            return None
        return self.labels.unite_along(labels, axis)

    def fix(self, var: Optional[GraphVar], reason: str) -> None:
        """Says that no channel of a tensor can go."""
        labels = self.channels(var)
        if labels is not None:
            self.labels.fix(labels, reason)
        view = None if var is None else self.view(var)
        for axis in () if view is None else view.axes:
            bound = None if view is None or axis is None else self._bound.get((view.parameter, axis))
            if bound is not None:
                self.labels.fix(bound, reason)

    @staticmethod
    def rank(var: GraphVar) -> int:
        return len(var.shape)

    def shape(self, var: GraphVar) -> List[int]:
        """A tensor's shape, -1 where it is not known; along channels it is always known."""
        shape = list(var.shape)
        labels = self.channels(var)
        if labels is not None:
            for axis in tracked(labels):
                shape[axis] = labels.shape[axis]
        return shape

    # ---------------------------------------------------------------- parameters

    def view(self, var: Optional[GraphVar]) -> Optional[View]:
        """The parameter that a tensor is, or None."""
        if var is None:
            return None
        if var.producer is None and var.persistable:
            return View(var.name, tuple(range(len(var.shape))))
        return self._views.get(var.node.id())

    def set_view(self, var: Optional[GraphVar], view: Optional[View]) -> None:
        if var is not None and view is not None:
            self._views[var.node.id()] = view

    def bind(self, var: Optional[GraphVar], axis: int, labels: np.ndarray, role: str, op: GraphOp) -> None:
        """Says that an axis of a parameter holds channels. A parameter that several ops use joins their channels.

        Args:
            var: the parameter or a view of it.
            axis: of the view.
            labels: int64 [length of the axis].
            role: see ``Member``.
            op: the op that uses it.
        """
        view = self.view(var)
        inner = None if view is None else view.axes[axis]
        if var is None or view is None or inner is None:
            self.labels.fix(labels, f"the {op.type} op that reads or makes them takes no stored parameter")
            return
        known = self._bound.get((view.parameter, inner))
        self._binders.setdefault((view.parameter, inner), set()).add(op.id)
        if known is None:
            self._bound[(view.parameter, inner)] = labels
        elif known.size == labels.size:
            self.labels.unite(known, labels)
        else:
            reason = f"'{view.parameter}' is shared by ops that see it in different lengths"
            self.labels.fix(known, reason)
            self.labels.fix(labels, reason)
            return
        output = op.outputs[0].name if op.outputs else ""
        self.bindings.append(Binding(view.parameter, inner, labels, role, op.type, output))

    def bound(self, parameter: str) -> Dict[int, np.ndarray]:
        """Axis -> labels of a parameter."""
        return {axis: labels for (name, axis), labels in self._bound.items() if name == parameter}

    def check_shared(self) -> None:
        """A parameter that several ops use shrinks only along axes that all of them let go."""
        users: Dict[str, List[GraphOp]] = {}
        for op in self.graph.ops():
            if op.is_forward and op.type not in ("feed", "fetch") and not _sums_all(op):
                read, passed = (
                    {view.parameter for view in map(self.view, variables) if view is not None}
                    for variables in (op.inputs, op.outputs)
                )
                for name in read - passed:
                    users.setdefault(name, []).append(op)
        for (name, axis), labels in self._bound.items():
            other = next((op for op in users.get(name, ()) if op.id not in self._binders[name, axis]), None)
            if other is not None:
                self.labels.fix(labels, f"'{name}' also serves {an(other.type)} op, where the channels stay")

    # ---------------------------------------------------------------- common to rules

    def fix_inputs(self, op: GraphOp, reason: str, but: Sequence[Optional[GraphVar]] = ()) -> None:
        """Says that no channel which an op reads can go."""
        for var in op.inputs:
            if not any(var is other for other in but):
                self.fix(var, reason)

    def arrays(self) -> List[np.ndarray]:
        """The label arrays of all tensors, each once, in program order."""
        return list({id(labels): labels for labels in self._channels.values()}.values())

    def grids(self) -> List[np.ndarray]:
        """The label arrays that spread over several axes, in program order."""
        return [labels for labels in self._channels.values() if len(tracked(labels)) > 1]


def _sums_all(op: GraphOp) -> bool:
    """Whether an op reads all of a parameter in a way that its length does not matter to."""
    return op.type in ("shape", "fetch") or (op.type in _SUMS and all(math.prod(var.shape) == 1 for var in op.outputs))
