"""Step 3 of the recipe: the training loop, its evaluations and checkpoints.

The loop knows the trainer only as :class:`Trainer` and the data only as :class:`Batches`; everything that
decides the next step (data order, learning rate) is a pure function of seed, epoch and step, so a run that
was killed and resumed ends in the same parameters as one that was not.
"""

from __future__ import annotations

import math
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Protocol

import numpy as np

from slimkit.errors import SlimkitError, TrainingError
from slimkit.recipe.checkpoint import BEST, LAST, Checkpoint, CheckpointFolder
from slimkit.recipe.config import config_hash, differing_keys
from slimkit.recipe.interrupt import StopRequest
from slimkit.recipe.metrics import Accuracy
from slimkit.recipe.progress import Progress
from slimkit.recipe.schedule import learning_rate

__all__ = ["Batches", "Interrupted", "Trainer", "TrainingLoop", "evaluate"]

Feed = Dict[str, np.ndarray]
Measure = Callable[[Callable[[], None]], Dict[str, Any]]


class Interrupted(SlimkitError):
    """The user stopped the run; a checkpoint to resume from was written."""

    exit_code = 130


class Trainer(Protocol):
    """What the loop needs of ``slimkit.quant.QatTrainer`` or ``slimkit.ir.trainer.FloatTrainer``."""

    def train_step(self, feed: Feed, fetch: List[str]) -> List[np.ndarray]: ...

    def eval_step(self, feed: Feed, fetch: List[str]) -> List[np.ndarray]: ...

    def set_learning_rate(self, lr: float) -> None: ...

    def state_dict(self) -> Dict[str, np.ndarray]: ...

    def load_state_dict(self, state: Dict[str, np.ndarray]) -> None: ...


class Batches(Protocol):
    """What the loop needs of a dataset."""

    @property
    def steps(self) -> int: ...

    def batches(self, epoch: int = 0, start_step: int = 0) -> Iterator[Feed]: ...


def evaluate(
    run: Callable[[Feed], np.ndarray], data: Batches, tick: Optional[Callable[[], None]] = None
) -> Dict[str, Any]:
    """Returns the accuracy of ``run`` (feed -> logits ``[N, classes]``) on a dataset.

    Returns:
        ``{"top1": fraction, "top5": fraction, "samples": n}``.
    """
    metric = Accuracy()
    for feed in data.batches():
        metric.update(run(feed), feed["label"])
        if tick:
            tick()
    return metric.result()


