"""Quantization of dygraph layers under PaddleSlim's path names."""

from __future__ import annotations

from slimkit.dygraph.quant.ptq import (
    PTQ,
    AbsmaxQuantizer,
    HistQuantizer,
    KLQuantizer,
    PerChannelAbsmaxQuantizer,
)
from slimkit.quant.layers import QAT

__all__ = ["PTQ", "QAT", "AbsmaxQuantizer", "HistQuantizer", "KLQuantizer", "PerChannelAbsmaxQuantizer"]
