"""Training in a pruning recipe: fine-tuning of the pruned network, and quantization-aware training of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional

from slimkit.recipe.checkpoint import LAST, CheckpointFolder
from slimkit.recipe.optimizers import device, optimizer_factory
from slimkit.recipe.progress import Progress
from slimkit.recipe.prune_problem import Problem, figures
from slimkit.recipe.prune_schema import PruneRecipe, TuneSection
from slimkit.recipe.ptq_rows import figure_name
from slimkit.recipe.screen import Screen, ScreenWatcher
from slimkit.recipe.training import TrainingLoop

__all__ = ["Tuned", "Tuner"]

ADVICE = "prune less"


@dataclass
class Tuned:
    """What training made.

    Attributes:
        trainer: at its best state.
        progress: where it went.
        metrics: of the best state.
        resumed: whether it went on from a checkpoint.
    """

    trainer: Any
    progress: Progress
    metrics: Dict[str, Any]
    resumed: bool


class _Count:
    """Stands for the test set in the training loop, which asks for its number of batches only."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def batches(self, epoch: int = 0, start_step: int = 0) -> Any:
        raise NotImplementedError


class _Watcher(ScreenWatcher):
    """Shows the headline figure of each evaluation."""

    def __init__(self, screen: Screen, total: int, epochs: int, done: int, headline: str) -> None:
        super().__init__(screen, total, epochs, done)
        self._headline = headline

    def on_evaluation(self, progress: Progress) -> None:
        last = progress.evaluations[-1]
        text = f"{figure_name(self._headline)} {last[self._headline] * 100:.2f}%"
        recent: List[float] = progress.curve.loss[-20:]
        if recent:
            text = f"loss {sum(recent) / len(recent):.3f}   {text}"
        text += "   best so far" if progress.best_step == progress.step else ""
        self.screen.fact(f"epoch {last['epoch']}/{self.epochs}", text)
        self._resume_bar(progress.step)


class Tuner:
    """Trains networks of one recipe.

    Args:
        recipe: the config.
        problem: data and figure of merit.
        screen: shows progress.
        resume: go on from checkpoints that are there.
    """

    def __init__(self, recipe: PruneRecipe, problem: Problem, screen: Screen, resume: bool) -> None:
        self.recipe, self.problem, self.screen, self.resume = recipe, problem, screen, resume
        self.place = device(recipe.run.place)

    def figures(self, run: Callable[[Any], Any], tick: Optional[Callable[[], None]] = None) -> Dict[str, Any]:
        """Evaluates a function of a feed on the test data."""
        return figures(run, self.problem.evaluation(), self.problem.metric(), tick)

    def evaluate(self, model: Any, doing: str) -> Dict[str, Any]:
        """Evaluates an inference model."""
        from slimkit.ir import legacy_ir
        from slimkit.ir.onednn import CONVOLUTIONS, prefer_onednn

        fast = model.clone()
        with legacy_ir():
            prefer_onednn(fast.program, self.place, CONVOLUTIONS)
        self.screen.begin(doing, self.problem.test_steps)
        found = self.figures(lambda feed: fast.run(feed, place=self.place), self.screen.advance)
        self.screen.end()
        return found

    def trainer(self, training: Any, train: TuneSection) -> Any:
        """A float trainer of a network."""
        from slimkit.ir.trainer import FloatTrainer

        make = optimizer_factory(train)
        return FloatTrainer(training, self.problem.loss, make, self.place, self.recipe.run.seed)

    def tune(self, trainer: Any, train: TuneSection, name: str, start: Optional[Callable[[], None]] = None) -> Tuned:
        """Trains, and goes to the best state.

        Args:
            trainer: of the network.
            train: for how long and how.
            name: of the folder with its checkpoints, in the output folder; "": the output folder itself.
            start: called before a training that does not resume.
        """
        recipe, problem = self.recipe, self.problem
        folder = CheckpointFolder(os.path.join(recipe.run.output, name))
        os.makedirs(folder.folder, exist_ok=True)

        def measure(tick: Callable[[], None]) -> Dict[str, Any]:
            return self.figures(lambda feed: trainer.eval_step(feed, problem.outputs), tick)

        loop = TrainingLoop(
            trainer, problem.train, _Count(problem.test_steps), recipe.model_copy(update={"train": train}), folder,
            loss=problem.loss, logits=problem.outputs[0], measure=measure, headline=problem.headline, advice=ADVICE,
        )  # fmt: skip
        checkpoint = folder.load(LAST) if self.resume else None
        if checkpoint is not None:
            loop.restore(checkpoint)
            self.screen.fact("resumed", f"at step {loop.progress.step} of {loop.total}")
        else:
            folder.clear()
            if start:
                start()
        watcher = _Watcher(self.screen, loop.total, train.epochs, loop.progress.step, problem.headline)
        progress = loop.run(watcher)
        self.screen.end()
        loop.load_best()
        best = next(e for e in progress.evaluations if e["step"] == progress.best_step)
        metrics = {key: value for key, value in best.items() if key not in ("epoch", "step")}
        return Tuned(trainer, progress, metrics, checkpoint is not None)
