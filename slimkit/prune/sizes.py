"""``Sizes``: how long every axis of every tensor is before and after channels go."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from slimkit.ir.graph_nodes import GraphOp, GraphVar
from slimkit.prune.flow import Flow, tracked

__all__ = ["Sizes"]


class Sizes:
    """What rules ask when they rewrite attributes.

    Args:
        flow: the channels of every tensor.
        removed: bool [number of labels]: which go.
    """

    def __init__(self, flow: Flow, removed: np.ndarray) -> None:
        self._flow = flow
        self._removed = removed
        self.edits: List[Tuple[GraphOp, Dict[str, Any]]] = []

    def stays(self, labels: np.ndarray) -> np.ndarray:
        """bool, in the labels' shape: which channels stay."""
        return ~self._removed[labels]

    def labels(self, var: GraphVar) -> np.ndarray:
        """A tensor's labels, of its rank; all axes of length 1 when it has none."""
        labels = self._of(var)
        return np.zeros([1] * len(var.shape), np.int64) if labels is None else labels

    def _of(self, var: GraphVar) -> Optional[np.ndarray]:
        return self._flow.channels(var)

    def changed(self, var: GraphVar) -> bool:
        """Whether the tensor, or the parameter it is a view of, loses channels."""
        return self.new_shape(var) != self.old_shape(var)

    def old_shape(self, var: GraphVar) -> List[int]:
        """The shape before, -1 where it is not known."""
        return self._flow.shape(var)

    def new_shape(self, var: GraphVar) -> List[int]:
        """The shape after, -1 where it is not known."""
        shape = self.old_shape(var)
        labels = self._of(var)
        if labels is not None:
            kept = self.stays(labels)
            for axis in tracked(labels):
                others = tuple(a for a in range(labels.ndim) if a != axis)
                shape[axis] = int(kept.any(axis=others).sum())
            return shape
        view = self._flow.view(var)
        if view is not None:
            bound = self._flow.bound(view.parameter)
            for axis, inner in enumerate(view.axes):
                if inner is not None and inner in bound:
                    shape[axis] = int(self.stays(bound[inner]).sum())
        return shape

    def set_attr(self, op: GraphOp, name: str, value: Any) -> None:
        """Rewrites an attribute, when it differs."""
        if op.attr(name) != value:
            op.set_attr(name, value)
            self.edits.append((op, {name: value}))
