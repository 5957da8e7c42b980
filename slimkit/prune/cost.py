"""``CostModel``: what a network would cost under a plan, without pruning it."""

from __future__ import annotations

from math import prod
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import ConfigError, suggestion
from slimkit.prune.groups import Groups
from slimkit.prune.plan import Plan

__all__ = ["UNITS", "CostModel"]

#: What can be counted, by the names that configs use.
UNITS = ("macs", "flops", "parameters")


class CostModel:
    """Multiply-accumulates, floating-point operations and parameters of a network under any plan.

    The multiply-accumulates of an op are proportional to the size of its weight: a sum is as long as the weight has
    inputs, and there are as many as it has outputs. Everything else is proportional to the op's result, or to what it
    reads when the result has no channels, as behind a sum over them. No program is touched, so that a search may ask
    thousands of times.

    Args:
        complexity: a :class:`slimkit.analysis.Complexity` of the network.
        groups: of the network.
        shapes: name -> shape of every parameter, or -> array.
        channels: a :class:`slimkit.prune.channels.Channels` of the network, which :meth:`of` makes; without it only
            multiply-accumulates and parameters are known.
    """

    def __init__(self, complexity: Any, groups: Groups, shapes: Mapping[str, Any], channels: Any = None) -> None:
        self.complexity = complexity
        self.groups = groups
        self._shapes = {name: tuple(int(n) for n in getattr(shapes[name], "shape", shapes[name])) for name in shapes}
        self._starts = np.cumsum([0] + [group.size for group in groups])  # units of all groups in one row
        self._tensors: List[Optional[np.ndarray]] = []
        if channels is not None:
            self._tensors = _tensors(channels, [op.output for op in complexity.ops], self._starts)

    @classmethod
    def of(cls, model: Any, groups: Optional[Groups] = None, input_shapes: Any = None) -> CostModel:
        """Counts a model.

        Args:
            model: a :class:`slimkit.ir.Model`.
            groups: its groups, when they are known; plans must be made from :attr:`groups`.
            input_shapes: see :func:`slimkit.analysis.complexity`.

        Raises:
            ConfigError, ModelError: see there.
        """
        from slimkit.analysis import complexity
        from slimkit.ir import Graph, legacy_ir
        from slimkit.prune.channels import Channels

        how = {} if groups is None else {name: getattr(groups, name) for name in ("editable", "layer_norm")}
        with legacy_ir():
            channels = Channels(Graph(model.program), model.fetches, **how)
            shapes = {var.name: var.shape for var in model.program.list_vars() if var.persistable and _has_shape(var)}
        found = complexity(model, input_shapes)
        return cls(found, groups if groups is not None else channels.groups, shapes, channels)

    def macs(self, plan: Optional[Plan] = None) -> int:
        """Multiply-accumulates of what a plan leaves; None: of the whole network."""
        if plan is None:
            return int(self.complexity.macs)
        return sum(macs for macs, _ in self._per_op(plan, others=False))

    def flops(self, plan: Optional[Plan] = None) -> int:
        """Floating-point operations of what a plan leaves; None: of the whole network.

        Raises:
            ConfigError: the model was made without ``channels``.
        """
        if plan is None:
            return int(self.complexity.flops)
        if not self._tensors:
            raise ConfigError(
                "The FLOPs under a plan are known to a CostModel made by CostModel.of(model) only; make it so, or use "
                "MACs."
            )
        return sum(2 * macs + rest for macs, rest in self._per_op(plan, others=True))

    def parameters(self, plan: Optional[Plan] = None) -> int:
        """Numbers in the parameters of what a plan leaves; None: of the whole network."""
        total = int(self.complexity.parameters)
        if plan is None:
            return total
        for name, axes in plan.slices().items():
            if name in self._shapes:
                total -= prod(self._shapes[name]) - self._kept_size(name, axes)
        return total

    def value(self, unit: str, plan: Optional[Plan] = None) -> int:
        """One of :data:`UNITS` by name.

        Raises:
            ConfigError: there is no such unit.
        """
        if unit not in UNITS:
            raise ConfigError(f"'{unit}' cannot be counted; what can is {', '.join(UNITS)}{suggestion(unit, UNITS)}")
        return int(getattr(self, unit)(plan))

    def _kept_size(self, name: str, axes: Mapping[int, np.ndarray]) -> int:
        shape = list(self._shapes[name])
        for axis, indices in axes.items():
            shape[axis] -= len(indices)
        return prod(shape)

    def _per_op(self, plan: Plan, others: bool) -> List[Tuple[int, int]]:
        """Multiply-accumulates and other operations of every op."""
        slices = plan.slices()
        stays = np.ones(self._starts[-1] + 1, bool)  # the last stands for -1: stays
        for start, group in zip(self._starts.tolist(), self.groups):
            if group.name in plan.removed:
                stays[start + plan.removed[group.name]] = False
        kept: Dict[int, int] = {}

        def of_tensor(place: int, number: int) -> int:
            units = self._tensors[place] if self._tensors else None
            if units is None or not number:
                return number
            if id(units) not in kept:
                kept[id(units)] = int(stays[units].sum())
            return number * kept[id(units)] // units.size

        found = []
        for place, op in enumerate(self.complexity.ops):
            macs = op.macs
            if op.weight not in self._shapes:
                macs = of_tensor(place, macs)
            elif op.weight in slices:
                macs = macs * self._kept_size(op.weight, slices[op.weight]) // prod(self._shapes[op.weight])
            found.append((macs, of_tensor(place, op.flops - 2 * op.macs) if others else 0))
        return found


def _has_shape(var: Any) -> bool:
    from paddle.base import core

    return bool(var.type == core.VarDesc.VarType.DENSE_TENSOR)


def _tensors(channels: Any, names: Sequence[str], starts: np.ndarray) -> List[Optional[np.ndarray]]:
    """For each op's result, or what the op reads, the units of its channels in the row of all units; -1: it stays."""
    places, units = channels.units()
    flat = np.where(places >= 0, starts[places] + units, -1)
    made: Dict[int, np.ndarray] = {}
    found: List[Optional[np.ndarray]] = []
    for name in names:
        labels = _labels(channels, name)
        found.append(None if labels is None else made.setdefault(id(labels), flat[labels]))
    return found


def _labels(channels: Any, output: str) -> Optional[np.ndarray]:
    """The channels of an op's result, or of what it reads."""
    if not channels.graph.has_var(output):
        return None
    result = channels.graph.var(output)
    labels: Optional[np.ndarray] = channels.flow.channels(result)
    if labels is None and result.producer is not None:
        labels = next((l for v in result.producer.inputs if (l := channels.flow.channels(v)) is not None), None)
    return labels
