"""Unstructured pruning: the least weights are set to zero, shapes stay; PaddleSlim's ``UnstructuredPruner`` classes.

``slimkit.prune.unstructured.dygraph`` has them for layers, ``slimkit.prune.unstructured.static`` for programs.
"""

from __future__ import annotations

from slimkit.prune.unstructured import dygraph, static
from slimkit.prune.unstructured.make import make_unstructured_pruner

__all__ = ["dygraph", "make_unstructured_pruner", "static"]
