"""Choosing what goes: from the ``prune`` and ``sensitivity`` sections to a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Dict, List, Optional

from slimkit.errors import ConfigError
from slimkit.prune import Groups, Plan
from slimkit.prune.cost import CostModel
from slimkit.prune.criteria import CRITERIA, Scorer
from slimkit.prune.line import Target
from slimkit.prune.plan import make_plan
from slimkit.prune.targets import Limits, ratios_by_sensitivity, uniform
from slimkit.recipe.prune_problem import Problem
from slimkit.recipe.prune_schema import PruneRecipe
from slimkit.recipe.screen import Screen

__all__ = ["Choice", "Chooser"]

#: Keys of the ``data`` or ``samples`` section that decide what a sensitivity is measured on.
_MEASURED_ON = ("kind", "root", "image_size", "train_limit", "eval_limit", "path", "eval", "task", "crop")


@dataclass
class Choice:
    """What goes and why.

    Attributes:
        plan: it.
        level: the loss line, or the one ratio; None with ratios that were given.
        sensitivities: the points; None where none were needed.
        notes: what the user should know.
        file: where the points are.
    """

    plan: Plan
    level: Optional[float] = None
    sensitivities: Any = None
    notes: List[str] = field(default_factory=list)
    file: Optional[Path] = None


class Chooser:
    """Chooses for one recipe.

    Args:
        recipe: the config.
        problem: its network and data.
        screen: shows progress.

    Attributes:
        sizes: units of the unpruned network's groups, which limits are of; empty: those of the network at hand.
    """

    def __init__(self, recipe: PruneRecipe, problem: Problem, screen: Screen) -> None:
        self.recipe, self.problem, self.screen = recipe, problem, screen
        self.sizes: Dict[str, int] = {}

    @property
    def file(self) -> Path:
        """Where the points are."""
        return Path(self.recipe.sensitivity.file or Path(self.recipe.run.output) / "sensitivity.json")

    def feed(self) -> Dict[str, Any]:
        """One sample as it is evaluated: costs and latencies are of its shape."""
        feed = next(iter(self.problem.evaluation(1)))[0]
        return {name: array[:1] for name, array in feed.items()}

    def shapes(self) -> Dict[str, List[int]]:
        """The shape of each input."""
        return {name: list(array.shape) for name, array in self.feed().items()}

    def cost(self, model: Any, groups: Groups) -> CostModel:
        """What plans cost, of one sample as it is evaluated."""
        return CostModel.of(model, groups, self.shapes())

    def choose(
        self, model: Any, groups: Groups, training: Any, cost: CostModel, target: Optional[Target], file: Path
    ) -> Choice:
        """Makes a plan.

        Args:
            model: for inference, with the weights of now.
            groups: of it.
            training: the same network for training, for gradients.
            cost: of ``model``.
            target: of this step; None with method ``ratios``.
            file: where sensitivities are kept.

        Raises:
            ConfigError: parameters that cannot be pruned, or a target beyond reach.
            EvaluationError: a sensitivity could not be measured; those before it are kept.
        """
        settings = self.recipe.prune
        scorer = self.scorer(model, training)
        if target is None:
            how: Dict[str, Any] = {"round_to": settings.round_to, "floor": settings.floor, "greedy": settings.greedy}
            plan = make_plan(groups, scorer, settings.ratios, **how)
            return Choice(plan, notes=list(plan.notes))
        skip = tuple(settings.skip)
        limits = Limits(settings.round_to, settings.floor, settings.max_ratio, skip, sizes=self.sizes)
        limits.check(groups)
        found = None
        common: Dict[str, Any] = {"limits": limits, "scores": scorer, "greedy": settings.greedy}
        if target.unit == "latency":
            common["measure"] = self._latency(model)
        if settings.method == "uniform":
            line = uniform(groups, target, cost, **common)
        else:
            found = self.sensitivities(model, groups, file, scorer)
            line = ratios_by_sensitivity(groups, self._of_groups(groups, found), target, cost, **common)
        notes = list(dict.fromkeys([*line.notes, *line.plan.notes]))
        return Choice(line.plan, line.level, found, notes, file if found is not None else None)

    @staticmethod
    def _of_groups(groups: Groups, found: Any) -> Dict[str, Any]:
        """Without points of parameters that another run measured and that cannot be pruned now."""
        names = {member.parameter for group in groups.prunable for member in group.members}
        return {name: points for name, points in found.items() if name in names}

    def scorer(self, model: Any, training: Any) -> Scorer:
        """Scores by the recipe's criterion."""
        from slimkit.prune.gradients import taylor_gradients

        settings, gradients = self.recipe.prune, None
        if CRITERIA[settings.criterion].gradients:
            feeds = islice(self.problem.train.batches(), settings.gradient_batches)
            statistic = "abs" if settings.criterion == "taylor_abs" else "rms"
            gradients = taylor_gradients(training, self.problem.loss, feeds, statistic)
        return Scorer(model.params, settings.criterion, gradients, normalize=settings.normalize)

    def sensitivities(self, model: Any, groups: Groups, file: Path, scorer: Optional[Scorer] = None) -> Any:
        """Measures what the file does not hold yet.

        Raises:
            ConfigError: the file is of another network, criterion or evaluation.
        """
        from slimkit.prune.sensitivity import Point, Sensitivities, StreamingEvaluation, measure_sensitivity
        from slimkit.prune.sensitivity.engine import network_fingerprint

        settings, prune = self.recipe.sensitivity, self.recipe.prune
        meta = self._meta()
        if file.exists():
            held = Sensitivities.load(file)
            if held.meta and held.meta != meta:
                key = next(k for k in {**meta, **held.meta} if held.meta.get(k) != meta.get(k))
                raise ConfigError(
                    f"{file} was measured with {key} {held.meta.get(key)}, this config has {meta.get(key)}; set "
                    "sensitivity.file to another file, or delete this one."
                )
        else:
            fingerprint = network_fingerprint(groups, model.params)
            Sensitivities(model=fingerprint, criterion=prune.criterion, meta=meta).save(file)
        batches, metric = self.problem.observed()
        names = [group.name for group in groups.prunable if not self._skipped(group)]
        shown: List[int] = []

        def progress(point: Point) -> None:
            if not shown:
                self.screen.begin("measuring sensitivities", point.total)
            shown.append(1)
            self.screen.at(point.done)

        found = measure_sensitivity(
            model, groups, StreamingEvaluation(list(batches), metric), settings.ratios, parameters=names,
            criterion=prune.criterion, path=file, workers=settings.workers, executor=settings.executor,
            progress=progress, gradients=scorer.gradients if scorer is not None else None,
        )  # fmt: skip
        self.screen.end()
        return found

    def _skipped(self, group: Any) -> bool:
        return Limits(skip=tuple(self.recipe.prune.skip)).skips(group)

    def _meta(self) -> Dict[str, Any]:
        """What the points depend on beside the network and the criterion."""
        settings = self.recipe.sensitivity
        part = self.recipe.data if self.recipe.data is not None else self.recipe.samples
        assert part is not None  # the schema saw to it
        named = {key: value for key, value in part.model_dump().items() if key in _MEASURED_ON and value is not None}
        source = ", ".join(f"{key} {value}" for key, value in named.items())
        return {"data": source, "part": settings.data, "images": settings.images}

    def _latency(self, model: Any) -> Any:
        from slimkit.deploy import PlanLatency

        return PlanLatency(model, self.feed(), runtime=self.recipe.to[0], threads=self.recipe.verify.threads)
