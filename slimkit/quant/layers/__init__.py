"""Quantization of dygraph layers: ``QAT``, ``PTQ``."""

from __future__ import annotations

from slimkit.quant.layers.config import LayerQuantConfig
from slimkit.quant.layers.pact import PACT
from slimkit.quant.layers.ptq import PTQ
from slimkit.quant.layers.qat import QAT

__all__ = ["PACT", "PTQ", "QAT", "LayerQuantConfig"]
