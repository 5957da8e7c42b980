"""A line that rises across the groups of a network and takes more of each as it goes; where it meets a target.

Every legal step of every group has a level from which on it is taken. All steps sorted by level are one row; a target
is met by the shortest beginning of that row that reaches it, found by bisection, since more steps never cost more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np

from slimkit.errors import ConfigError, suggestion
from slimkit.prune.groups import Groups
from slimkit.prune.legal import Legal
from slimkit.prune.plan import Plan

__all__ = ["Line", "LineSearch", "Target"]

#: What a target can be of; latency is measured, the others are counted.
TARGET_UNITS = ("macs", "flops", "parameters", "latency")


@dataclass(frozen=True)
class Target:
    """What a pruned network may cost: give one of ``removed`` and ``limit``.

    Attributes:
        unit: ``macs``, ``flops``, ``parameters`` or ``latency``.
        removed: fraction of the unpruned network's that goes, above 0 and below 1.
        limit: the most that may be left, in units of one (latency: ms).

    Raises:
        ConfigError: an unknown unit, none or both are given, or out of range.
    """

    unit: str
    removed: Optional[float] = None
    limit: Optional[float] = None

    def __post_init__(self) -> None:
        if self.unit not in TARGET_UNITS:
            meant = suggestion(str(self.unit), TARGET_UNITS)
            raise ConfigError(f"'{self.unit}' is no target; a target is of {', '.join(TARGET_UNITS)}{meant}")
        if (self.removed is None) == (self.limit is None):
            raise ConfigError(f"The target of {self.unit} needs either the fraction removed or the limit; give one.")
        for value in (self.removed, self.limit):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float, np.number))):
                raise ConfigError(f"The target of {self.unit} is given as {value!r}; give a number.")
        if self.removed is not None and not 0 < self.removed < 1:
            raise ConfigError(
                f"The target removes {self.removed!r} of the {self.unit}; it is a fraction above 0 and below 1."
            )
        if self.limit is not None and not self.limit > 0:
            raise ConfigError(f"The target leaves {self.limit!r} {self.unit}; give a number above 0.")

    def most(self, whole: float) -> float:
        """The most that may be left of a network that costs ``whole``."""
        return float(self.limit) if self.limit is not None else whole * (1 - float(self.removed or 0))

    def __str__(self) -> str:
        if self.removed is not None:
            return f"{self.unit} -{100 * self.removed:g}%"
        return f"{self.unit} <= {self.limit:,.10g}" + (" ms" if self.unit == "latency" else "")


@dataclass
class Line:
    """Where the line met the target.

    Attributes:
        ratios: group name, which is a parameter, -> fraction that goes; legal, so ``make_plan`` makes this plan of it.
        level: the line: the loss allowed to each group, or the one ratio of all.
        value: what is left, in the target's unit.
        whole: what the unpruned network costs.
        plan: the plan.
        notes: what the user should know.
    """

    ratios: Dict[str, float]
    level: float
    value: float
    whole: float
    plan: Plan
    notes: List[str] = field(default_factory=list)

    @property
    def removed(self) -> float:
        """Fraction of the whole that goes."""
        return 1 - self.value / self.whole


class LineSearch:
    """The row of steps.

    Args:
        groups: of the network.
        legals: group name -> its legal steps.
        levels: group name -> float [steps]: the level from which on a step is taken, never falling; infinite: never.
            The first step, which removes nothing, is always taken.
        scores: group name -> scores of its units; of a group without, the first units go.
    """

    def __init__(
        self,
        groups: Groups,
        legals: Mapping[str, Legal],
        levels: Mapping[str, np.ndarray],
        scores: Optional[Mapping[str, np.ndarray]] = None,
    ) -> None:
        self.groups, self.legals = groups, dict(legals)
        self.names = list(legals)
        self._scores = dict(scores or {})
        rows = []
        for place, name in enumerate(self.names):
            level = np.maximum.accumulate(np.asarray(levels[name], np.float64))
            for step in range(1, len(level)):
                if np.isfinite(level[step]):
                    rows.append((float(level[step]), float(self.legals[name].ratios[step]), place, step))
        # At one level the smaller ratios come first, so that the last level can be taken in part.
        self.rows = sorted(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def plan(self, position: int) -> Plan:
        """The plan of the first so many steps."""
        return self.plan_of(self.steps(position))

    def plan_of(self, steps: Mapping[str, int]) -> Plan:
        """The plan of a step for each group."""
        removed: Dict[str, np.ndarray] = {}
        for name, step in steps.items():
            legal = self.legals[name]
            if step:
                scores = self._scores.get(name)
                removed[name] = legal.units(step, np.zeros(legal.size) if scores is None else scores)
        return Plan(self.groups, removed)

    def steps(self, position: int) -> Dict[str, int]:
        """Group name -> the step it is at after the first so many."""
        found = dict.fromkeys(self.names, 0)
        for _, _, place, step in self.rows[:position]:
            found[self.names[place]] = step
        return found

    def ratios_of(self, steps: Mapping[str, int]) -> Dict[str, float]:
        """Group name -> the fraction that goes."""
        return {name: float(self.legals[name].ratios[step]) for name, step in steps.items()}

    def without_surplus(self, value: Callable[[Plan], float], most: float, position: int) -> Dict[str, int]:
        """Gives steps back that the target does not need, those of the greatest level first.

        A step of a wide layer may remove far more than was missing, and with it the steps before it are too many.

        Returns:
            Group name -> step; one step less of any group would miss the target.
        """
        steps = self.steps(position)
        for _, _, place, step in reversed(self.rows[:position]):
            name = self.names[place]
            if steps[name] == step and value(self.plan_of({**steps, name: step - 1})) <= most:
                steps[name] = step - 1
        return steps

    def level(self, position: int) -> float:
        """The level of the last step taken; 0 before the first."""
        return self.rows[position - 1][0] if position else 0.0

    def positions(self, whole_levels: bool = False, at_most: Optional[int] = None) -> List[int]:
        """Where the line may stop.

        Args:
            whole_levels: steps of one level are taken all or not at all.
            at_most: thin them out, evenly, when there are more.
        """
        found = list(range(len(self.rows) + 1))
        if whole_levels:
            found = [p for p in found if p == len(self.rows) or p == 0 or self.rows[p][0] > self.rows[p - 1][0]]
        if at_most is not None and len(found) > at_most:
            found = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, at_most).round().astype(int))]
        return found

    def first(self, value: Callable[[Plan], float], most: float, positions: Sequence[int]) -> Optional[int]:
        """The first of some positions at which the value is no more than ``most``; None: at none of them.

        Args:
            value: of a plan; never rising along the positions, up to noise.
            most: the target.
            positions: ascending.
        """
        if value(self.plan(positions[-1])) > most:
            return None
        low, high = -1, len(positions) - 1  # the value is above at low (or it is before the first), not at high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if value(self.plan(positions[middle])) <= most else (middle, high)
        return positions[high]
