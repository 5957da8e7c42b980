"""``slimkit prune``: a network and data in; a smaller network that has been run on its runtimes, and a report, out.

load -> groups -> (sensitivities) -> plan -> prune -> check -> fine-tune -> (quantize) -> export -> verify -> report
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from slimkit.errors import ConfigError
from slimkit.ir.trainer import inference_of
from slimkit.prune import find_groups
from slimkit.recipe.checkpoint import prepare_folder
from slimkit.recipe.exporters import exporter
from slimkit.recipe.prune_choice import Choice, Chooser
from slimkit.recipe.prune_problem import open_problem
from slimkit.recipe.prune_report import Cost, PruneRunReport, Stage, write_prune_report
from slimkit.recipe.prune_schema import PruneRecipe
from slimkit.recipe.prune_steps import prune, take
from slimkit.recipe.prune_tuning import Tuned, Tuner
from slimkit.recipe.screen import Screen

__all__ = ["PruneRun", "run_prune", "run_sensitivity"]

@dataclass
class PruneRun:
    """A run on its way: what each step adds."""

    recipe: PruneRecipe
    screen: Screen
    resume: bool = False
    command: str = ""
    config_file: str = ""
    started: float = field(default_factory=time.perf_counter)
    seconds: Dict[str, float] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)
    stages: List[Stage] = field(default_factory=list)
    costs: Dict[str, Cost] = field(default_factory=dict)
    kept: Dict[str, int] = field(default_factory=dict)

    problem: Any = None
    tuner: Any = None
    chooser: Any = None
    groups: Any = None
    choice: Optional[Choice] = None
    whole: Any = None
    model: Any = None
    masked_difference: Optional[float] = None
    tuned: Optional[Tuned] = None
    quantized: Dict[str, Any] = field(default_factory=dict)
    exported: Dict[str, Dict[str, Path]] = field(default_factory=dict)
    verified: Any = None

    @property
    def out(self) -> Path:
        return Path(self.recipe.run.output)

    def note(self, text: str) -> None:
        """Adds what the user should know, once."""
        if text not in self.notes:
            self.notes.append(text)
            self.screen.warn(text)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds to the seconds of a step."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def stage(self, name: str, metrics: Dict[str, Any], macs: Optional[int] = None) -> None:
        """Records and shows the figures of a stage."""
        figures = {key: float(value) for key, value in metrics.items() if key != "samples"}
        self.stages.append(Stage(name=name, metrics=figures, samples=int(metrics.get("samples", 0)), macs=macs))
        headline = self.problem.headline
        self.screen.fact(name, f"{headline} {figures[headline] * 100:.2f}% on {metrics.get('samples', 0)} test samples")


def run_prune(
    recipe: PruneRecipe, *, resume: bool = False, command: str = "", config_file: str = "",
    screen: Optional[Screen] = None,
) -> PruneRunReport:  # fmt: skip
    """Runs a recipe and writes the pruned network, its exports, ``report.html`` and ``report.json``.

    Args:
        recipe: the config.
        resume: go on from the checkpoints in ``run.output``, if there are any.
        command: how it was called, for the report.
        config_file: where the config was read from, for the report.
        screen: where progress is shown; None: the terminal.

    Raises:
        SlimkitError: one sentence: config, data, model, target, training or runtime.
    """
    from slimkit.recipe.prune_deploy import export, quantize, verify_exports
    from slimkit.recipe.prune_summary import assemble, show

    with screen or Screen() as shown:
        run = PruneRun(recipe, shown, resume, command, config_file)
        _check(run)
        with run.timed("load"):
            load(run)
        prune(run)
        fine_tune(run)
        quantize(run)
        with run.timed("export"):
            export(run)
        with run.timed("verify"):
            verify_exports(run)
        run.seconds["total"] = time.perf_counter() - run.started
        report = assemble(run)
        show(run, report, write_prune_report(report, run.out))
    return report


def run_sensitivity(recipe: PruneRecipe, *, screen: Optional[Screen] = None) -> Any:
    """Measures sensitivities and writes the points file and a plot beside it; goes on where it was stopped.

    Returns:
        The ``Sensitivities``.

    Raises:
        SlimkitError: one sentence.
    """
    from slimkit.recipe.prune_summary import show_sensitivities

    with screen or Screen() as shown:
        run = PruneRun(recipe, shown)
        prepare_folder(recipe.run.output)
        load(run, evaluate=False)
        model = inference_of(run.problem.training, run.problem.outputs)
        scorer = run.chooser.scorer(model, run.problem.training)
        found = run.chooser.sensitivities(model, run.groups, run.chooser.file, scorer)
        show_sensitivities(run, found)
    return found


def _check(run: PruneRun) -> None:
    """What is missing is said before anything is computed."""
    for runtime in run.recipe.to:
        missing = exporter(runtime).missing()
        if missing:
            raise ConfigError(f"to: {runtime}: {missing}")
    prepare_folder(run.recipe.run.output)


def load(run: PruneRun, evaluate: bool = True) -> None:
    """Opens network and data, evaluates the float network, and finds its groups."""
    recipe, screen = run.recipe, run.screen
    screen.heading("Load")
    problem = run.problem = open_problem(recipe)
    run.tuner, run.chooser = Tuner(recipe, problem, screen, run.resume), Chooser(recipe, problem, screen)
    screen.fact("network", ", ".join(f"{key} {value}" for key, value in problem.about.items()))
    for note in problem.notes:
        run.note(note)
    model = inference_of(problem.training, problem.outputs)
    run.groups = find_groups(model, layer_norm=recipe.prune.layer_norm)
    run.whole = run.chooser.cost(model, run.groups)
    screen.fact("groups", f"{len(run.groups.prunable)} can be pruned, {len(run.groups.refused)} stay whole")
    screen.fact("cost", f"{run.whole.macs() / 1e6:.2f} M multiply-accumulates, {run.whole.parameters():,} parameters")
    run.kept = {group.name: group.size for group in run.groups}
    run.chooser.sizes = dict(run.kept)
    if evaluate:
        run.stage("float", run.tuner.evaluate(model, "evaluating the float network"), run.whole.macs())


def fine_tune(run: PruneRun) -> None:
    """Trains the pruned network, from the last checkpoint when resuming, and takes the best state."""
    train = run.recipe.train
    if not train.epochs:
        return
    run.screen.heading("Fine-tune")
    with run.timed("train"):
        run.tuned = run.tuner.tune(run.tuner.trainer(run.model, train), train, "")
    take(run.model, run.tuned.trainer)
    run.stage("fine-tuned", run.tuned.metrics, int(run.costs["macs"].after))