class TrainingLoop:
    """Trains, evaluates, and keeps the last and the best checkpoint.

    Args:
        trainer: of the quantized or the pruned network.
        train, test: datasets.
        config: the recipe: a section with ``run``, ``train`` (and whatever else decides what is trained).
        folder: where checkpoints go.
        loss, logits: names of the variables to fetch.
        extra: JSON-able values stored in every checkpoint and given back on resume (initial alphas).
        measure: how the model is evaluated: (called after each batch) -> figures; None: top-1 and top-5 on ``test``.
        headline: which of the figures says what is best.
        advice: what else to try when the loss is not finite.
    """

    def __init__(
        self,
        trainer: Trainer,
        train: Batches,
        test: Batches,
        config: Any,
        folder: CheckpointFolder,
        *,
        loss: str,
        logits: str,
        extra: Optional[Dict[str, Any]] = None,
        measure: Optional[Measure] = None,
        headline: str = "top1",
        advice: str = "turn on PACT with -o pact={}",
    ) -> None:
        self.trainer, self.train, self.test = trainer, train, test
        self.config, self.folder = config, folder
        self.loss, self.logits, self.extra = loss, logits, dict(extra or {})
        self._measure, self.headline, self._advice = measure or self._accuracy, headline, advice
        limit = config.train.max_steps
        self.steps_per_epoch = min(train.steps, limit) if limit else train.steps
        self.total = self.steps_per_epoch * config.train.epochs
        self.progress = Progress.start(self.total)
        self._started = time.monotonic()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint.

        Raises:
            TrainingError: it was written under a config that trains something else; the keys are named.
        """
        different = differing_keys(self.config, checkpoint.meta["config"])
        if different:
            raise TrainingError(
                f"{self.folder.path(LAST)} is of another config, differing in {', '.join(different)}; "
                "resume with that config, or start anew without --resume or in another run.output."
            )
        self.trainer.load_state_dict(checkpoint.arrays)
        self.progress = Progress.read(checkpoint.meta["progress"])
        self.extra = dict(checkpoint.meta["extra"])
        self._started = time.monotonic() - self.progress.seconds

    def save(self, *names: str) -> None:
        """Writes the current state as the checkpoints of these names.

        Raises:
            TrainingError: the state is not finite, or cannot be written.
        """
        self.progress.seconds = time.monotonic() - self._started
        meta = {
            "progress": self.progress.dump(),
            "extra": self.extra,
            "config": self.config.model_dump(),
            "config_hash": config_hash(self.config),
            "seed": self.config.run.seed,
        }
        arrays = self._finite_state()
        for name in names:
            self.folder.save(name, arrays, meta)

    def _finite_state(self) -> Dict[str, np.ndarray]:
        """Returns the trainer's state. A ReLU turns NaN into 0, so the loss alone does not tell."""
        arrays = self.trainer.state_dict()
        broken = next((n for n, v in arrays.items() if v.dtype.kind == "f" and not np.isfinite(v).all()), None)
        if broken is not None:
            raise TrainingError(self._remedy(f"{broken} became NaN or infinite by step {self.progress.step}"))
        return arrays

    def run(self, watch: Watcher) -> Progress:
        """Trains to the end.

        Raises:
            TrainingError: the loss is not finite, or a checkpoint cannot be written.
            Interrupted: Ctrl-C; the state is saved.
        """
        with StopRequest() as stop:
            if self.total == 0 and not self.progress.evaluations:
                self._evaluate(0, watch)
            while self.progress.step < self.total:
                epoch, start = divmod(self.progress.step, self.steps_per_epoch)
                self._epoch(epoch, start, stop, watch)
        return self.progress

    def load_best(self) -> None:
        """Puts the trainer back to the best evaluated state."""
        best = self.folder.load(BEST)
        if best is not None and self.progress.best_step != self.progress.step:
            self.trainer.load_state_dict(best.arrays)

    def _epoch(self, epoch: int, start: int, stop: StopRequest, watch: Watcher) -> None:
        every = self.config.run.checkpoint_steps
        batches = self.train.batches(epoch, start)
        for position, feed in enumerate(batches, start + 1):
            self._step(feed, epoch, watch)
            if position == self.steps_per_epoch:
                break
            if stop.requested:
                self._stop(epoch)
            if every and self.progress.step % every == 0:
                self.save(LAST)
        if self.progress.step < (epoch + 1) * self.steps_per_epoch:
            raise TrainingError(
                f"epoch {epoch + 1} ended after {self.progress.step % self.steps_per_epoch} of its "
                f"{self.steps_per_epoch} batches; the training set changed while the run was going on."
            )
        last = epoch + 1 == self.config.train.epochs
        if last or (epoch + 1) % self.config.train.evaluate_epochs == 0:
            self._evaluate(epoch + 1, watch)
        else:
            self.save(LAST)
        if stop.requested and not last:
            self._stop(epoch, saved=True)

    def _step(self, feed: Feed, epoch: int, watch: Watcher) -> None:
        step = self.progress.step
        rate = learning_rate(self.config.train.lr, step, self.steps_per_epoch, self.config.train.epochs)
        self.trainer.set_learning_rate(rate)
        loss = float(np.mean(self._train_step(feed, step)))
        if not math.isfinite(loss):
            at = f"step {step + 1} (epoch {epoch + 1}, learning rate {rate:.3g})"
            raise TrainingError(self._remedy(f"the loss became {loss} at {at}"))
        self.progress.step = step + 1
        self.progress.curve.add(step + 1, loss, rate)
        watch.on_step(self.progress, loss, rate)

    def _train_step(self, feed: Feed, step: int) -> np.ndarray:
        try:
            return self.trainer.train_step(feed, [self.loss])[0]
        except SlimkitError:
            raise
        except Exception as error:  # whatever Paddle raises: memory, device, a kernel that refuses
            raise TrainingError(
                f"Paddle failed in step {step + 1}: {native_summary(error)}; SLIMKIT_DEBUG=1 shows its traceback."
            ) from error

    def _remedy(self, what: str) -> str:
        """Returns what went wrong, what to do about it, and what is left."""
        name = {"top1": "top-1"}.get(self.headline, self.headline)
        kept = (
            f"the best checkpoint (step {self.progress.best_step}, {name} {self.progress.best:.4f}) is in "
            f"{self.folder.path(BEST)}"
            if self.progress.best is not None
            else "no checkpoint was good enough to keep yet"
        )
        return f"{what}; lower train.lr.base, set train.optimizer.clip_norm, or {self._advice}; {kept}."

    def _accuracy(self, tick: Callable[[], None]) -> Dict[str, Any]:
        return evaluate(lambda feed: self.trainer.eval_step(feed, [self.logits])[0], self.test, tick)

    def _evaluate(self, epoch: int, watch: Watcher) -> None:
        self._finite_state()
        watch.on_evaluation_start(self.test.steps)
        result = self._measure(watch.on_evaluation_batch)
        self.progress.evaluations.append({"epoch": epoch, "step": self.progress.step, **result})
        figure = result[self.headline]
        better = self.progress.best is None or figure > self.progress.best
        if better:
            self.progress.best, self.progress.best_step = figure, self.progress.step
        self.save(*([BEST, LAST] if better else [LAST]))
        watch.on_evaluation(self.progress)

    def _stop(self, epoch: int, saved: bool = False) -> None:
        if not saved:
            self.save(LAST)
        raise Interrupted(
            f"stopped at step {self.progress.step} of {self.total} (epoch {epoch + 1}); all is saved, go "
            "on with the same command and --resume."
        )


def native_summary(error: BaseException) -> str:
    """Returns the telling line of one of Paddle's many-line errors."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error:" in line and not line.startswith("File")]
    return (telling or lines[-1:] or [type(error).__name__])[0].rstrip(".")


class Watcher:
    """Is told how the training goes; the base class does nothing."""

    def on_step(self, progress: Progress, loss: float, rate: float) -> None:
        """After each training step."""

    def on_evaluation_start(self, batches: int) -> None:
        """Before an evaluation of so many batches."""

    def on_evaluation_batch(self) -> None:
        """After each batch of an evaluation."""

    def on_evaluation(self, progress: Progress) -> None:
        """After an evaluation; its result is the last of ``progress.evaluations``."""
