"""Pruning of dygraph layers: the layer is traced, and its own parameters shrink in place, by name.

``LayerNetwork`` has the groups, ``prune_layer`` and ``mask_layer`` apply a plan; ``FilterPruner`` and its kinds are
PaddleSlim's way to both.
"""

from __future__ import annotations

from slimkit.prune.layers.apply import mask_layer, prune_layer
from slimkit.prune.layers.attributes import LAYER_ATTRIBUTES
from slimkit.prune.layers.filter_pruner import (
    FilterPruner,
    FPGMFilterPruner,
    L1NormFilterPruner,
    L2NormFilterPruner,
)
from slimkit.prune.layers.network import LayerNetwork, layer_groups
from slimkit.prune.layers.plan import PruningMask, PruningPlan
from slimkit.prune.layers.pruner import Pruner

__all__ = [
    "LAYER_ATTRIBUTES",
    "FPGMFilterPruner",
    "FilterPruner",
    "L1NormFilterPruner",
    "L2NormFilterPruner",
    "LayerNetwork",
    "Pruner",
    "PruningMask",
    "PruningPlan",
    "layer_groups",
    "mask_layer",
    "prune_layer",
]
