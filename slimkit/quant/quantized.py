"""``Quantized``: what every quantizer ends in and every exporter starts from."""

from __future__ import annotations

from dataclasses import dataclass

from slimkit.ir.model import Model
from slimkit.quant.table import QuantTable

__all__ = ["Quantized"]


@dataclass
class Quantized:
    """A float model and its grids.

    Attributes:
        model: float; its weights may have been adjusted (batch norm folded, biases corrected, weights on the grid).
        table: the grids, the ops that read them, what stayed float and why.
    """

    model: Model
    table: QuantTable
