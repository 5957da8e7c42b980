"""The search behind targets: limits, what is counted or measured, and what to say when a target is beyond reach."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from slimkit.errors import ConfigError, suggestion
from slimkit.prune.cost import CostModel
from slimkit.prune.criteria import Scorer
from slimkit.prune.groups import DEPTHWISE, OUTPUT, Group, Groups
from slimkit.prune.legal import Floor, Legal, check_rounding, legal
from slimkit.prune.line import Line, LineSearch, Target
from slimkit.prune.plan import Plan, make_plan

__all__ = ["NO_LIMITS", "Limits", "Measure", "Scores", "TargetSearch"]

#: A latency is measured at the positions of a bisection among so many.
_MEASURED_POSITIONS = 128

Measure = Callable[[Plan], float]
Scores = Union[Mapping[str, np.ndarray], Scorer, None]
#: (group, its legal steps) -> the level of each step; None: the group stays whole.
Levels = Callable[[Group, Legal], Optional[np.ndarray]]


@dataclass(frozen=True)
class Limits:
    """What a search keeps to.

    Attributes:
        round_to: the channels that stay are a multiple of this.
        floor: the least that stays: channels when an int, a fraction when a float.
        max_ratio: no group is pruned by more; above 0, to 1.
        skip: parameters whose groups stay whole: names, or patterns with ``*`` and ``?``.
        sizes: group name -> its units before an earlier step of pruning; ``max_ratio`` and a ``floor`` that is a
            fraction are of these. Of a group that is not named: of its units now.
    """

    round_to: int = 1
    floor: Floor = 1
    max_ratio: float = 1.0
    skip: Tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.skip, str):
            object.__setattr__(self, "skip", (self.skip,))

    def check(self, groups: Groups) -> None:
        """Refuses limits that are none.

        Raises:
            ConfigError: out of range, or a name or pattern of ``skip`` that no parameter matches.
        """
        check_rounding(self.round_to, self.floor)
        if not 0 < self.max_ratio <= 1:
            raise ConfigError(f"max_ratio = {self.max_ratio!r}: a fraction above 0, at most 1.")
        names = [name for group in groups for name in _filters(group)]
        for pattern in self.skip:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(
                    f"skip = '{pattern}' matches no parameter with filters{suggestion(pattern, names)} Those there are "
                    "are listed by print(slimkit.prune.find_groups(model))."
                )

    def allowed(self, group: Group, steps: Legal) -> np.ndarray:
        """bool, shape [steps]: which steps of a group keep to ``max_ratio`` and to a floor that is a fraction."""
        left = (1 - steps.ratios) * group.size / self.sizes.get(group.name, group.size)
        least = max(1 - self.max_ratio, self.floor if isinstance(self.floor, float) else 0.0)
        found: np.ndarray = (left >= least - 1e-9) | (steps.ratios == 0)
        return found

    def skips(self, group: Group) -> bool:
        """Whether a group stays whole: one of its parameters is to be skipped."""
        return any(fnmatchcase(name, pattern) for name in _filters(group) for pattern in self.skip)


NO_LIMITS = Limits()


def _filters(group: Group) -> List[str]:
    return [member.parameter for member in group.members if member.role in (OUTPUT, DEPTHWISE)]


class TargetSearch:
    """Finds where a line meets a target.

    Args:
        groups: of the network.
        target: what may be left.
        cost: of the network, unless the target is of latency.
        limits: what the search keeps to.
        scores: which units go; a ``Scorer`` when greedy.
        greedy: see ``make_plan``.
        measure: plan -> ms, when the target is of latency; or what counts a plan in place of ``cost``.

    Raises:
        ConfigError: limits out of range, or something needed is missing.
    """

    def __init__(
        self,
        groups: Groups,
        target: Target,
        cost: Optional[CostModel],
        limits: Limits,
        scores: Scores,
        greedy: bool,
        measure: Optional[Measure],
    ) -> None:
        limits.check(groups)
        self.groups, self.target, self.limits, self.greedy = groups, target, limits, greedy
        self.scores = scores
        if greedy and not isinstance(scores, Scorer):
            raise ConfigError("Greedy pruning needs a Scorer; pass scores=Scorer(model.params, criterion).")
        self.held: Mapping[str, np.ndarray] = {}
        if isinstance(scores, Scorer):
            self.held = {group.name: scores(group) for group in groups.prunable}
        elif scores is not None:
            self.held = scores
        self.value = _value(target, cost, measure)

    def run(
        self, levels: Levels, notes: List[str], *, whole_levels: bool = False, unmeasured: Optional[str] = None
    ) -> Line:
        """Runs the search.

        Args:
            levels: of each group's steps.
            notes: for the result.
            whole_levels: steps of one level are taken all or not at all.
            unmeasured: the remedy when a target could be met if steps with infinite levels could be taken.

        Raises:
            ConfigError: the target is beyond reach.
        """
        line = self.line(levels, self.limits)
        whole = self.value(Plan(self.groups, {}))
        most = self.target.most(whole)
        thin = _MEASURED_POSITIONS if self.target.unit == "latency" else None
        found = line.first(self.value, most, line.positions(whole_levels, thin))
        if found is None:
            raise ConfigError(self._beyond(levels, line, whole, most, unmeasured))
        steps = line.steps(found)
        if thin is None and not whole_levels:
            steps = line.without_surplus(self.value, most, found)
        plan, ratios = line.plan_of(steps), line.ratios_of(steps)
        if self.greedy:
            how: Dict[str, Any] = {"round_to": self.limits.round_to, "floor": self.limits.floor}
            plan = make_plan(self.groups, self.scores, ratios, greedy=True, **how)
        return Line(ratios, line.level(found), self.value(plan), whole, plan, notes)

    def line(self, levels: Levels, limits: Limits) -> LineSearch:
        legals: Dict[str, Legal] = {}
        rows: Dict[str, np.ndarray] = {}
        for group in self.groups.prunable:
            if limits.skips(group):
                continue
            steps = legal(group, limits.round_to, limits.floor)
            found = levels(group, steps)
            if found is not None:
                legals[group.name] = steps
                rows[group.name] = np.where(limits.allowed(group, steps), found, np.inf)
        return LineSearch(self.groups, legals, rows, self.held)

    def _beyond(
        self, levels: Levels, line: LineSearch, whole: float, most: float, unmeasured: Optional[str]
    ) -> str:  # fmt: skip
        """Why the target cannot be met: how far it goes, and which single change would meet it."""
        reached = self.value(line.plan(len(line)))
        unit = "ms" if self.target.unit == "latency" else self.target.unit
        text = (
            f"The target {self.target} is beyond reach: with everything pruned as far as allowed "
            f"{_number(reached)} of {_number(whole)} {unit} are left ({100 * (1 - reached / whole):.1f}% removed)"
        )
        limits = self.limits
        looser = [
            (f"skip less than {', '.join(limits.skip)}", replace(limits, skip=()), levels),
            (f"raise max_ratio = {limits.max_ratio:g}", replace(limits, max_ratio=1.0), levels),
            (f"lower floor = {limits.floor:g}", replace(limits, floor=1), levels),
            (f"lower round_to = {limits.round_to}", replace(limits, round_to=1), levels),
        ]
        changed = [row for row in looser if row[1] != limits]
        if unmeasured:
            changed.append((unmeasured, limits, lambda group, steps: np.zeros(len(steps.ratios))))
        counted = self.target.unit != "latency"  # to measure latencies for a message would take too long
        enough = [row for row in changed if counted and self._reaches(row[2], row[1], most)]
        return f"{text}; {' or '.join([*(row[0] for row in enough or changed), 'ask for less'])}."

    def _reaches(self, levels: Levels, limits: Limits, most: float) -> bool:
        line = self.line(levels, limits)
        return self.value(line.plan(len(line))) <= most


def _value(target: Target, cost: Optional[CostModel], measure: Optional[Measure]) -> Callable[[Plan], float]:
    if target.unit != "latency" and cost is not None:
        return lambda plan: float(cost.value(target.unit, plan))
    if measure is None:
        remedy = (
            "a function that measures a plan; pass measure=slimkit.deploy.PlanLatency(model, feed)"
            if target.unit == "latency"
            else "the cost of the network; pass CostModel.of(model)"
        )
        raise ConfigError(f"A target of {target.unit} needs {remedy}.")
    known: Dict[Any, float] = {}

    def measured(plan: Plan) -> float:
        key = tuple((name, units.tobytes()) for name, units in plan.removed.items())
        if key not in known:
            known[key] = float(measure(plan))
        return known[key]

    return measured


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
