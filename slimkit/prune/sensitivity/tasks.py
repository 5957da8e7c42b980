"""What there is to measure: a task for each parameter, with the units that go at each ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Generator, List, Mapping, Optional, Protocol, Sequence, Tuple, Union

import numpy as np

from slimkit.errors import ConfigError, EvaluationError
from slimkit.prune.criteria import Scorer
from slimkit.prune.groups import Group, Groups
from slimkit.prune.legal import legal
from slimkit.prune.sensitivity.points import Sensitivities, ratio_key

__all__ = ["RATIOS", "Choose", "Measured", "Measurer", "Ratios", "Task", "failed", "plan_tasks", "wanted_points"]

RATIOS: Tuple[float, ...] = tuple(i / 10 for i in range(1, 10))

#: (parameter, ratio) -> units of its group that go; None: none does.
Choose = Callable[[str, float], Optional[np.ndarray]]
#: Ratios of all parameters, or parameter -> its own.
Ratios = Union[Sequence[float], Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Task:
    """The points of one group that have to be measured.

    Attributes:
        group: its name.
        points: for each set of units, the (parameter, ratio) pairs it stands for; several where ratios or parameters
            come to the same units.
        removed: for each point the units that go, int64; ascending in number.
    """

    group: str
    points: Tuple[Tuple[Tuple[str, float], ...], ...]
    removed: Tuple[np.ndarray, ...]

    def where(self, index: int) -> str:
        parameter, ratio = self.points[index][0]
        return f"with {ratio:.0%} of '{parameter}' pruned"


@dataclass(frozen=True)
class Measured:
    """One point.

    Attributes:
        group: of which task.
        index: which of its points.
        metric: with the units masked.
        seconds: of evaluation.
    """

    group: str
    index: int
    metric: float
    seconds: float


class Measurer(Protocol):
    """Measures, in the process it lives in."""

    def baseline(self) -> float:
        """The metric of the network as it is."""
        ...

    def order(self, tasks: Sequence[Task]) -> List[Task]:
        """Tasks in the order in which they are to be measured."""
        ...

    def measure(self, task: Task) -> Generator[Measured, None, None]:
        """The points of a task, each as it is known; the network is as it was once the iterator is closed."""
        ...


def failed(error: BaseException, where: str) -> EvaluationError:
    """What is raised when an evaluation raises."""
    reason = " ".join(str(error).split()) or "no message"
    return EvaluationError(
        f"The evaluation failed {where}: {type(error).__name__}: {reason.rstrip('.')}; the points before it are kept, "
        "and measuring goes on with them when the evaluation is mended."
    )


def _checked(ratios: Sequence[float], where: str) -> List[float]:
    try:
        found = sorted({ratio_key(ratio) for ratio in ratios})
    except (TypeError, ValueError):
        raise ConfigError(f"The ratios{where} must be a list of numbers, not {ratios!r}.") from None
    wrong = next((ratio for ratio in found if not 0 < ratio < 1), None)
    if wrong is not None or not found:
        what = "are empty" if wrong is None else f"contain {wrong:g}"
        raise ConfigError(f"The ratios{where} {what}; give fractions of the filters that go, above 0 and below 1.")
    return found


def wanted_points(groups: Groups, ratios: Ratios, parameters: Optional[Sequence[str]]) -> Dict[str, List[float]]:
    """Parameter -> ratios, checked.

    Raises:
        ConfigError: a parameter that cannot be pruned, or a ratio outside of (0, 1).
    """
    parameters = [parameters] if isinstance(parameters, str) else parameters
    if isinstance(ratios, Mapping):
        names = list(ratios) if parameters is None else list(parameters)
        missing = next((name for name in names if name not in ratios), None)
        if missing is not None:
            raise ConfigError(f"There are no ratios for '{missing}'; give it some, or one list for all parameters.")
        found = {name: _checked(ratios[name], f" of '{name}'") for name in names}
    else:
        common = _checked(ratios, "")
        names = [group.name for group in groups.prunable] if parameters is None else list(dict.fromkeys(parameters))
        found = dict.fromkeys(names, common)
    for name in found:
        groups.of(name)
    if not found and parameters is not None:
        raise ConfigError("parameters is empty; name some, or give None for one of each group that can be pruned.")
    if not found:
        raise ConfigError("No parameter of this network can be pruned; print(groups) tells the reasons.")
    return found


def plan_tasks(
    groups: Groups,
    scorer: Scorer,
    points: Mapping[str, Sequence[float]],
    known: Sensitivities,
    choose: Optional[Choose] = None,
) -> Tuple[List[Task], List[Tuple[str, float]]]:
    """What is left to measure.

    Args:
        groups: of the network.
        scorer: of the criterion.
        points: parameter -> ratios.
        known: points measured before.
        choose: (parameter, ratio) -> units that go, in the scorer's place.

    Returns:
        The tasks, in the order of the parameters, and the points at which no unit goes.
    """
    units: Dict[str, Dict[bytes, np.ndarray]] = {}
    named: Dict[str, Dict[bytes, List[Tuple[str, float]]]] = {}
    untouched: List[Tuple[str, float]] = []
    for parameter, ratios in points.items():
        group = groups.of(parameter)
        left = [ratio for ratio in ratios if not known.has(parameter, ratio)]
        if not left:
            continue
        chosen = choose or _by_scores(group, scorer)
        for ratio in left:
            removed = chosen(parameter, ratio)
            if removed is None:
                untouched.append((parameter, ratio))
                continue
            key = removed.tobytes()
            units.setdefault(group.name, {})[key] = removed
            named.setdefault(group.name, {}).setdefault(key, []).append((parameter, ratio))
    tasks = []
    for group_name, sets in units.items():
        keys = sorted(sets, key=lambda key, sets=sets: len(sets[key]))  # type: ignore[misc]
        stands_for = tuple(tuple(named[group_name][key]) for key in keys)
        tasks.append(Task(group_name, stands_for, tuple(sets[key] for key in keys)))
    return tasks, untouched


def _by_scores(group: Group, scorer: Scorer) -> Choose:
    """Chooses as ``make_plan`` does, for all ratios with one scoring."""
    steps, score = legal(group), scorer(group)

    def choose(parameter: str, ratio: float) -> Optional[np.ndarray]:
        step = steps.nearest(ratio)
        return steps.units(step, score) if step else None

    return choose
