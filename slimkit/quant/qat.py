"""``QatTrainer``: quantization-aware training of a ``Model``, from initial scales to the exported file.

    qat = QatTrainer(model, config, loss, lambda: paddle.optimizer.Momentum(0.01), pact={})
    qat.initialise(feeds)                     # scales and alpha from data
    for feed in batches:
        qat.train_step(feed, [loss])
    qat.export("out/model_int8")

Both its training and its evaluation program are made by the passes of ``slimkit.quant``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple, Union

import numpy as np

from slimkit.errors import TrainingError
from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.ir.trainer import Feed, StaticTrainer
from slimkit.quant.calibrate import initial_ranges
from slimkit.quant.config import PactConfig, QuantConfig
from slimkit.quant.export import export_program
from slimkit.quant.hooks import Hooks, build_hooks
from slimkit.quant.passes.extract_table import ExtractTable
from slimkit.quant.passes.insert_fake_quant import FakeQuantReport, InsertFakeQuant
from slimkit.quant.selection import nothing_quantized
from slimkit.quant.table import QuantTable
from slimkit.quant.training_state import activation_widths, write_start_values

__all__ = ["QatTrainer"]



class QatTrainer(StaticTrainer):
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
        self._layers = layers
        super().__init__(model, loss, optimizer, place, seed)
        self.initial_alphas = self.alphas()

    # ---------------------------------------------------------------- build

    def _build(self, make_optimizer: Callable[[], Any]) -> None:
        self._train, self._lr_name, self._base_lr = self._minimize(self.model.program, make_optimizer)
        self._train, self.report, self._hooks = self._quantize(self._train, for_test=False)
        if not self.report.quantized:
            raise TrainingError(nothing_quantized(self.config, self.report.skipped))
        self._test, _, _ = self._quantize(self._float_test.program, for_test=True)

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

    def set_learning_rate(self, lr: float, alpha_lr: Optional[float] = None) -> None:
        """Sets the learning rate of the weights, and alpha's.

        Args:
            lr: for the weights.
            alpha_lr: for alpha; None: the PACT config's rate times ``lr / base lr``, so that one schedule moves both.
        """
        super().set_learning_rate(lr)
        if self.pact is None:
            return
        rate = alpha_lr if alpha_lr is not None else self.pact.learning_rate * lr / max(self._base_lr, 1e-30)
        for name in self._hooks.optimizer_states:
            if "learning_rate" in name:
                self._fill(name, rate)

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
