"""What a search is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Mapping, Protocol, Sequence

from slimkit.quant.ptq_config import PtqConfig
from slimkit.recipe.search_trials import Trial

__all__ = ["Best", "Problem"]


class Problem(Protocol):
    """What is to be quantized, and how well it has to do.

    Attributes:
        key: hash of model, settings and data; trials of another key are not used.
        config: the settings to begin with.
        headline: the metric that may drop; a fraction, more is better.
    """

    key: str
    config: PtqConfig
    headline: str

    def reference(self) -> Mapping[str, float]:
        """Metrics of the float model."""
        ...

    def quantize(self, config: PtqConfig, float_ops: Sequence[str]) -> Any:
        """Quantizes with these settings, and leaves these ops float."""
        ...

    def evaluate(self, quantized: Any) -> Mapping[str, float]:
        """Metrics of what :meth:`quantize` made."""
        ...

    def rank(self, quantized: Any, seconds: float) -> List[str]:
        """Its quantized ops, by output, the most harmful first; in about so much time."""
        ...


@dataclass
class Best:
    """How a search ended.

    Attributes:
        trial: the best.
        quantized: what :meth:`Problem.quantize` made of it.
        reference: metrics of the float model.
        drop: points (hundredths) of the headline lost against float.
        within: whether that is no more than allowed.
        stopped: why the search ended: ``reached``, ``time``, ``exhausted`` or ``interrupted``.
        trials: all of them, of earlier runs too, in order.
        notes: what the user should know.
    """

    trial: Trial
    quantized: Any
    reference: Mapping[str, float]
    drop: float
    within: bool
    stopped: str
    trials: List[Trial] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)
