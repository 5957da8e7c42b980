"""Post-training quantization: a float model and some batches in, a float model and a ``QuantTable`` per runtime out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict

from slimkit.ir.model import Model
from slimkit.quant.table import QuantTable

__all__ = ["PtqResult", "Quantized"]


@dataclass
class Quantized:
    """What every quantizer ends in and every exporter starts from.

    Attributes:
        model: float; its weights may have been adjusted (batch norm folded, biases corrected, weights on the grid).
        table: the grids, the ops that read them, what stayed float and why.
    """

    model: Model
    table: QuantTable


@dataclass
class PtqResult:
    """What :func:`post_training_quantize` found.

    Attributes:
        quantized: runtime -> model and table.
        float_model: the prepared float model, equal in what it computes to the one given.
        seconds: step -> wall time.
    """

    quantized: Dict[str, Quantized]
    float_model: Model
    seconds: Dict[str, float] = field(default_factory=dict)
    statistics: Dict[str, Any] = field(default_factory=dict)
