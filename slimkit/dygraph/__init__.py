"""PaddleSlim's path names for users of dygraph layers; the work is in the pillars."""

from __future__ import annotations

from slimkit.dygraph.prune import (
    FilterPruner,
    FPGMFilterPruner,
    GMPUnstructuredPruner,
    L1NormFilterPruner,
    L2NormFilterPruner,
    Pruner,
    PruningPlan,
    UnstructuredPruner,
)
from slimkit.dygraph.quant import PTQ, QAT

__all__ = [
    "PTQ",
    "QAT",
    "FPGMFilterPruner",
    "FilterPruner",
    "GMPUnstructuredPruner",
    "L1NormFilterPruner",
    "L2NormFilterPruner",
    "Pruner",
    "PruningPlan",
    "UnstructuredPruner",
]
