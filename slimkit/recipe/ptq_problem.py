"""The search's problem over a real model: one calibration, any number of settings."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from slimkit.ir.model import Model
from slimkit.quant.analysis import rank_layers, skip_rules
from slimkit.quant.analysis.errors import ResultErrors, before_squashing
from slimkit.quant.export import export_program
from slimkit.quant.ptq import PtqResult
from slimkit.quant.ptq_config import PtqConfig
from slimkit.quant.quantized import Quantized
from slimkit.quant.table import QuantTable
from slimkit.recipe.search_trials import METHODS, Method

__all__ = ["FIDELITY", "PtqProblem", "evaluate_model", "merged_table", "suitable_methods"]

#: The headline where there are no labels: 1 - noise / signal of the outputs; 0.5 points lost are an SQNR of 23 dB.
FIDELITY = "fidelity"

Batches = Iterable[Tuple[Mapping[str, np.ndarray], Optional[List[Any]]]]

#: Seconds that a layer of the ranking costs besides running, and what of a run it takes.
_PER_LAYER, _PER_RUN = 0.15, 0.8
_MOST_RANKED = 8


def evaluate_model(model: Model, batches: Batches, metric: Any, reference: Optional[Model] = None) -> Dict[str, float]:
    """Runs a model over data.

    Args:
        model: float or simulated.
        batches: feeds with labels.
        metric: of a task; None: outputs are compared with the reference's, before a softmax or sigmoid at the end.
        reference: the float model; needed without a metric.

    Returns:
        The metric's values; without one :data:`FIDELITY` and ``sqnr_db``.
    """
    names = before_squashing(reference).fetches if reference is not None else model.fetches
    errors = ResultErrors(names)
    for feed, labels in batches:
        if metric is not None:
            metric.update(model.run(feed), labels)
        elif reference is not None:
            errors.add(dict(zip(names, reference.run(feed, names))), dict(zip(names, model.run(feed, names))))
    if metric is not None:
        return {name: float(value) for name, value in metric.result().items()}
    decibel = errors.result().sqnr_db
    lost = 1.0 if decibel is None else min(1.0, 10.0 ** (-decibel / 10.0))
    return {FIDELITY: 1.0 - lost, "sqnr_db": float("nan") if decibel is None else decibel}


def merged_table(result: PtqResult) -> QuantTable:
    """The quantized ops of all runtimes in one table, each once."""
    merged = QuantTable()
    for quantized in result.quantized.values():
        known = {op.output for op in merged.ops}
        merged.ops += [op for op in quantized.table.ops if op.output not in known]
        merged.params.update({key: p for key, p in quantized.table.params.items() if key not in merged.params})
    return merged


def suitable_methods(result: PtqResult, methods: Sequence[Method] = METHODS) -> List[Method]:
    """The methods that can change anything: zero points only where a runtime has them and they are not used yet."""
    possible = any(plan.capability.affine_activations for plan in result.plans.values())
    used = possible and result.config.affine is not False
    return [m for m in methods if "affine" not in m.changes or (possible and m.changes["affine"] is not used)]


class PtqProblem:
    """See :class:`slimkit.recipe.search_problem.Problem`; of several runtimes the worst counts.

    Args:
        result: of :func:`slimkit.quant.post_training_quantize`; its statistics serve every trial.
        calibration: feeds, an iterable that starts anew; for bias correction, AdaRound and the ranking.
        evaluation: batches with labels, an iterable that starts anew.
        metric: makes the task's metric; None: outputs are compared with the float model's.
        headline: the metric that may drop.
        about: what else makes trials comparable, such as the data's paths.
        tick: called after each batch.
    """

    def __init__(
        self,
        result: PtqResult,
        calibration: Iterable[Mapping[str, np.ndarray]],
        evaluation: Batches,
        metric: Optional[Callable[[], Any]] = None,
        headline: str = FIDELITY,
        *,
        about: Any = None,
        tick: Optional[Callable[[], None]] = None,
    ) -> None:
        self.config, self.headline = result.config, headline if metric is not None else FIDELITY
        self._first, self._calibration, self._evaluation = result, calibration, evaluation
        self._metric, self._tick = metric, tick
        self._everything = merged_table(result)
        self._worst: Dict[int, str] = {}
        self.key = self._hash(about)

    def reference(self) -> Dict[str, float]:
        """Metrics of the float model."""
        if self._metric is None:
            return {FIDELITY: 1.0}
        return evaluate_model(self._first.float_model, self._batches(), self._metric())

    def quantize(self, config: PtqConfig, float_ops: Sequence[str]) -> PtqResult:
        """New tables from the statistics at hand."""
        if not float_ops and config == self._first.config:
            return self._first
        return self._first.requantize(self.with_float(config, float_ops), self._calibration)

    def with_float(self, config: PtqConfig, float_ops: Sequence[str]) -> PtqConfig:
        """The settings with rules that leave these ops float."""
        rules = skip_rules(self._first.float_model, self._everything, float_ops)
        return config.model_copy(update={"rules": [*rules, *config.rules]})

    def evaluate(self, quantized: PtqResult) -> Dict[str, float]:
        """Metrics of the worst runtime's tables, simulated."""
        found: Dict[str, Dict[str, float]] = {}
        same: Dict[int, str] = {}
        for runtime, item in quantized.quantized.items():
            if id(item) not in same:
                same[id(item)] = runtime
                found[runtime] = self._evaluate(item)
        worst = min(found, key=lambda runtime: found[runtime].get(self.headline, float("nan")))
        self._worst = {id(quantized): worst}
        return found[worst]

    def rank(self, quantized: PtqResult, seconds: float) -> List[str]:
        """The quantized ops of the worst runtime, the most harmful first, on as many samples as the time allows."""
        runtime = self._worst.get(id(quantized), next(iter(quantized.quantized)))
        item = quantized.quantized[runtime]
        feed = next(iter(self._calibration))
        start = time.perf_counter()
        item.model.run(feed)
        samples = max(1, max(len(np.atleast_1d(value)) for value in feed.values()))
        each = (time.perf_counter() - start) / samples
        layers = len(item.table.ops)
        fits = int((seconds - layers * _PER_LAYER) / max(1e-9, layers * _PER_RUN * each))
        return rank_layers(item, self._calibration, limit=max(1, min(_MOST_RANKED, fits)), tick=self._tick)

    # ----------------------------------------------------------------

    def _evaluate(self, item: Quantized) -> Dict[str, float]:
        metric = self._metric() if self._metric is not None else None
        exported = export_program(item.model, item.table)
        return evaluate_model(exported, self._batches(), metric, self._first.float_model)

    def _batches(self) -> Batches:
        for batch in self._evaluation:
            yield batch
            if self._tick is not None:
                self._tick()

    def _hash(self, about: Any) -> str:
        """Of the weights, the settings, what calibration saw and what else the caller says."""
        model, found = self._first.float_model, hashlib.sha256()
        for name, value in sorted(model.params.items()):
            found.update(f"{name} {value.shape}".encode())
            found.update(np.ascontiguousarray(value).tobytes())
        for name, histogram in sorted(self._first.statistics.items()):
            found.update(f"{name} {histogram.low} {histogram.high}".encode())
            found.update(histogram.counts.tobytes())
        told = {
            "ops": model.op_counts(),
            "settings": self.config.model_dump(),
            "runtimes": list(self._first.quantized),
            "headline": self.headline,
            "about": about,
        }
        found.update(json.dumps(told, sort_keys=True, default=str).encode())
        return found.hexdigest()[:32]
