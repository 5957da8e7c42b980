"""The middle of ``slimkit prune``: what goes is chosen, removed and checked, at once or in steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import numpy as np

from slimkit.errors import ConfigError, ModelError
from slimkit.files import atomic_write
from slimkit.ir.trainer import inference_of
from slimkit.prune import Groups, Plan, find_groups, masked_model, prune_model
from slimkit.prune.line import Target
from slimkit.recipe.config import config_hash
from slimkit.recipe.prune_choice import Choice
from slimkit.recipe.prune_report import Cost
from slimkit.recipe.prune_schema import TuneSection

if TYPE_CHECKING:
    from slimkit.recipe.prune_run import PruneRun

__all__ = ["prune", "take"]

#: Masked and pruned outputs may differ by this, relative to the largest: the order of sums is another.
_SAME = 1e-4


def prune(run: PruneRun) -> None:
    """Chooses what goes and removes it: at once, or in steps with fine-tuning between."""
    settings, stored = run.recipe.prune, _Stored(run)
    steps = settings.steps if settings.method == "iterative" else 1
    training = run.problem.training
    for step in range(1, steps + 1):
        name = "Prune" if steps == 1 else f"Prune, step {step} of {steps}"
        run.screen.heading(name)
        model = inference_of(training, run.problem.outputs)
        groups = run.groups if step == 1 else find_groups(model, layer_norm=settings.layer_norm)
        cost = run.whole if step == 1 else run.chooser.cost(model, groups)
        with run.timed("choose"):
            choice = stored.plan(step, groups)
            if choice is None:
                file = run.chooser.file if step == 1 else run.out / f"sensitivity-{step}.json"
                target = _target(run, step / steps)
                choice = run.chooser.choose(model, groups, training, cost, target, file)
                stored.add(step, choice)
        run.choice = choice if run.choice is None or choice.sensitivities is None else run.choice
        run.choice.level = choice.level
        for note in choice.notes:
            run.note(note)
        if not len(choice.plan):
            raise ConfigError(
                f"Nothing is pruned: no layer can shrink to a multiple of prune.round_to={settings.round_to} there; "
                "lower prune.round_to, or ask for more."
            )
        training = _apply(run, training, choice.plan, groups)
        if step < steps:
            train = TuneSection.model_validate({**run.recipe.train.model_dump(), "epochs": settings.step_epochs})
            tuned = run.tuner.tune(run.tuner.trainer(training, train), train, f"step-{step}")
            take(training, tuned.trainer)
            run.stage(f"step {step}, fine-tuned", tuned.metrics)
    run.model = training


def _target(run: PruneRun, share: float) -> Optional[Target]:
    """What a step may leave: all steps remove as much, of the whole network's."""
    target = run.recipe.prune.target
    if target is None:
        return None
    if run.recipe.prune.method != "iterative":
        return Target(target.unit, removed=target.removed)
    if target.unit == "latency":
        raise ConfigError("prune.method iterative has no target of latency; take macs, flops or parameters.")
    return Target(target.unit, limit=run.whole.value(target.unit) * (1 - target.removed * share))


def _apply(run: PruneRun, training: Any, plan: Plan, groups: Groups) -> Any:
    """Prunes the training network, and checks on a batch that it computes what the masked one does."""
    own = find_groups(training, layer_norm=run.recipe.prune.layer_norm)
    applied = Plan.from_dict(own, plan.to_dict())
    smaller = prune_model(training, applied)
    outputs = run.problem.outputs
    before, after = inference_of(masked_model(training, applied), outputs), inference_of(smaller, outputs)
    feed = next(iter(run.problem.evaluation(8)))[0]
    run.masked_difference = max(run.masked_difference or 0.0, _difference(before.run(feed), after.run(feed)))
    if not run.masked_difference <= _SAME and not run.recipe.prune.layer_norm:
        raise ModelError(
            "The pruned network gives other outputs than the network with zeros in the place of what went (they "
            f"differ by {run.masked_difference:.2g} of the largest), so its pruning is wrong; please report it with "
            "the model, and keep layers whole with prune.skip until then."
        )
    for group in groups:
        run.kept[_original(run, group.name)] = applied.kept(own[group.name])
    costs = run.chooser.cost(after, find_groups(after))
    for unit in ("macs", "flops", "parameters"):
        run.costs[unit] = Cost(before=run.whole.value(unit), after=costs.value(unit))
    run.screen.fact("pruned", "; ".join(f"{unit} -{100 * cost.removed:.1f}%" for unit, cost in run.costs.items()))
    run.screen.fact("check", f"masked = pruned on a test batch: largest difference {run.masked_difference:.1e}")
    run.stage("pruned", run.tuner.evaluate(after, "evaluating the pruned network"), costs.macs())
    return smaller


def _original(run: PruneRun, name: str) -> str:
    """The group of the unpruned network; groups keep their names."""
    return name if name in run.kept else run.groups.of(name).name


def _difference(one: List[np.ndarray], other: List[np.ndarray]) -> float:
    """Largest difference over the largest value, of any output."""
    return max(float(np.abs(a - b).max() / max(1e-30, np.abs(a).max())) for a, b in zip(one, other))


def take(training: Any, trainer: Any) -> None:
    """Puts trained values into the network."""
    values = trainer.model.params
    for name in training.params:
        training.params[name] = values[name]


class _Stored:
    """The plans of a run, in ``plan.json``, so that a resumed run prunes the same."""

    def __init__(self, run: PruneRun) -> None:
        self._path, self._hash = run.out / "plan.json", config_hash(run.recipe)
        self._plans: List[Dict[str, Any]] = []
        if run.resume and self._path.exists():
            held = json.loads(self._path.read_text(encoding="utf-8"))
            if held.get("config_hash") == self._hash:
                self._plans = held["steps"]

    def plan(self, step: int, groups: Groups) -> Optional[Choice]:
        """What was chosen at a step before; None: nothing yet."""
        if step > len(self._plans):
            return None
        from slimkit.prune.sensitivity import Sensitivities

        held = self._plans[step - 1]
        file = held["sensitivities"]
        found = Sensitivities.load(file) if file and Path(file).exists() else None
        return Choice(Plan.from_dict(groups, held["plan"]), held["level"], found, held["notes"])

    def add(self, step: int, choice: Choice) -> None:
        """Writes what was chosen."""
        file = str(choice.file) if choice.file is not None else None
        made = {"plan": choice.plan.to_dict(), "level": choice.level, "notes": choice.notes, "sensitivities": file}
        self._plans = [*self._plans[: step - 1], made]
        text = json.dumps({"config_hash": self._hash, "steps": self._plans}, indent=1)
        atomic_write(self._path, text.encode())
