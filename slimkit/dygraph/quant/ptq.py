"""``paddleslim.dygraph.quant.ptq``."""

from __future__ import annotations

from slimkit.quant.layers import PTQ
from slimkit.quant.layers.ptq_quantizers import (
    AbsmaxQuantizer,
    AvgQuantizer,
    EmdQuantizer,
    HistQuantizer,
    KLQuantizer,
    MseQuantizer,
    PerChannelAbsmaxQuantizer,
)

__all__ = [
    "PTQ",
    "AbsmaxQuantizer",
    "AvgQuantizer",
    "EmdQuantizer",
    "HistQuantizer",
    "KLQuantizer",
    "MseQuantizer",
    "PerChannelAbsmaxQuantizer",
]
