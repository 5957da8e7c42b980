"""Pruning of dygraph layers: the layer is traced, and its own parameters shrink in place, by name."""

from __future__ import annotations

from slimkit.prune.layers.apply import mask_layer, prune_layer
from slimkit.prune.layers.attributes import LAYER_ATTRIBUTES
from slimkit.prune.layers.network import LayerNetwork, layer_groups

__all__ = ["LAYER_ATTRIBUTES", "LayerNetwork", "layer_groups", "mask_layer", "prune_layer"]
