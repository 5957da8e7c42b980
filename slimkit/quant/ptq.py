"""Post-training quantization: a float model and some batches in, a float model and a ``QuantTable`` per runtime out.

One pass over the data serves every runtime and every algorithm: what is kept of a tensor is its histogram, and
thresholds are rules over histograms (``slimkit.numerics.observers``). Quantizing again with other settings needs no
data.

Source: Krishnamoorthi 2018 (arXiv 1806.08342), section 3; batch-norm folding: Jacob et al. 2018 (arXiv 1712.05877).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from slimkit.errors import ConfigError, ModelError
from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.numerics.histogram import AbsHistogram
from slimkit.quant.calibrate import observe, observe_channels
from slimkit.quant.capabilities import capability
from slimkit.quant.load_quantized import is_quantized
from slimkit.quant.passes.equalize import Equalize, equalizable
from slimkit.quant.passes.factor_gate import FactorGate
from slimkit.quant.passes.fold_forward import FoldForward
from slimkit.quant.passes.fold_linear import FoldLinear
from slimkit.quant.passes.remove_identity import RemoveIdentity
from slimkit.quant.ptq_config import PtqConfig
from slimkit.quant.ptq_plan import Plan, make_plan
from slimkit.quant.ptq_table import Found, build_table
from slimkit.quant.quantized import Quantized

__all__ = ["PtqResult", "Quantized", "post_training_quantize", "prepare"]

Feeds = Iterable[Mapping[str, np.ndarray]]
#: What is being done, how much of it is done, how much there is (0: unknown).
Progress = Callable[[str, int, int], None]
Settings = Union[Mapping[str, Any], PtqConfig, None]


@dataclass
class PtqResult:
    """What :func:`post_training_quantize` found.

    Attributes:
        quantized: runtime -> model and table.
        float_model: the prepared float model, equal in what it computes to the one given.
        config: the settings.
        statistics: tensor -> histogram, of every tensor that any of the runtimes quantizes.
        plans: runtime -> what is quantized and why the rest is not.
        seconds: step -> wall time.
        batches, samples: what was calibrated on.
    """

    quantized: Dict[str, Quantized]
    float_model: Model
    config: PtqConfig
    statistics: Dict[str, AbsHistogram]
    plans: Dict[str, Plan]
    seconds: Dict[str, float] = field(default_factory=dict)
    batches: int = 0
    samples: int = 0

    def requantize(self, config: Settings, feeds: Optional[Feeds] = None, place: Any = None) -> PtqResult:
        """The same model with other settings, from the statistics at hand.

        Args:
            config: the new settings.
            feeds: needed for bias correction and AdaRound only.
            place: device of these.

        Raises:
            ConfigError: a setting needs data, another fold or tensors that were not observed.
        """
        settings = PtqConfig.read(config)
        if settings.fold_batch_norm != self.config.fold_batch_norm:
            raise ConfigError("fold_batch_norm cannot be changed after calibration; quantize from the float model.")
        if settings.equalize != self.config.equalize:
            raise ConfigError("equalize cannot be changed after calibration; quantize from the float model.")
        plans = _plans(self.float_model, list(self.plans), settings)
        unknown = [n for plan in plans.values() for n in plan.tensors() if n not in self.statistics]
        if unknown:
            raise ConfigError(f"'{unknown[0]}' was not observed in the calibration; quantize from the float model.")
        again = PtqResult({}, self.float_model, settings, self.statistics, plans, {}, self.batches, self.samples)
        _fill(again, feeds, place)
        return again


def prepare(model: Model, config: Optional[PtqConfig] = None) -> Model:
    """A copy of a float model, rewritten so that what is quantized is what runtimes execute.

    Raises:
        ModelError: it is quantized already.
    """
    if is_quantized(model):
        raise ModelError(
            "The model is quantized already; `slimkit export` takes it to other runtimes, and post-training "
            "quantization starts from its float model."
        )
    settings = config or PtqConfig()
    prepared = model.clone(for_test=True, copy_params=True)
    with legacy_ir():
        graph = Graph(prepared.program, for_test=True)
        RemoveIdentity(prepared.fetches).apply(graph)
        FactorGate(prepared.fetches).apply(graph)
        if settings.fold_batch_norm:
            FoldForward(prepared.scope, prepared.fetches).apply(graph)
            FoldLinear(prepared.scope, prepared.fetches).apply(graph)
        prepared.program = graph.to_program()
    return prepared


def post_training_quantize(
    model: Model,
    feeds: Feeds,
    runtimes: Sequence[str] = ("paddle",),
    config: Settings = None,
    place: Any = None,
    progress: Optional[Progress] = None,
) -> PtqResult:
    """Quantizes a model from calibration data.

    Args:
        model: float inference model; it is not changed.
        feeds: batches by feed name; shapes may differ between them. Read once, and again for bias correction and
            AdaRound, which need an iterable that starts anew.
        runtimes: keys of ``CAPABILITIES``: what each executes decides what is quantized for it.
        config: settings; None: the defaults.
        place: device of the calibration; None: CPU.
        progress: told what is being done, how much of it is done, and how much there is (0: unknown).

    Raises:
        ConfigError: a setting that is not allowed.
        ModelError: the model is quantized already, has nothing to quantize, or fails on the data.
        TrainingError: no batch, or activations that are NaN or infinite.
    """
    settings = PtqConfig.read(config)
    start = time.perf_counter()
    prepared = prepare(model, settings)
    if settings.equalize:
        equalize(prepared, feeds, place)
    plans = _plans(prepared, runtimes, settings)
    prepared_at = time.perf_counter()
    counted = _Counted(feeds)
    tensors = list(dict.fromkeys(name for plan in plans.values() for name in plan.tensors()))
    tick = None if progress is None else lambda: progress("calibrating", counted.batches, 0)
    statistics = observe(prepared, tensors, counted, place, tick)
    observed_at = time.perf_counter()
    result = PtqResult({}, prepared, settings, statistics, plans, {}, counted.batches, counted.samples)
    _fill(result, feeds, place, progress)
    result.seconds = {
        "prepare": prepared_at - start,
        "calibrate": observed_at - prepared_at,
        "quantize": time.perf_counter() - observed_at,
    }
    return result


def equalize(model: Model, feeds: Feeds, place: Any = None) -> Dict[str, int]:
    """Gives the channels in front of depthwise convolutions equal ranges, in place; see ``passes.equalize``.

    Args:
        model: prepared float model.
        feeds: the calibration's; a quarter of the batches is read, if they are an iterable that starts anew.
        place: device; None: CPU.

    Returns:
        How many tensors were equalized, by folding and by multiplication.
    """
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        tensors = equalizable(graph)
    if not tensors or iter(feeds) is feeds:
        return {}
    ranges = observe_channels(model, tensors, feeds, place)
    with legacy_ir():
        counts = Equalize(model.scope, ranges, model.fetches).apply(graph)
        model.program = graph.to_program()
    return counts


class _Counted:
    """Counts what goes by."""

    def __init__(self, feeds: Feeds) -> None:
        self.feeds = feeds
        self.batches = self.samples = 0

    def __iter__(self) -> Any:
        for feed in self.feeds:
            self.batches += 1
            self.samples += max((len(np.atleast_1d(value)) for value in feed.values()), default=0)
            yield feed


def _plans(model: Model, runtimes: Iterable[str], config: PtqConfig) -> Dict[str, Plan]:
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        return {name: make_plan(graph, capability(name), config, model.fetches) for name in runtimes}


def _layers(progress: Optional[Progress]) -> Optional[Callable[[Any], None]]:
    if progress is None:
        return None
    return lambda layer: progress("rounding weights", layer.index, layer.count)


def _fill(result: PtqResult, feeds: Optional[Feeds], place: Any, progress: Optional[Progress] = None) -> None:
    """Makes the tables, one for all runtimes whose plans agree, and adjusts the weights where that is asked for."""
    made: List[Tuple[Dict[str, Any], Quantized]] = []
    found: Found = {}
    for runtime, plan in result.plans.items():
        table = build_table(plan, result.float_model.scope, result.statistics, result.config, found)
        values = table.to_dict()
        same = next((quantized for held, quantized in made if held == values), None)
        if same is None:
            same = _adjusted(Quantized(result.float_model, table), result.config, feeds, place, progress)
            made.append((values, same))
        result.quantized[runtime] = same


def _adjusted(
    quantized: Quantized, config: PtqConfig, feeds: Optional[Feeds], place: Any, progress: Optional[Progress]
) -> Quantized:
    if not (config.adaround or config.bias_correction):
        return quantized
    if feeds is None:
        raise ConfigError("adaround and bias_correction need calibration data; give feeds.")
    if config.adaround:
        from slimkit.quant.adaround import adaround

        quantized = adaround(quantized, feeds, steps=config.adaround_steps, place=place, progress=_layers(progress))
    if config.bias_correction:
        from slimkit.quant.bias_correction import correct_biases

        quantized = correct_biases(quantized, feeds, place=place)
    return quantized
