"""What a pruning needs of its network and data: programs, batches to train on, and a figure of merit.

Two kinds: :class:`Labelled`, a network with labelled images; :class:`Imitation`, a model without labels to train on,
which is fine-tuned to the outputs that the unpruned model gives.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from slimkit.errors import ConfigError, ModelError
from slimkit.recipe.data.real_models import model_path
from slimkit.recipe.prune_schema import PruneRecipe
from slimkit.recipe.tasks.samples import Stream

__all__ = ["Agreement", "Imitation", "Labelled", "Problem", "figures", "open_problem"]

Feed = Dict[str, np.ndarray]
Pairs = Stream[Tuple[Feed, Any]]


class Labelled:
    """A classifier with labelled images.

    Attributes:
        training: ``Model`` for training, with a loss; loss, outputs: names of its results.
        inference: ``Model`` for inference.
        train: batches to train on.
        headline: the figure that counts.
        about, layers, notes: for the report; layers is parameter -> layer path.
    """

    task, headline = "classification", "top1"

    def __init__(self, recipe: PruneRecipe) -> None:
        import paddle

        from slimkit.recipe.data import build_datasets
        from slimkit.recipe.float_network import NamedBatches, load_network

        assert recipe.data is not None and recipe.network is not None  # the schema saw to it
        self._recipe = recipe
        self._train_set, self._test_set = build_datasets(
            recipe.data.model_dump(), num_classes=recipe.network.num_classes, seed=recipe.run.seed
        )
        with paddle.utils.unique_name.guard():  # parameters' names are in files, so they are the same each time
            network = load_network(recipe)
        self.training, self.inference = network.training, network.inference
        self.loss, self.outputs = network.loss, [network.logits]
        self.about, self.notes, self.layers = network.about, network.notes, network.layers
        self.image = network.image
        self.train = NamedBatches(self._train_set, self.image)

    def evaluation(self, limit: Optional[int] = None) -> Pairs:
        """Labelled test batches, re-iterable."""
        from slimkit.recipe.float_network import NamedBatches

        batches = NamedBatches(self._test_set, self.image)
        return Stream(lambda: _labelled(batches.batches(), self.image, limit))

    @property
    def test_steps(self) -> int:
        """Batches of ``evaluation()``."""
        return int(self._test_set.steps)

    def metric(self) -> Any:
        """A fresh metric."""
        from slimkit.deploy.verify_metric import Top1

        return Top1()

    def observed(self) -> Tuple[Pairs, Callable[[], Any]]:
        """What sensitivities are measured on: batches, and a metric."""
        settings = self._recipe.sensitivity
        if settings.data == "test":
            return self.evaluation(settings.images), self.metric
        return Stream(lambda: self._plain_training(settings.images)), self.metric

    def _plain_training(self, limit: Optional[int]) -> Iterator[Tuple[Feed, Any]]:
        """Training images without augmentation."""
        from slimkit.recipe.data import build_datasets
        from slimkit.recipe.float_network import NamedBatches

        recipe = self._recipe
        assert recipe.data is not None and recipe.network is not None
        data = {**recipe.data.model_dump(), "augment": False, "drop_last": False}
        data["batch_size"] = recipe.data.eval_batch_size
        plain = build_datasets(data, num_classes=recipe.network.num_classes, seed=recipe.run.seed)[0]
        return _labelled(NamedBatches(plain, self.image).batches(), self.image, limit)

    def calibration(self, count: int) -> Stream[Feed]:
        """Feeds of some training images without augmentation."""
        return Stream(lambda: (feed for feed, _ in self._plain_training(count)))

    def data_report(self) -> Dict[str, Any]:
        """What the data say of themselves."""
        return {"train": self._train_set.report(), "test": self._test_set.report()}


class Imitation:
    """An inference model that is fine-tuned to the outputs it has; see :class:`Labelled` for the attributes."""

    def __init__(self, recipe: PruneRecipe) -> None:
        from slimkit.ir import Model
        from slimkit.ir.training import to_imitation
        from slimkit.recipe.tasks import open_samples
        from slimkit.recipe.teacher import TeacherBatches

        settings = recipe.samples
        assert settings is not None  # the schema saw to it
        self._settings, self._sensitivity = settings, recipe.sensitivity
        self.inference = Model.load(model_path(recipe.model or ""))
        if len(self.inference.feeds) != 1:
            raise ModelError(
                f"{recipe.model} has the inputs {', '.join(self.inference.feeds)}; a recipe prunes models of one input."
            )
        self.image = self.inference.feeds[0]
        task, self._eval = open_samples(self.inference, settings.eval, settings.task, **settings.options)
        if not self._eval.labelled or task.metric() is None:
            raise ConfigError(f"samples.eval: {settings.eval} has no labels to evaluate with; give labelled data.")
        self._path = open_samples(self.inference, settings.path, task.name, **settings.options)[1]
        self.task, self.headline, self.metric = task.name, task.headline, task.metric
        self.training = self.inference.clone(copy_params=True)
        self.outputs = list(self.inference.fetches)
        self.loss = to_imitation(self.training)
        self.train = TeacherBatches(
            self._path, self.inference, self.training.feeds[-1], batch_size=settings.batch_size, steps=settings.steps,
            crop=settings.crop, seed=recipe.run.seed,
        )  # fmt: skip
        self.about = {
            "name": recipe.model,
            "parameters": sum(int(np.size(value)) for value in self.inference.params.values()),
            "weights": "its own",
        }
        self.notes = [f"Fine-tuned without labels, to what {recipe.model} itself gives on {settings.path}."]
        self.layers: Dict[str, str] = {}

    def evaluation(self, limit: Optional[int] = None) -> Pairs:
        """Labelled test batches, re-iterable."""
        limits = [n for n in (limit, self._settings.eval_images) if n is not None]
        return self._eval.stream(limit=min(limits) if limits else None)

    @property
    def test_steps(self) -> int:
        """Batches of ``evaluation()``."""
        return len(self._eval.parts(self._eval.batch_size, self._settings.eval_images))

    def observed(self) -> Tuple[Pairs, Callable[[], Any]]:
        """What sensitivities are measured on: batches, and a metric."""
        settings = self._sensitivity
        if settings.data == "test":
            return self.evaluation(settings.images), self.metric
        held = self.train.fixed(settings.images)
        return Stream(lambda: iter(held)), Agreement

    def calibration(self, count: int) -> Stream[Feed]:
        """Feeds of some training samples."""
        return self._path.feeds(limit=count)

    def data_report(self) -> Dict[str, Any]:
        """What the data say of themselves."""
        return {"train": self._path.report(), "test": self._eval.report()}


Problem = Union[Labelled, Imitation]


def open_problem(recipe: PruneRecipe) -> Problem:
    """Loads the network and finds the data of a recipe.

    Raises:
        ConfigError, DataError, ModelError: one sentence.
    """
    return Labelled(recipe) if recipe.network is not None else Imitation(recipe)


def _labelled(batches: Iterator[Feed], image: str, limit: Optional[int]) -> Iterator[Tuple[Feed, Any]]:
    """(feed, labels) of the first so many samples."""
    left = limit
    for feed in batches:
        size = len(feed["label"]) if left is None else min(left, len(feed["label"]))
        yield {image: feed[image][:size]}, feed["label"][:size]
        if left is not None:
            left -= size
            if left <= 0:
                return


def figures(
    run: Callable[[Feed], Sequence[np.ndarray]],
    batches: Any,
    metric: Any,
    tick: Optional[Callable[[], None]] = None,
) -> Dict[str, Any]:
    """Evaluates: name -> figure, and ``samples``.

    Args:
        run: feed -> outputs.
        batches: of (feed, labels).
        metric: a fresh one.
        tick: called after each batch.
    """
    samples = 0
    for feed, labels in batches:
        metric.update(run(feed), labels)
        samples += len(next(iter(feed.values())))
        if tick:
            tick()
    return {**{name: float(value) for name, value in metric.result().items()}, "samples": samples}


class Agreement:
    """How much outputs agree with those of another network: ``1 - sum |a - b| / (sum |a| + sum |b|)``.

    0 to 1; for probabilities it is the Dice coefficient made soft. Labels are the other network's first output.
    """

    def __init__(self) -> None:
        self._difference = self._sum = 0.0

    def update(self, outputs: Sequence[np.ndarray], labels: Any) -> None:
        """Adds a batch."""
        ours, theirs = np.asarray(outputs[0], np.float64), np.asarray(labels, np.float64)
        self._difference += float(np.abs(ours - theirs).sum())
        self._sum += float(np.abs(ours).sum() + np.abs(theirs).sum())

    def result(self) -> Mapping[str, float]:
        """``{"agreement": fraction}``; 1 where both are zero throughout."""
        return {"agreement": 1.0 - self._difference / self._sum if self._sum else 1.0}

