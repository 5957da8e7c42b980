"""PaddleSlim's static pruning API: ``Pruner``, sensitivities, ``save_model`` and ``load_model``."""

from __future__ import annotations

from slimkit.prune.static.prune_io import load_model, save_model
from slimkit.prune.static.pruner import Pruner
from slimkit.prune.static.sensitive import get_ratios_by_loss, load_sensitivities, merge_sensitive, sensitivity

__all__ = [
    "Pruner",
    "get_ratios_by_loss",
    "load_model",
    "load_sensitivities",
    "merge_sensitive",
    "save_model",
    "sensitivity",
]
