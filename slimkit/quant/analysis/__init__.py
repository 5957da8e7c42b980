"""Which layer hurts: the error of each quantized op alone and in the whole, and which to leave float."""

from __future__ import annotations

from slimkit.quant.analysis.analyze import analyze, rank_layers
from slimkit.quant.analysis.result import Analysis, Counts, Error, FloatStep, LayerAnalysis, TensorRange
from slimkit.quant.analysis.subset import leave_float, skip_rules

__all__ = [
    "Analysis",
    "Counts",
    "Error",
    "FloatStep",
    "LayerAnalysis",
    "TensorRange",
    "analyze",
    "leave_float",
    "rank_layers",
    "skip_rules",
]
