"""Iterative pruning: a small step, sensitivities measured anew, fine-tuning, until the target.

Han et al., Learning both Weights and Connections for Efficient Neural Networks, 2015 (arXiv:1506.02626), section 3.4:
pruning in small steps with training between them finds smaller networks than one large step. Everything is written down
as it is done, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from slimkit.errors import ConfigError
from slimkit.files import atomic_write
from slimkit.prune.cost import CostModel
from slimkit.prune.criteria import Scorer
from slimkit.prune.groups import Groups
from slimkit.prune.line import Line, Target
from slimkit.prune.plan import Plan
from slimkit.prune.search import NO_LIMITS, Limits, Measure
from slimkit.prune.targets import ratios_by_sensitivity, uniform

__all__ = ["IterativeResult", "IterativeStep", "prune_iteratively"]

_FORMAT = 1


@dataclass
class IterativeStep:
    """One step, finished when ``done``.

    Attributes:
        number: from 1.
        last: after it the target is met; its fine-tuning is the training to convergence.
        folder: for files of the step's sensitivities and fine-tuning; the same after a kill.
        limit: what may be left after it, in the target's unit.
        value: what is left.
        level: the loss line, or the ratio without sensitivities.
        plan: what goes of the network of the step before, see ``Plan.to_dict``.
        metric: what fine-tuning returned.
        done: it was fine-tuned.
    """

    number: int
    last: bool
    folder: str
    limit: float
    value: float = math.nan
    level: float = math.nan
    plan: Dict[str, Any] = field(default_factory=dict)
    metric: Optional[float] = None
    done: bool = False


@dataclass
class IterativeResult:
    """The pruned and fine-tuned model, the steps that led there, and what the unpruned one cost."""

    model: Any
    steps: List[IterativeStep]
    whole: float


#: (model, its groups, step) -> parameter -> ratio -> loss.
Sensitivity = Callable[[Any, Groups, IterativeStep], Mapping[str, Mapping[float, float]]]
#: (model, step) -> metric or None; trains the model in place.
FineTune = Callable[[Any, IterativeStep], Optional[float]]


def prune_iteratively(
    model: Any,
    target: Target,
    fine_tune: FineTune,
    *,
    folder: Union[str, Path],
    step: float = 0.1,
    sensitivity: Optional[Sensitivity] = None,
    limits: Limits = NO_LIMITS,
    criterion: Any = "l1_norm",
    greedy: bool = False,
    input_shapes: Any = None,
    latency: Optional[Callable[[Any], Measure]] = None,
) -> IterativeResult:
    """Prunes a model step by step.

    Args:
        model: a :class:`slimkit.ir.Model`; it is not changed.
        target: what may be left in the end.
        fine_tune: (model, step) trains a pruned model in place and may return its metric.
        folder: where steps are written down; a run with the same settings goes on from there.
        step: fraction of the unpruned network's cost that goes in a step.
        sensitivity: (model, groups, step) measures parameter -> ratio -> loss; None: every step is uniform.
        limits: of the whole run: ``max_ratio`` and a ``floor`` that is a fraction are of the unpruned network's units.
        criterion: see ``Scorer``.
        greedy: see ``make_plan``.
        input_shapes: see :func:`slimkit.analysis.complexity`.
        latency: model -> (plan -> ms), such as ``lambda model: PlanLatency(model, feed)``, for a target of latency.

    Returns:
        The model after the last step.

    Raises:
        ConfigError: settings out of range, the folder is of another run, or a step is beyond reach; finished steps are
            kept.
    """
    if not 0 < step < 1:
        raise ConfigError(f"step = {step!r}: the fraction that goes in each step, above 0 and below 1.")
    run = _Run(model, target, limits, criterion, greedy, input_shapes, latency)
    state = _State(Path(folder), run.key(step))
    groups, value = run.look(model)
    whole = value(Plan(groups, {}))
    sizes = {group.name: group.size for group in groups}
    run.limits = replace(limits, sizes=sizes)
    for limit, last in _schedule(whole, target.most(whole), step):
        record = state.step(limit, last)
        if not record.plan:
            line = run.choose(model, groups, value, record, sensitivity)
            record.plan, record.level, record.value = line.plan.to_dict(), line.level, line.value
            state.save()
        model = run.apply(model, groups, record)
        if record.done:
            state.restore(model, record)
        else:
            record.metric = fine_tune(model, record)
            state.finish(model, record)
        groups, value = run.look(model)
    return IterativeResult(model, state.steps, whole)


def _schedule(whole: float, most: float, step: float) -> List[Tuple[float, bool]]:
    """(what may be left, whether it is the last) of each step; the last takes the rest."""
    limits: List[float] = []
    while whole * (1 - step * (len(limits) + 1)) > most * (1 + 1e-9):
        limits.append(whole * (1 - step * (len(limits) + 1)))
    return [*((limit, False) for limit in limits), (most, True)]


class _Run:
    """What all steps have in common."""

    def __init__(
        self,
        model: Any,
        target: Target,
        limits: Limits,
        criterion: Any,
        greedy: bool,
        input_shapes: Any,
        latency: Optional[Callable[[Any], Measure]],
    ) -> None:
        if target.unit == "latency" and latency is None:
            raise ConfigError(
                "A target of latency needs a function that measures plans of a model; pass "
                "latency=lambda model: slimkit.deploy.PlanLatency(model, feed)."
            )
        self.target, self.limits, self.criterion, self.greedy = target, limits, criterion, greedy
        self._input_shapes, self._latency = input_shapes, latency
        self._shapes = sorted((name, array.shape) for name, array in model.params.items())

    def key(self, step: float) -> str:
        """The same for the same network and settings."""
        held = [str(self.target), step, asdict(self.limits), str(self.criterion), self.greedy, self._shapes]
        return hashlib.sha256(json.dumps(held, default=str).encode()).hexdigest()[:16]

    def look(self, model: Any) -> Any:
        """The groups of a model, and what gives the target's value of a plan."""
        if self._latency is not None and self.target.unit == "latency":
            from slimkit.prune.apply import find_groups

            return find_groups(model), self._latency(model)
        cost = CostModel.of(model, input_shapes=self._input_shapes)
        return cost.groups, lambda plan: float(cost.value(self.target.unit, plan))

    def choose(
        self, model: Any, groups: Groups, value: Measure, record: IterativeStep, sensitivity: Optional[Sensitivity]
    ) -> Line:
        goal = Target(self.target.unit, limit=record.limit)
        how: Dict[str, Any] = {
            "limits": self.limits,
            "scores": Scorer(model.params, self.criterion),
            "greedy": self.greedy,
        }
        if sensitivity is None:
            return uniform(groups, goal, measure=value, **how)
        return ratios_by_sensitivity(groups, sensitivity(model, groups, record), goal, measure=value, **how)

    @staticmethod
    def apply(model: Any, groups: Groups, record: IterativeStep) -> Any:
        from slimkit.prune.apply import prune_model

        return prune_model(model, Plan.from_dict(groups, record.plan))


