"""Pruning of dygraph layers under PaddleSlim's path names."""

from __future__ import annotations

from slimkit.prune.layers import (
    FilterPruner,
    FPGMFilterPruner,
    L1NormFilterPruner,
    L2NormFilterPruner,
    Pruner,
    PruningPlan,
)
from slimkit.prune.unstructured.dygraph import GMPUnstructuredPruner, UnstructuredPruner

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
