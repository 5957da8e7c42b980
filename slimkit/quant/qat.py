"""``QatTrainer``: quantization-aware training of a ``Model``, from initial scales to the exported file.

    qat = QatTrainer(model, config, loss, lambda: paddle.optimizer.Momentum(0.01), pact={})
    qat.initialise(feeds)                     # scales and alpha from data
    for feed in batches:
        qat.train_step(feed, [loss])
    qat.export("out/model_int8")

One training program and one evaluation program share one scope; both are made by the passes of ``slimkit.quant``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import paddle

from slimkit.errors import ConfigError, ModelError, TrainingError
from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.quant.calibrate import initial_ranges
from slimkit.quant.config import PactConfig, QuantConfig
from slimkit.quant.export import export_program
from slimkit.quant.hooks import Hooks, build_hooks
from slimkit.quant.onednn import prefer_onednn
from slimkit.quant.passes.extract_table import ExtractTable
from slimkit.quant.passes.insert_fake_quant import FakeQuantReport, InsertFakeQuant
from slimkit.quant.quantizers import set_tensor
from slimkit.quant.selection import nothing_quantized
from slimkit.quant.table import QuantTable
from slimkit.quant.training_state import activation_widths, read_state, write_start_values, write_state

__all__ = ["QatTrainer"]

Feed = Mapping[str, np.ndarray]
_RANDOM_OPS = ("dropout", "gaussian_random", "uniform_random", "bernoulli", "randint")


class QatTrainer:
    """Quantization-aware training of one model.

    Args:
        model: a training ``Model``: from ``Model.from_layer(net_with_loss, spec, train=True)``, or a loaded one after
            ``slimkit.ir.to_training``. It is not changed.
        config: ``QuantConfig`` or a dict in PaddleSlim's key names.
        loss: name of the loss variable.
        optimizer: returns a new ``paddle.optimizer.Optimizer`` for the weights.
        pact: ``PactConfig``, a dict of its fields, or None for plain QAT.
        place: device to train on; None: Paddle's current one.
        seed: of dropout and other random ops; the same seed and feeds give the same result.
        layers: parameter name -> layer path, for rules on layers.

    Raises:
        ConfigError: a setting is not valid.
        TrainingError: the model has no trainable parameter, or nothing in it can be quantized.
    """

    def __init__(
        self,
        model: Model,
        config: Union[Mapping[str, Any], QuantConfig, None],
        loss: str,
        optimizer: Callable[[], Any],
        pact: Union[Mapping[str, Any], PactConfig, None] = None,
        place: Any = None,
        seed: int = 0,
        layers: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.config = QuantConfig.read(config)
        self.pact = PactConfig.read(pact) if pact is not None else None
        self.loss = loss
        self.seed = seed
        self.steps = 0
        self.place = place if place is not None else paddle.framework._current_expected_place()
        self.model = model.clone(copy_params=True)
        self.scope = self.model.scope
        if loss not in self.model.program.global_block().vars:
            raise ConfigError(f"loss '{loss}' is no variable of the model; its outputs are {', '.join(model.fetches)}.")
        self._layers = layers
        self._executor = paddle.static.Executor(self.place)
        self._float_test = self.model.clone(for_test=True)
        with legacy_ir():
            self._build(optimizer)
        self._pruned: Dict[Tuple[str, Tuple[str, ...]], Any] = {}
        self.initial_alphas = self.alphas()

    # ---------------------------------------------------------------- build

    def _build(self, make_optimizer: Callable[[], Any]) -> None:
        self._train, self._lr_name, self._base_lr = self._minimize(self.model.program, make_optimizer)
        self._train, self.report, self._hooks = self._quantize(self._train, for_test=False)
        if not self.report.quantized:
            raise TrainingError(nothing_quantized(self.config, self.report.skipped))
        self._test, _, _ = self._quantize(self._float_test.program, for_test=True)
        self._random = any(op.type in _RANDOM_OPS for op in self._train.global_block().ops)
        for program in (self._train, self._test):
            prefer_onednn(program, self.place)

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

    def _quantize(self, program: Any, for_test: bool) -> Tuple[Any, FakeQuantReport, Hooks]:
        graph = Graph(program, for_test=for_test)
        hooks = build_hooks(
            graph, self.scope, self.place, self._executor, None, for_test, activation_preprocess=self.pact
        )
        insert = InsertFakeQuant(self.config, self.scope, self.place, for_test, self._layers, **hooks.for_pass())
        report = insert.apply(graph)
        hooks.finish(report)
        quantized = graph.to_program()
        hooks.promote(quantized)
        return quantized, report, hooks

    # ---------------------------------------------------------------- initial ranges

    def initialise(self, feeds: Iterable[Feed]) -> None:
        """Starts activation scales and PACT's alpha from observed activations of the float model.

        Args:
            feeds: some batches, as ``train_step`` takes them; each is run once, nothing is trained.

        Raises:
            TrainingError: no batch, or activations that are NaN or infinite.
        """
        widths = activation_widths(self.report, self.model.params)
        narrowest = {name: bits[0] for name, bits in widths.items()}
        ranges = initial_ranges(self._float_test, list(widths), feeds, narrowest, self.pact, self.place)
        write_start_values(self.scope, widths, ranges, self.config.moving_rate, self.place)
        self.initial_alphas = self.alphas()

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
        """Runs the simulated quantized model in test mode. Feeds that ``fetch`` does not need may be left out."""
        with legacy_ir():
            return self._run(self._pruned_for("sim", self._test, fetch), feed, fetch)

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
            prefer_onednn(pruned, self.place)
            self._pruned[key] = pruned
        return self._pruned[key]

    def set_learning_rate(self, lr: float, alpha_lr: Optional[float] = None) -> None:
        """Sets the learning rate of the weights, and alpha's.

        Args:
            lr: for the weights.
            alpha_lr: for alpha; None: the PACT config's rate times ``lr / base lr``, so that one schedule moves both.
        """
        self._fill(self._lr_name, lr)
        if self.pact is None:
            return
        rate = alpha_lr if alpha_lr is not None else self.pact.learning_rate * lr / max(self._base_lr, 1e-30)
        for name in self._hooks.optimizer_states:
            if "learning_rate" in name:
                self._fill(name, rate)

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
        """Everything a bit-exact resume needs: weights, statistics, scales, alpha, accumulators, rates, step count."""
        return read_state(self.scope, self._state_names(), self.steps)

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``state_dict``.

        Raises:
            TrainingError: the state is of another model or config.
        """
        self.steps = write_state(self.scope, self._state_names(), state, self.place)

    # ---------------------------------------------------------------- results

    def alphas(self) -> Dict[str, float]:
        """PACT's alpha by tensor name, as of now."""
        if self.pact is None:
            return {}
        names = {n: n[: -len("@alpha")] for n in self._hooks.parameters if n.endswith("@alpha")}
        return {tensor: float(np.array(self.scope.find_var(n).get_tensor())[0]) for n, tensor in names.items()}

    def table(self) -> QuantTable:
        """The scales as of now, with what was skipped and why."""
        with legacy_ir():
            table = ExtractTable(self.scope).apply(Graph(self._test, for_test=True))
        table.skipped = list(self.report.skipped)
        return table

    def outputs(self) -> List[str]:
        """The model's fetches that inference has: all but the loss."""
        return [name for name in self.model.fetches if name != self.loss]

    def float_model(self) -> Model:
        """The trained weights as a float inference model, with parameters of its own."""
        names = self.outputs()
        with legacy_ir():
            targets = [self._float_test.program.global_block().vars[n] for n in names]
            program = self._float_test.program._prune_with_input(list(self.model.feeds), targets)
        feeds = [f for f in self.model.feeds if any(f in op.input_arg_names for op in program.global_block().ops)]
        return Model(program, self.scope, feeds, names).clone(copy_params=True)

    def export(self, prefix: Union[str, Path], fmt: str = "onnx", runtime: Optional[str] = None) -> Path:
        """Saves the quantized inference model.

        Args:
            prefix: path without suffix.
            fmt: ``onnx`` (quantize_linear/dequantize_linear) or ``old`` (fake_quantize_*).
            runtime: None: exactly the arithmetic that was trained; ``onednn``: rewritten, with equal arithmetic, so
                that Paddle Inference's oneDNN int8 path runs it right and fast.

        Returns:
            The path of the ``.pdmodel``.
        """
        return export_program(self.float_model(), self.table(), fmt, self.place, runtime).save(prefix)

    def summary(self) -> Dict[str, Any]:
        """What was quantized, what not and why, rules that matched nothing, and alpha before and after."""
        now = self.alphas()
        return {
            "quantized": list(self.report.quantized),
            "skipped": list(self.report.skipped),
            "unused_rules": list(self.report.unused_rules),
            "alphas": {n: {"initial": self.initial_alphas.get(n), "trained": value} for n, value in now.items()},
        }
