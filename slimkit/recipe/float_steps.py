"""One step of float training: Paddle's dygraph, or a static program whose convolutions are oneDNN's."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Union

import numpy as np
import paddle

from slimkit.recipe.networks import TrainingNetwork, input_spec
from slimkit.recipe.schema import OptimizerSection

__all__ = ["EagerSteps", "OnednnSteps"]


def _arguments(section: OptimizerSection) -> Dict[str, Any]:
    """The optimizer's arguments but for parameters, decay and learning rate."""
    clip = paddle.nn.ClipGradByGlobalNorm(section.clip_norm) if section.clip_norm else None
    return {"grad_clip": clip, **({"momentum": section.momentum} if section.name == "Momentum" else {})}


class EagerSteps:
    """Steps of a dygraph layer. Weights of one axis (biases, batch norm) are not decayed.

    Args:
        network: is trained.
        section: of the optimizer.
    """

    def __init__(self, network: TrainingNetwork, section: OptimizerSection) -> None:
        parameters = network.parameters()
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": section.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        make = getattr(paddle.optimizer, section.name)
        self._network = network
        self._optimizer = make(learning_rate=0.0, parameters=groups, **_arguments(section))

    def step(self, batch: Mapping[str, np.ndarray], rate: float) -> float:
        """Trains on a batch with a learning rate; returns the loss before it."""
        self._optimizer.set_lr(rate)
        _, loss = self._network(paddle.to_tensor(batch["image"]), paddle.to_tensor(batch["label"]))
        loss.backward()
        self._optimizer.step()
        self._optimizer.clear_grad()
        return float(loss)

    def state_dict(self) -> Dict[str, Any]:
        """What a checkpoint needs beside the network's own state."""
        return dict(self._optimizer.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self._optimizer.set_state_dict(dict(state))


class OnednnSteps:
    """Steps of the network's static program; after each, the layer has the program's parameters. AdamW only.

    Args:
        network: is traced, and gets the trained values.
        section: of the optimizer; weights of one axis are not decayed.
        image_size: of the input.
        seed: of dropout.
    """

    def __init__(
        self, network: TrainingNetwork, section: OptimizerSection, image_size: Union[int, List[int]], seed: int
    ) -> None:
        from slimkit.ir import Model
        from slimkit.ir.trainer import FloatTrainer

        self._state = {tensor.name: tensor for tensor in network.state_dict().values()}
        decayed = {p.name for p in network.parameters() if p.ndim > 1}
        make: Callable[[], Any] = lambda: paddle.optimizer.AdamW(  # noqa: E731
            0.001,
            weight_decay=section.weight_decay,
            apply_decay_param_fun=lambda name: name in decayed,
            **_arguments(section),
        )
        model = Model.from_layer(network, input_spec(image_size), train=True)
        self._trainer = FloatTrainer(model, model.fetches[1], make, paddle.CPUPlace(), seed)

    def step(self, batch: Mapping[str, np.ndarray], rate: float) -> float:
        """Trains on a batch with a learning rate; returns the loss before it."""
        self._trainer.set_learning_rate(rate)
        loss = float(self._trainer.train_step(batch, [self._trainer.loss])[0])
        params = self._trainer.model.params
        for name, tensor in self._state.items():
            tensor.set_value(params[name])
        return loss

    def state_dict(self) -> Dict[str, np.ndarray]:
        """What a checkpoint needs beside the network's own state."""
        return self._trainer.state_dict()

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``state_dict``."""
        self._trainer.load_state_dict(state)
