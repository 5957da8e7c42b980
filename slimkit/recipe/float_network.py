"""Step 1 and 2 of the recipe: the float network of a config as programs to train and to infer with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np

from slimkit.errors import ConfigError, ModelError
from slimkit.recipe.data.real_models import model_path

__all__ = ["FloatNetwork", "NamedBatches", "load_network"]


@dataclass
class FloatNetwork:
    """A float network.

    Attributes:
        training: ``Model`` with feeds of the image and ``label`` that fetches logits and loss.
        inference: ``Model`` with the image as its feed that fetches logits (or probabilities).
        logits, loss: names of the variables of ``training``.
        about: for the report.
        notes: what the user should know.
        layers: parameter of the program -> its path in the network.
    """

    training: Any
    inference: Any
    logits: str
    loss: str
    about: Dict[str, Any]
    notes: List[str] = field(default_factory=list)
    layers: Dict[str, str] = field(default_factory=dict)

    @property
    def image(self) -> str:
        """Name of the image input."""
        return str(self.inference.feeds[0])


def load_network(config: Any) -> FloatNetwork:
    """Builds or reads the network of a config, with its float weights.

    Args:
        config: with the sections ``network``, ``data`` and ``run``: of any kind of recipe.

    Raises:
        ConfigError, ModelError, DataError: unknown network, weights that do not fit, missing model.
    """
    return _from_model(config) if config.network.model else _from_layer(config)


def _from_layer(config: Any) -> FloatNetwork:
    import paddle

    from slimkit.ir import Model
    from slimkit.recipe.networks import build, input_spec
    from slimkit.recipe.weights import embedded_path, load_weights

    section, notes = config.network, []
    paddle.seed(config.run.seed)
    layer = build(
        section.name or "",
        num_classes=section.num_classes,
        scale=section.scale,
        label_smoothing=section.label_smoothing,
    )
    if section.weights is None:
        notes.append("network.weights is null: training starts from random weights.")
    else:
        embedded = section.weights == "embedded"
        path = embedded_path(section.name, section.scale) if embedded else Path(section.weights)
        kept = load_weights(layer.backbone, path, new_head=config.data.root is not None)
        if kept:
            notes.append(f"{', '.join(kept)} have another shape in {path.name} and start from random values.")
    specs = input_spec(config.data.image_size)
    layer.train()
    training = Model.from_layer(layer, specs, train=True)
    layer.eval()
    inference = Model.from_layer(layer.backbone, specs[:1], train=False)
    logits, loss = training.fetches[:2]
    about = {
        "name": section.name,
        "scale": section.scale,
        "classes": section.num_classes,
        "parameters": sum(int(p.size) for p in layer.backbone.parameters()),
        "input": shape_text(config.data.image_size),
        "weights": section.weights or "random",
    }
    layers = {p.name: name for name, p in layer.backbone.named_parameters()}
    return FloatNetwork(training, inference, logits, loss, about, notes, layers)


def shape_text(image_size: Any) -> str:
    """Returns ``3x48x192`` of ``data.image_size``."""
    sides = [image_size] if isinstance(image_size, int) else list(image_size)
    return f"3x{sides[0]}x{sides[-1]}"


def _from_model(config: Any) -> FloatNetwork:
    from slimkit.ir import Model
    from slimkit.ir.training import to_training

    section = config.network
    inference = Model.load(model_path(section.model or ""))
    if len(inference.feeds) != 1:
        raise ModelError(
            f"{section.model} has the inputs {', '.join(inference.feeds)}; a recipe trains models of one image input."
        )
    training = inference.clone(copy_params=True)
    logits = training.fetches[0]
    loss = to_training(training)
    classes = int(training.program.global_block().var(logits).shape[-1])
    if classes != section.num_classes:
        raise ConfigError(
            f"network.num_classes is {section.num_classes}, but {section.model} has {classes} outputs; set "
            f"network.num_classes={classes}."
        )
    about = {
        "name": section.model,
        "classes": classes,
        "parameters": sum(int(np.size(value)) for value in inference.params.values()),
        "input": shape_text(config.data.image_size),
        "weights": section.weights or "its own",
    }
    return FloatNetwork(training, inference, logits, loss, about)


class NamedBatches:
    """A dataset whose ``image`` goes by the name that the model's input has."""

    def __init__(self, dataset: Any, image: str) -> None:
        self.dataset, self.image = dataset, image
        self.steps = dataset.steps

    def batches(self, epoch: int = 0, start_step: int = 0) -> Iterator[Dict[str, np.ndarray]]:
        """Yields the dataset's batches under the model's names."""
        for feed in self.dataset.batches(epoch, start_step):
            yield {self.image if name == "image" else name: value for name, value in feed.items()}
