"""Quantization of dygraph layers: ``QAT``."""

from __future__ import annotations

from slimkit.quant.layers.config import LayerQuantConfig
from slimkit.quant.layers.pact import PACT
from slimkit.quant.layers.qat import QAT

__all__ = ["PACT", "QAT", "LayerQuantConfig"]
