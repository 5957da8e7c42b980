"""What a network costs: multiply-accumulates, floating-point operations, parameters."""

from __future__ import annotations

from slimkit.analysis.complexity import Complexity, OpCost, complexity
from slimkit.analysis.flops import dygraph_flops, flops
from slimkit.analysis.model_size import model_size
from slimkit.analysis.shapes import tensor_shapes

__all__ = ["Complexity", "OpCost", "complexity", "dygraph_flops", "flops", "model_size", "tensor_shapes"]
