"""Float training of a network of the recipes, to make the weights they start from.

``python tools/train_float.py -c configs/mbv3_float.yml`` made the weights embedded in the package. The
result is the moving average of the weights after the last epoch; test accuracy is measured and reported,
and decides nothing.
"""

from __future__ import annotations

import json
import math
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Tuple, Union

import numpy as np
import paddle
from rich.console import Console

from slimkit.errors import TrainingError
from slimkit.files import atomic_write
from slimkit.recipe import networks
from slimkit.recipe.config import config_hash
from slimkit.recipe.data import Dataset, build_datasets
from slimkit.recipe.float_config import FloatConfig
from slimkit.recipe.float_steps import EagerSteps, OnednnSteps
from slimkit.recipe.metrics import Accuracy
from slimkit.recipe.schedule import learning_rate
from slimkit.recipe.small_maps import fast_small_maps
from slimkit.recipe.weights import load_weights, save_weights

__all__ = ["estimate_batch_norm", "evaluate", "train_float"]

CARD_NOTE = "Moving average of the weights after the last epoch; the test images decided nothing."


class _Average:
    """Exponential moving average of a ``state_dict`` (arXiv:1905.02244, 6.1.1).

    The decay starts low, min(ema, (1 + n) / (10 + n)) at step n, so that random weights are soon forgotten.
    """

    def __init__(self, state: Dict[str, paddle.Tensor], decay: float) -> None:
        self._state, self._decay, self.step = state, decay, 0
        self.values = {key: tensor.numpy() for key, tensor in state.items()}

    def update(self) -> None:
        keep = min(self._decay, (1 + self.step) / (10 + self.step))
        for key, tensor in self._state.items():
            self.values[key] += (1 - keep) * (tensor.numpy() - self.values[key])
        self.step += 1


def evaluate(network: networks.TrainingNetwork, dataset: Dataset) -> Dict[str, Any]:
    """Returns the accuracy of a network, in eval mode, as :meth:`Accuracy.result` does."""
    accuracy, was_training = Accuracy(), network.training
    network.eval()
    try:
        with paddle.no_grad():
            for batch in dataset.batches():
                logits = network.backbone(paddle.to_tensor(batch["image"]))
                accuracy.update(logits.numpy(), batch["label"])
    finally:
        if was_training:
            network.train()
    return accuracy.result()


