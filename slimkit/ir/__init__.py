"""Any Paddle model in, one form inside: a legacy program with its parameters.

``Model`` loads every Paddle format and traces dygraph layers; ``legacy_ir`` is where its program is edited.
"""

from __future__ import annotations

from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.ir.training import to_training

__all__ = ["Graph", "Model", "legacy_ir", "to_training"]
