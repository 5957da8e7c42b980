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

__all__ = [
    "FPGMFilterPruner",
    "FilterPruner",
    "GMPUnstructuredPruner",
    "L1NormFilterPruner",
    "L2NormFilterPruner",
    "Pruner",
    "PruningPlan",
    "UnstructuredPruner",
]
