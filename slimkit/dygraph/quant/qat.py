"""``paddleslim.dygraph.quant.qat``."""

from __future__ import annotations

from slimkit.quant.layers import PACT, QAT

__all__ = ["PACT", "QAT"]
