"""Which units go: a parameter at a time, in the order given, each by its own filters, as PaddleSlim does it.

A parameter's ratio is the fraction of *its* filters that goes. Where several of those asked for go together, the first
decides for the filters they have in common.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

from slimkit.errors import ConfigError, suggestion
from slimkit.prune.criteria import CRITERIA, Criterion, Scorer, criterion_named
from slimkit.prune.groups import DEPTHWISE, OUTPUT, VECTOR, Group, Groups, Member
from slimkit.prune.legal import legal
from slimkit.prune.static.selectors import below_threshold, named_selector, selected
from slimkit.prune.static.views import ProgramView, PruningCollection

__all__ = ["Chooser", "asked_ratios", "named_criterion", "prunable_of"]


def asked_ratios(params: Sequence[str], ratios: Sequence[float]) -> Dict[str, float]:
    """Parameter -> ratio, checked.

    Raises:
        ConfigError: lists of different lengths, a name twice, or a ratio outside of [0, 1).
    """
    lists = all(hasattr(given, "__len__") and not isinstance(given, str) for given in (params, ratios))
    if not lists or len(params) != len(ratios):
        count = [len(x) if hasattr(x, "__len__") and not isinstance(x, str) else "no list" for x in (params, ratios)]
        raise ConfigError(
            f"params and ratios must be lists of one length, a ratio for each parameter; their lengths are {count[0]} "
            f"and {count[1]}."
        )
    found: Dict[str, float] = {}
    for name, ratio in zip(params, ratios):
        if name in found:
            raise ConfigError(f"'{name}' is given twice in params; give it once.")
        try:
            found[name] = float(ratio)
        except (TypeError, ValueError):
            found[name] = np.nan
        if not 0 <= found[name] < 1:
            raise ConfigError(
                f"The ratio of '{name}' is {ratio!r}; it is the fraction of the filters that goes, from 0 (none) to "
                "below 1."
            )
    return found


def prunable_of(groups: Groups, names: Sequence[str], program: Any) -> Tuple[List[str], List[str]]:
    """The parameters that can be pruned, and a sentence about each of the others.

    Raises:
        ConfigError: the program has no such parameter, or it has no filters.
    """
    kept, notes = [], []
    stays = {m.parameter: g.refused for g in groups.refused for m in g.members if m.role in (OUTPUT, DEPTHWISE)}
    have = {var.name for var in program.list_vars() if var.persistable}
    for name in names:
        try:
            groups.of(name)
        except ConfigError:
            if name in stays:
                notes.append(f"'{name}' cannot be pruned: {stays[name]}")
                continue
            if name in have:
                raise
            filters = [m.parameter for g in groups for m in g.members if m.role in (OUTPUT, DEPTHWISE)]
            raise ConfigError(f"The program has no parameter '{name}'{suggestion(name, filters)}") from None
        kept.append(name)
    return kept, notes


class Chooser:
    """Chooses units.

    Args:
        groups: of the network.
        program: it.
        values: name -> array.
        criterion: a name of :data:`~slimkit.prune.criteria.CRITERIA`, or a function as PaddleSlim calls it.
        selector: a name of :data:`~slimkit.prune.static.selectors.SELECTORS`, or a function as PaddleSlim calls it.

    Attributes:
        notes: sentences about what was not done as asked.

    Raises:
        ConfigError: an unknown criterion or selector.
    """

    def __init__(
        self,
        groups: Groups,
        program: Any,
        values: Mapping[str, np.ndarray],
        criterion: Union[str, Callable[..., Any]],
        selector: Union[str, Callable[..., Any]],
    ) -> None:
        self._groups, self._values = groups, values
        self._view = ProgramView(program)
        self._criterion = criterion if callable(criterion) else named_criterion(criterion)
        self._selector = named_selector(selector)
        self.notes: List[str] = []
        self._scored: Dict[Tuple[str, bytes], np.ndarray] = {}

    def units(self, ratios: Mapping[str, float]) -> Dict[str, np.ndarray]:
        """Group name -> units that go."""
        removed: Dict[str, np.ndarray] = {}
        decided: Dict[str, Dict[int, Tuple[str, float]]] = {}
        for name, ratio in ratios.items():
            group = self.first(self._groups.of(name), name)
            before = decided.setdefault(group.name, {})
            mine = np.unique(group.members[0].units[group.members[0].units >= 0])
            free = mine[[unit not in before for unit in mine.tolist()]]
            self._note_decided(name, ratio, [before[u] for u in mine.tolist() if u in before])
            before.update(dict.fromkeys(free.tolist(), (name, ratio)))
            if not free.size or ratio == 0:
                continue
            gone = self._choose(_part(group, free, removed.get(group.name, free[:0])), ratio)
            if not gone.size:
                self.notes.append(f"'{name}' stays whole: at a ratio of {ratio:g} none of its {free.size} units goes.")
                continue
            removed[group.name] = np.union1d(removed.get(group.name, np.zeros(0, np.int64)), free[gone])
        return removed

    def _note_decided(self, name: str, ratio: float, others: Sequence[Tuple[str, float]]) -> None:
        different = next((pair for pair in others if pair[1] != ratio), None)
        if different is not None:
            self.notes.append(
                f"'{name}' goes with '{different[0]}', which was given first, so its ratio {ratio:g} has no effect on "
                f"what they have in common: {different[1]:g} of it goes."
            )

    def first(self, group: Group, name: str) -> Group:
        """The group with a parameter's own member first, then the batch norm behind it."""
        own = next(m for m in group.members if m.parameter == name and m.role in (OUTPUT, DEPTHWISE))
        scale = self._view.batch_norm_of(own.op_output)
        norm = next((m.op_output for m in group.members if m.parameter == scale and m.role == VECTOR), None)

        def rank(member: Member) -> int:
            return 0 if member is own else 1 if norm is not None and member.op_output == norm else 2

        return replace(group, members=sorted(group.members, key=rank))

    # ---------------------------------------------------------------- scores and selection

    def _choose(self, group: Group, ratio: float) -> np.ndarray:
        """Units of a part of a group that go; its first member is the one asked for."""
        if callable(self._selector):
            collection = PruningCollection(group, self._view)
            return selected(group, self._selector, collection, self._scores(group), ratio)
        units = self._unit_scores(group)
        if self._selector == "optimal_threshold":
            return below_threshold(units, ratio)
        steps = legal(group)
        return steps.units(steps.nearest(ratio), units)

    def _unit_scores(self, group: Group) -> np.ndarray:
        """Scores of a group's units, by its first member.

        Returns:
            float64, shape [group.size].
        """
        master = group.members[0]
        key = (master.parameter, master.units.tobytes())
        if key not in self._scored:
            self._scored[key] = self._score(group, master)
        return self._scored[key]

    def _score(self, group: Group, master: Member) -> np.ndarray:
        if isinstance(self._criterion, Criterion):
            return Scorer(self._values, self._criterion, reduce="first")(group)
        return _of_units(group, np.asarray(self._scores(group)[master.parameter][master.axis], np.float64))

    def _scores(self, group: Group) -> Mapping[str, Mapping[int, np.ndarray]]:
        """Parameter -> axis -> score of each index, at least for the group's first member."""
        master = group.members[0]
        if isinstance(self._criterion, Criterion):
            units = self._unit_scores(group)
            found: Dict[str, Dict[int, np.ndarray]] = {}
            for member in group.members:
                found.setdefault(member.parameter, {})[member.axis] = np.append(units, np.inf)[member.units]
            return found
        collection = PruningCollection(group, self._view)
        held = {name: self._values[name] for name in collection.variables() if name in self._values}
        scores = self._criterion(collection, held, self._view)
        try:
            own = np.asarray(scores[master.parameter][master.axis], np.float64)
        except (TypeError, KeyError, IndexError, ValueError):
            own = np.zeros(0)
        if own.shape != master.units.shape or not np.isfinite(own).all():
            raise ConfigError(
                f"The criterion function must return {{parameter: {{axis: scores}}}} with {len(master.units)} finite "
                f"scores for '{master.parameter}' on axis {master.axis}, which it did not."
            )
        return scores  # type: ignore[no-any-return]


