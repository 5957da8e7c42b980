"""Quantization: config, quantization-aware training, PACT, the table of scales, export."""

from __future__ import annotations

from slimkit.quant.config import PactConfig, QuantConfig, QuantRule
from slimkit.quant.export import export_program
from slimkit.quant.qat import QatTrainer
from slimkit.quant.static import convert, initialise_scales, quant_aware
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable

__all__ = [
    "PactConfig",
    "QatTrainer",
    "QuantConfig",
    "QuantParams",
    "QuantRule",
    "QuantTable",
    "QuantizedOp",
    "convert",
    "export_program",
    "initialise_scales",
    "quant_aware",
]