def estimate_batch_norm(network: networks.TrainingNetwork, dataset: Dataset, epoch: int) -> None:
    """Sets batch norm's running mean and variance to their average over an epoch's batches.

    A moving average of weights needs it: the moving statistics belong to other weights
    ("precise BN", arXiv:2105.07576, section 3.1).

    Args:
        network: left in the mode (train or eval) it was in.
        dataset: training images.
        epoch: of the dataset's order and augmentation.
    """
    norms = [layer for layer in network.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    momenta, was_training = [norm._momentum for norm in norms], network.training
    network.train()
    try:
        with paddle.no_grad():
            for count, batch in enumerate(dataset.batches(epoch)):
                for norm in norms:
                    norm._momentum = count / (count + 1)
                network.backbone(paddle.to_tensor(batch["image"]))
    finally:
        for norm, momentum in zip(norms, momenta):
            norm._momentum = momentum
        if not was_training:
            network.eval()


def _steps(config: FloatConfig, network: networks.TrainingNetwork) -> Union[EagerSteps, OnednnSteps]:
    if config.train.onednn:
        return OnednnSteps(network, config.train.optimizer, config.data.image_size, config.run.seed)
    return EagerSteps(network, config.train.optimizer)


class _Run:
    """The state of a float training: everything a checkpoint holds."""

    def __init__(self, config: FloatConfig) -> None:
        self.config, self.output = config, Path(config.run.output)
        self.train_set, self.test_set = build_datasets(
            config.data.model_dump(), num_classes=config.network.num_classes, seed=config.run.seed
        )
        paddle.seed(config.run.seed)
        section = config.network
        self.network = networks.build(
            section.name or "",
            num_classes=section.num_classes,
            scale=section.scale,
            label_smoothing=section.label_smoothing,
        )
        if section.weights:
            load_weights(self.network.backbone, Path(section.weights), new_head=True)
        self.state = self.network.backbone.state_dict()
        self.steps = _steps(config, self.network)
        self.average = _Average(self.state, config.train.ema)
        self.epoch = 0
        self.seconds = 0.0

    def train_epoch(self) -> float:
        """Trains one epoch; returns the mean loss."""
        config, steps, losses = self.config, self.train_set.steps, []
        paddle.seed(config.run.seed * 1000 + self.epoch)  # dropout; so a resumed run draws the same masks
        self.network.train()
        for step, batch in enumerate(self.train_set.batches(self.epoch), self.epoch * steps):
            losses.append(self.steps.step(batch, learning_rate(config.train.lr, step, steps, config.train.epochs)))
            self.average.update()
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"The loss is {losses[-1]} at step {step}; lower train.lr.base ({config.train.lr.base}) "
                    "or set train.optimizer.clip_norm=1.0."
                )
        self.epoch += 1
        return float(np.mean(losses))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the context, the network has the averaged weights and batch-norm statistics of them."""
        live = {key: tensor.numpy() for key, tensor in self.state.items()}
        try:
            for key, tensor in self.state.items():
                tensor.set_value(self.average.values[key])
            estimate_batch_norm(self.network, self.train_set, self.epoch)
            yield
        finally:
            for key, tensor in self.state.items():
                tensor.set_value(live[key])

    def checkpoint_path(self) -> Path:
        return self.output / "checkpoint.pdparams"

    def save(self) -> None:
        """Writes the checkpoint, atomically."""
        self.output.mkdir(parents=True, exist_ok=True)
        temporary = self.output / ".checkpoint.pdparams.tmp"
        content = {
            "config": config_hash(self.config),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "network": {key: tensor.numpy() for key, tensor in self.state.items()},
            "average": self.average.values,
            "average_step": self.average.step,
            "optimizer": self.steps.state_dict(),
        }
        paddle.save(content, str(temporary))
        temporary.replace(self.checkpoint_path())

    def resume(self) -> None:
        """Goes back to the checkpoint of the same config.

        Raises:
            TrainingError: there is none, or it is of another config.
        """
        path = self.checkpoint_path()
        if not path.is_file():
            raise TrainingError(f"There is no checkpoint {path} to resume; run without --resume.")
        content = paddle.load(str(path), return_numpy=True)
        if content["config"] != config_hash(self.config):
            raise TrainingError(f"{path} was made with another config; run without --resume, or into another folder.")
        for key, tensor in self.state.items():
            tensor.set_value(content["network"][key])
        self.average.values, self.average.step = content["average"], content["average_step"]
        self.steps.load_state_dict(content["optimizer"])
        self.epoch, self.seconds = content["epoch"], content["seconds"]

    def write_result(self, command: str) -> Tuple[Path, Dict[str, Any]]:
        """Writes ``weights.npz`` and its card; returns the path and the card.

        The card's accuracy is that of the file: read back, float16 rounding included.
        """
        path = self.output / "weights.npz"
        with fast_small_maps(self.network), self.averaged():
            save_weights({key: tensor.numpy() for key, tensor in self.state.items()}, path)
        load_weights(self.network.backbone, path)
        with fast_small_maps(self.network):
            accuracy = evaluate(self.network, self.test_set)
        card = {
            "network": self.config.network.model_dump(),
            "data": self.train_set.report(),
            "image_size": self.config.data.image_size,
            "top1": round(accuracy["top1"], 4),
            "top5": round(accuracy["top5"], 4),
            "test_samples": accuracy["samples"],
            "seed": self.config.run.seed,
            "epochs": self.epoch,
            "training_minutes": round(self.seconds / 60, 1),
            "date": time.strftime("%Y-%m-%d"),
            "command": command,
            "recipe": self.config.model_dump(include={"data", "train"}),
            "selection": CARD_NOTE,
            "bytes": path.stat().st_size,
        }
        atomic_write(path.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
        return path, card


def train_float(
    config: FloatConfig,
    *,
    resume: bool = False,
    command: str = "",
    console: Optional[Console] = None,
    on_epoch: Optional[Callable[[int], None]] = None,
) -> Tuple[Path, Dict[str, Any]]:
    """Trains a float network and writes ``weights.npz`` with a card, ``weights.json``, into ``run.output``.

    Args:
        config: what to train.
        resume: continue from the folder's checkpoint; the result is that of an uninterrupted run.
        command: how the program was called, for the card.
        console: where progress goes; None for none.
        on_epoch: called after each epoch's checkpoint with the number of epochs done.

    Returns:
        The weights' path and the card.

    Raises:
        TrainingError: the loss is not finite, or the checkpoint does not fit.
    """
    console = console or Console(quiet=True)
    with paddle.utils.unique_name.guard():  # the optimizer's state goes by names; make them the same each time
        run = _Run(config)
        if resume:
            run.resume()
        with fast_small_maps(run.network):
            while run.epoch < config.train.epochs:
                console.print(_epoch(run))
                if on_epoch:
                    on_epoch(run.epoch)
        path, card = run.write_result(command)
    console.print(f"{path}: top-1 {card['top1']:.4f} on {card['test_samples']} test images")
    return path, card


def _epoch(run: _Run) -> str:
    """Trains an epoch, writes the checkpoint, and says how it went."""
    start, train = time.monotonic(), run.config.train
    loss = run.train_epoch()
    seconds = time.monotonic() - start
    run.seconds += seconds
    run.save()
    line = f"epoch {run.epoch}/{train.epochs}  loss {loss:.4f}  {seconds:.0f} s"
    if run.epoch % train.evaluate_epochs == 0:
        with run.averaged():
            line += f"  top-1 {evaluate(run.network, run.test_set)['top1']:.4f}"
    return line