class _State:
    """The steps on disk: ``steps.json``, and the parameters after each."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self.steps: List[IterativeStep] = []
        self._next = 0
        file = folder / "steps.json"
        if not file.exists():
            return
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
            same = held["format"] == _FORMAT and held["key"] == key
            self.steps = [IterativeStep(**row) for row in held["steps"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{file} cannot be read as steps of iterative pruning; remove it to begin anew."
            ) from None
        if not same:
            raise ConfigError(
                f"{folder} holds iterative pruning of another network or with other settings; choose another folder, "
                "or remove it to begin anew."
            )

    def step(self, limit: float, last: bool) -> IterativeStep:
        """The next step, as far as it is known."""
        if self._next == len(self.steps):
            number = self._next + 1
            folder = self._folder / f"step_{number:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            self.steps.append(IterativeStep(number, last, str(folder), limit))
        self._next += 1
        return self.steps[self._next - 1]

    def save(self) -> None:
        held = {"format": _FORMAT, "key": self._key, "steps": [asdict(step) for step in self.steps]}
        atomic_write(self._folder / "steps.json", json.dumps(held, indent=1).encode())

    def finish(self, model: Any, record: IterativeStep) -> None:
        """Keeps a step's parameters, then says that it is done."""
        stream = io.BytesIO()
        np.savez(stream, **{f"p{i}": array for i, array in enumerate(dict(model.params).values())})
        atomic_write(self._file(record), stream.getvalue())
        record.done = True
        self.save()

    def restore(self, model: Any, record: IterativeStep) -> None:
        """Puts a finished step's parameters into the pruned model."""
        with np.load(self._file(record)) as held:
            for i, name in enumerate(dict(model.params)):
                model.params[name] = held[f"p{i}"]

    def _file(self, record: IterativeStep) -> Path:
        return self._folder / f"step_{record.number:02d}.npz"
