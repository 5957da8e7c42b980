"""``Pruner``: PaddleSlim's static filter pruning."""

from __future__ import annotations

import warnings
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from slimkit.errors import ConfigError, ModelError
from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.prune.apply import cut, prune_channels
from slimkit.prune.channels import Channels
from slimkit.prune.groups import Groups
from slimkit.prune.plan import Plan
from slimkit.prune.static.choosing import Chooser, asked_ratios, named_criterion, prunable_of
from slimkit.prune.static.selectors import named_selector
from slimkit.prune.static.shapes import check_shapes, declared_shapes, plan_for_shapes
from slimkit.prune.static.values import ScopeValues

__all__ = ["Pruner", "legacy_program"]

Backup = Optional[Dict[str, Any]]


class Pruner:
    """Prunes filters of a static program.

    Args:
        criterion: how important a filter is: ``l1_norm``, ``l2_norm``, ``geometry_median``, ``bn_scale``, or a
            function ``(group, values, graph) -> {parameter: {axis: scores}}`` as PaddleSlim calls it.
        idx_selector: ``default_idx_selector``, the least important; ``optimal_threshold``, for ``bn_scale``: ratio is
            then the fraction of the scores' sum of squares; or a function ``(group, scores, ratios) -> [(parameter,
            axis, indices, transforms)]`` as PaddleSlim calls it.

    Attributes:
        plan: what the last call removed.
        notes: what the last call did not do as asked, a sentence each; each is a warning too.

    Raises:
        ConfigError: there is no such criterion or selector.
    """

    def __init__(
        self,
        criterion: Union[str, Callable[..., Any]] = "l1_norm",
        idx_selector: Union[str, Callable[..., Any]] = "default_idx_selector",
    ) -> None:
        if not callable(criterion):
            named_criterion(criterion)
        self.criterion, self.idx_selector = criterion, named_selector(idx_selector)
        self.plan: Optional[Plan] = None
        self.notes: List[str] = []

    def prune(
        self,
        program: Any,
        scope: Any,
        params: Sequence[str],
        ratios: Sequence[float],
        place: Any = None,
        lazy: bool = False,
        only_graph: bool = False,
        param_backup: bool = False,
        param_shape_backup: bool = False,
    ) -> Tuple[Any, Backup, Backup]:
        """Prunes filters of some parameters, with all that has to go with them.

        Args:
            program: a legacy program for inference, evaluation or training, before or after ``minimize``. It is not
                changed.
            scope: holds the parameters; they shrink in it, and the optimizer's state of them too.
            params: names of parameters with filters. Of several that go together the first decides.
            ratios: for each the fraction of its filters that goes, in [0, 1).
            place: where the new values are put; None: where the old ones are.
            lazy: set to zero what would go; shapes stay.
            only_graph: prune the program, not the scope: for a second program of the same scope. Where the scope was
                pruned before, the program is made to fit it.
            param_backup: return the values from before.
            param_shape_backup: return the shapes from before.

        Returns:
            The pruned program; parameter -> value from before, or None; parameter -> shape from before, or None.

        Raises:
            ConfigError: an unknown parameter, a ratio out of range, or none of the parameters can be pruned.
            ModelError: the program is not a legacy one, or the scope does not hold its parameters.
        """
        program = legacy_program(program)
        with legacy_ir():
            channels = Channels(Graph(program))
        groups = channels.groups
        values = ScopeValues(program, scope)
        wanted = asked_ratios(params, ratios)
        names, self.notes = prunable_of(groups, list(wanted), program)
        if not names:
            raise ConfigError(f"Nothing of params can be pruned: {'; '.join(self.notes) or 'the list is empty.'}")
        plan = self._plan(groups, program, values, {name: wanted[name] for name in names}, only_graph)
        smaller, slices = prune_channels(channels, plan)
        if only_graph and values.pruned_before(slices):
            check_shapes(declared_shapes(program), declared_shapes(smaller), values.shapes())
        zeros = {**slices, **{name: {} for name in plan.slices()}, **plan.zeros()} if lazy else None
        before, shapes = self._write(program, values, slices, place, zeros, only_graph)
        self.plan = plan
        for note in self.notes:
            warnings.warn(note, UserWarning, stacklevel=2)
        if lazy:
            with legacy_ir():
                smaller = program.clone()
        return smaller, (before if param_backup else None), (shapes if param_shape_backup else None)

    def _plan(
        self, groups: Groups, program: Any, values: ScopeValues, ratios: Mapping[str, float], only_graph: bool
    ) -> Plan:
        touched = {m.parameter for name in ratios for m in groups.of(name).members}
        if only_graph and values.pruned_before(touched):
            return plan_for_shapes(groups, declared_shapes(program), values.shapes())
        if not only_graph or values.any_of(touched):
            values.check(touched)
        source = values if values.any_of(touched) else values.zeros()
        chooser = Chooser(groups, program, source, self.criterion, self.idx_selector)
        removed = chooser.units(ratios)
        self.notes += chooser.notes
        return Plan(groups, removed)

    @staticmethod
    def _write(
        program: Any,
        values: ScopeValues,
        slices: Mapping[str, Mapping[int, np.ndarray]],
        place: Any,
        zeros: Optional[Mapping[str, Mapping[int, np.ndarray]]],
        only_graph: bool,
    ) -> Tuple[Dict[str, Any], Dict[str, Any]]:
        """Changes the scope; returns values and shapes from before."""
        declared = declared_shapes(program)
        shapes = {} if zeros is not None else {name: list(declared[name]) for name in slices if name in declared}
        if only_graph:
            return {}, shapes
        before = {name: values[name] for name in slices if name in values}
        after = {}
        for name, array in before.items():
            if zeros is not None:
                after[name] = array.copy()
                for axis, indices in zeros[name].items():
                    after[name][(slice(None),) * axis + (indices,)] = 0
            else:
                after[name] = cut(array, slices[name])
        for name, array in after.items():
            values.put(name, array, place)
        return before, shapes


def legacy_program(program: Any) -> Any:
    """The legacy program of a program or of a ``CompiledProgram``.

    Raises:
        ModelError: it is none.
    """
    from paddle.base.framework import Program

    found = getattr(program, "_program", program)
    if not isinstance(found, Program):
        raise ModelError(
            f"A legacy paddle.static.Program is needed, got {type(program).__module__}.{type(program).__name__}; build "
            "the program inside slimkit.legacy_ir(), or take the .program of slimkit.Model."
        )
    return found