def named_criterion(name: Any) -> Criterion:
    """The row of a criterion that needs no gradients.

    Raises:
        ConfigError: there is none of this name.
    """
    found = criterion_named(name)
    if found.gradients:
        usable = ", ".join(row.name for row in CRITERIA.values() if not row.gradients)
        raise ConfigError(
            f"The criterion {name} needs gradients of the loss, which Pruner is not given; choose one of {usable}, or "
            "make the plan with slimkit.prune.make_plan(..., gradients=...)."
        )
    return found


def _part(group: Group, units: np.ndarray, gone: np.ndarray) -> Group:
    """A group of some units of a group, numbered anew, and of the members that have any of them.

    Args:
        group: the whole.
        units: those to choose from.
        gone: others, that go already.
    """
    if len(units) == group.size:
        return group
    number = np.full(group.size + 1, -1, np.int64)  # the last stands for -1: of no unit
    number[units] = np.arange(len(units))
    members = [replace(member, units=number[member.units]) for member in group.members]
    kept = [member for member in members if (member.units >= 0).any()]
    left = [number[part[~np.isin(part, gone)]] for part in group.parts]
    parts = [part for part in left if part.size and (part >= 0).all()]  # of the others something stays anyhow
    return replace(group, size=len(units), members=kept, parts=parts)


def _of_units(group: Group, scores: np.ndarray) -> np.ndarray:
    """Scores of the first member's indices as those of the units: the mean of each."""
    units = group.members[0].units
    inside = units >= 0
    count = np.bincount(units[inside], minlength=group.size)
    return np.bincount(units[inside], scores[inside], group.size) / np.maximum(count, 1)
