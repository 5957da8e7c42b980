"""What :func:`slimkit.quant.analysis.analyze` finds; plain values, ready for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from slimkit.quant.config import QuantRule

__all__ = ["Analysis", "Counts", "Error", "FloatStep", "LayerAnalysis", "TensorRange"]

#: Of the noise that leaving layers float can remove (of the metric it can win), the share that the suggested ones do.
_MOST = 0.9
#: Decibels that have to be won for any layer to be suggested.
_WORTH = 0.5


@dataclass(frozen=True)
class Error:
    """How far a tensor is from the float model's.

    Attributes:
        sqnr_db: ``10 log10(sum float**2 / sum (float - quantized)**2)``; at most 200; None: nothing to compare.
        cosine: of the angle between the two; None when one of them is zero.
    """

    sqnr_db: Optional[float] = None
    cosine: Optional[float] = None


@dataclass(frozen=True)
class Counts:
    """Counts of values in equal bins from ``low`` to ``high``."""

    low: float
    high: float
    counts: List[int]


@dataclass(frozen=True)
class TensorRange:
    """The values of a quantized tensor beside its grid.

    Attributes:
        tensor: its name.
        bits: of the grid.
        low, high: ends of the grid; of a weight with a scale for each channel those of the widest; None: dynamic.
        clipped: fraction of the values beyond the ends.
        histogram: of the float values; None: not asked for.
    """

    tensor: str
    bits: int
    low: Optional[float] = None
    high: Optional[float] = None
    clipped: Optional[float] = None
    histogram: Optional[Counts] = None


@dataclass(frozen=True)
class LayerAnalysis:
    """A quantized op.

    Attributes:
        output: the variable that names it in the table.
        type: op type.
        weight: its parameter; None: it has none.
        activations: its quantized inputs.
        own: error of its output when nothing but this op is quantized.
        own_weight, own_activation: the same with its weight alone, with its activations alone quantized.
        final: error of the model's results when nothing but this op is quantized.
        accumulated: error of its output when everything is quantized.
        weight_error: of the weight's values themselves.
    """

    output: str
    type: str
    weight: Optional[TensorRange] = None
    activations: List[TensorRange] = field(default_factory=list)
    own: Error = Error()
    own_weight: Error = Error()
    own_activation: Error = Error()
    final: Error = Error()
    accumulated: Error = Error()
    weight_error: Error = Error()

    @property
    def name(self) -> str:
        """What people know it by: its weight, else its output."""
        return self.weight.tensor if self.weight is not None else self.output


@dataclass(frozen=True)
class FloatStep:
    """A point of the curve: so many layers left float.

    Attributes:
        count: layers left float.
        op: the one added last, by its output; "" at the start.
        final: error of the model's results.
        metrics: of the task, the headline first.
    """

    count: int
    op: str
    final: Error
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Analysis:
    """Which layer hurts.

    Attributes:
        layers: the quantized ops, in the table's order.
        ranking: their outputs, the most harmful first: by ``final``, then by ``own``.
        final: error of the model's results with everything quantized.
        curve: layers left float, one after the other -> what is left of the error; its first point is none.
        all_rules: for each point of the curve but the first, the rules that leave its op float.
        samples: what was measured on.
        seconds: step -> wall time.
    """

    layers: List[LayerAnalysis]
    ranking: List[str]
    final: Error
    curve: List[FloatStep] = field(default_factory=list)
    all_rules: List[List[QuantRule]] = field(default_factory=list)
    samples: int = 0
    seconds: Dict[str, float] = field(default_factory=dict)

    @property
    def suggested(self) -> int:
        """How many layers to leave float: the fewest that remove nine tenths of the noise that the whole curve removes
        (with a metric: that win nine tenths of what it wins); 0 when that is under 0.5 dB (no rise of the metric)."""
        if not self.curve:
            return 0
        start = self.curve[0]
        if start.metrics:
            headline = next(iter(start.metrics))
            gains = [step.metrics[headline] - start.metrics[headline] for step in self.curve]
            worth = 1e-9
        else:
            noise = [10.0 ** (-(200.0 if s.final.sqnr_db is None else s.final.sqnr_db) / 10) for s in self.curve]
            gains = [noise[0] - value for value in noise]
            worth = noise[0] * (1 - 10.0 ** (-_WORTH / 10))
        best = max(gains)
        return 0 if best < worth else next(i for i, gain in enumerate(gains) if gain >= _MOST * best)

    @property
    def float_ops(self) -> List[str]:
        """The outputs of the layers suggested to be left float."""
        return [step.op for step in self.curve[1 : self.suggested + 1]]

    @property
    def rules(self) -> List[QuantRule]:
        """``PtqConfig.rules`` that leave them float."""
        return self.all_rules[self.suggested - 1] if self.suggested else []

    def layer(self, output: str) -> LayerAnalysis:
        """The row of an op."""
        return next(row for row in self.layers if row.output == output)

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        return {
            "layers": [asdict(row) for row in self.layers],
            "ranking": list(self.ranking),
            "final": asdict(self.final),
            "curve": [asdict(step) for step in self.curve],
            "suggested": self.suggested,
            "float_ops": self.float_ops,
            "rules": [rule.model_dump(exclude_defaults=True) for rule in self.rules],
            "samples": self.samples,
            "seconds": dict(self.seconds),
        }
