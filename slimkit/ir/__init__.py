"""Any Paddle model in, one form inside: a legacy program with its parameters.

``Model`` loads every Paddle format and traces dygraph layers; ``legacy_ir`` is where its program is edited;
``Graph`` is the editing view; ``convert`` turns a Paddle 3 ``.json`` into what Paddle-Lite reads.
"""

from __future__ import annotations

from slimkit.ir.conversion import convert
from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.ir.pir_file import from_pir
from slimkit.ir.training import to_training

__all__ = ["Graph", "Model", "convert", "from_pir", "legacy_ir", "to_training"]
