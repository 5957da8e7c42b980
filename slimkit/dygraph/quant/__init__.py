"""Quantization of dygraph layers under PaddleSlim's path names."""

from __future__ import annotations

from slimkit.quant.layers import QAT

__all__ = ["QAT"]
