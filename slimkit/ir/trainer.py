"""``StaticTrainer``: steps of training and evaluation of a training ``Model``, and the state between them.

One training program and one evaluation program share one scope. ``slimkit.quant.QatTrainer`` builds quantized ones on
top; as it is, it trains the float network, such as a pruned one.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import paddle

from slimkit.errors import ConfigError, ModelError, TrainingError
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.ir.onednn import CONVOLUTIONS, ONEDNN_OPS, prefer_onednn
from slimkit.ir.params import set_tensor
from slimkit.ir.training_state import read_state, write_state

__all__ = ["FloatTrainer", "StaticTrainer", "inference_of"]

Feed = Mapping[str, np.ndarray]
_RANDOM_OPS = ("dropout", "gaussian_random", "uniform_random", "bernoulli", "randint")


class StaticTrainer:
    """Training of one model, step by step.

    Args:
        model: a training ``Model``: from ``Model.from_layer(net_with_loss, spec, train=True)``, or a loaded one after
            ``slimkit.ir.to_training``. It is not changed.
        loss: name of the loss variable.
        optimizer: returns a new ``paddle.optimizer.Optimizer`` for the weights.
        place: device to train on; None: Paddle's current one.
        seed: of dropout and other random ops; the same seed and feeds give the same result.

    Raises:
        ConfigError: the loss is no variable of the model, or the optimizer has a schedule of its own.
        TrainingError: the model has no trainable parameter.
    """

    #: Op types that run on oneDNN when training on CPU.
    onednn_ops: Sequence[str] = ONEDNN_OPS

    def __init__(self, model: Model, loss: str, optimizer: Callable[[], Any], place: Any = None, seed: int = 0) -> None:
        self.loss = loss
        self.seed = seed
        self.steps = 0
        self.place = place if place is not None else paddle.framework._current_expected_place()
        self.model = model.clone(copy_params=True)
        self.scope = self.model.scope
        if loss not in self.model.program.global_block().vars:
            raise ConfigError(f"loss '{loss}' is no variable of the model; its outputs are {', '.join(model.fetches)}.")
        self._executor = paddle.static.Executor(self.place)
        self._float_test = self.model.clone(for_test=True)
        self._pruned: Dict[Tuple[str, Tuple[str, ...]], Any] = {}
        with legacy_ir():
            self._build(optimizer)
            self._random = any(op.type in _RANDOM_OPS for op in self._train.global_block().ops)
            for program in (self._train, self._test):
                prefer_onednn(program, self.place, self.onednn_ops)

    def _build(self, make_optimizer: Callable[[], Any]) -> None:
        """Makes the training and the evaluation program."""
        self._train, self._lr_name, self._base_lr = self._minimize(self.model.program, make_optimizer)
        self._test = self._float_test.program

    def _minimize(self, program: Any, make_optimizer: Callable[[], Any]) -> Tuple[Any, str, float]:
        if not any(p.trainable for p in program.all_parameters()):
            raise TrainingError(
                "The model has no trainable parameter; trace it with Model.from_layer(..., train=True) or make a "
                "loaded model trainable with slimkit.ir.to_training."
            )
        startup = paddle.static.Program()
        with (
            paddle.static.program_guard(program, startup),
            paddle.utils.unique_name.guard("weights_optimizer."),
        ):
            optimizer = make_optimizer()
            if isinstance(optimizer._learning_rate, paddle.optimizer.lr.LRScheduler):
                raise ConfigError("Give the optimizer a float learning rate; schedules go through set_learning_rate.")
            optimizer.minimize(program.global_block().vars[self.loss])
            rate = optimizer._global_learning_rate()
        self._executor.run(startup, scope=self.scope)
        return program, rate.name, float(optimizer.get_lr())

    # ---------------------------------------------------------------- steps

    def train_step(self, feed: Feed, fetch: Sequence[str]) -> List[np.ndarray]:
        """One forward, backward and update.

        Args:
            feed: arrays by feed name.
            fetch: variable names to return.
        """
        with legacy_ir():
            if not self._random:
                result = self._run(self._train, feed, fetch)
            else:
                state = paddle.get_rng_state()
                paddle.seed((self.seed * 1_000_003 + self.steps) % (2**31))
                try:
                    result = self._run(self._train, feed, fetch)
                finally:
                    paddle.set_rng_state(state)
        self.steps += 1
        return result

    def eval_step(self, feed: Feed, fetch: Sequence[str]) -> List[np.ndarray]:
        """Runs the trained model in test mode. Feeds that ``fetch`` does not need may be left out."""
        with legacy_ir():
            return self._run(self._pruned_for("test", self._test, fetch), feed, fetch)

    def float_step(self, feed: Feed, fetch: Sequence[str]) -> List[np.ndarray]:
        """Runs the float model with the weights of now, in test mode."""
        with legacy_ir():
            return self._run(self._pruned_for("float", self._float_test.program, fetch), feed, fetch)

    def _run(self, program: Any, feed: Feed, fetch: Sequence[str]) -> List[np.ndarray]:
        block = program.global_block()
        needed = {name: np.ascontiguousarray(value) for name, value in feed.items() if name in block.vars}
        return list(self._executor.run(program, feed=needed, fetch_list=list(fetch), scope=self.scope))

    def _pruned_for(self, kind: str, program: Any, fetch: Sequence[str]) -> Any:
        key = (kind, tuple(fetch))
        if key not in self._pruned:
            unknown = [name for name in fetch if name not in program.global_block().vars]
            if unknown:
                raise ModelError(f"{unknown[0]} cannot be fetched: it is no variable of the {kind} program.")
            targets = [program.global_block().vars[name] for name in fetch]
            pruned = program._prune_with_input(list(self.model.feeds), targets)
            prefer_onednn(pruned, self.place, self.onednn_ops)
            self._pruned[key] = pruned
        return self._pruned[key]

    def set_learning_rate(self, lr: float) -> None:
        """Sets the learning rate of the weights."""
        self._fill(self._lr_name, lr)

    def _fill(self, name: str, value: float) -> None:
        """Sets a variable to one value, in the shape it has."""
        shape = self.scope.find_var(name).get_tensor().shape()
        set_tensor(self.scope, name, np.full(shape, value, np.float32), self.place)

    # ---------------------------------------------------------------- state

    def _state_names(self) -> List[str]:
        names = [v.name for v in self._train.list_vars() if v.persistable]
        return sorted(n for n in set(names) if self._initialised(n))

    def _initialised(self, name: str) -> bool:
        var = self.scope.find_var(name)
        return var is not None and var.get_tensor()._is_initialized()

    def state_dict(self) -> Dict[str, np.ndarray]:
        """Everything a bit-exact resume needs: the program's persistable variables and the step count."""
        return read_state(self.scope, self._state_names(), self.steps)

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``state_dict``.

        Raises:
            TrainingError: the state is of another model or config.
        """
        self.steps = write_state(self.scope, self._state_names(), state, self.place)

    # ---------------------------------------------------------------- results

    def outputs(self) -> List[str]:
        """The model's fetches that inference has: all but the loss."""
        return [name for name in self.model.fetches if name != self.loss]

    def float_model(self, outputs: Optional[Sequence[str]] = None) -> Model:
        """The trained weights as a float inference model, with parameters of its own.

        Args:
            outputs: what it fetches; None: all but the loss.
        """
        return inference_of(self.model, list(outputs or self.outputs()), self._float_test)


class FloatTrainer(StaticTrainer):
    """Training of a float network; on CPU its convolutions are oneDNN's."""

    onednn_ops = CONVOLUTIONS


def inference_of(training: Model, outputs: Sequence[str], test: Optional[Model] = None) -> Model:
    """The inference model in a training one, with parameters of its own.

    Args:
        training: with a loss, before or after ``minimize``.
        outputs: what is fetched.
        test: its clone for test, when there is one.
    """
    test = test or training.clone(for_test=True)
    with legacy_ir():
        targets = [test.program.global_block().vars[name] for name in outputs]
        program = test.program._prune_with_input(list(training.feeds), targets)
    feeds = [f for f in training.feeds if any(f in op.input_arg_names for op in program.global_block().ops)]
    return Model(program, training.scope, feeds, list(outputs)).clone(copy_params=True)
