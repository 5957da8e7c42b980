"""``paddleslim.quant.quanter``'s lists of op types, from slimkit's table of ops."""

from __future__ import annotations

from typing import List

from slimkit.quant.ops import ACTIVATION_OPS, TENSORRT_OPS, WEIGHT_OPS

__all__ = ["QUANT_DEQUANT_PASS_OP_TYPES", "TENSORRT_OP_TYPES", "TRANSFORM_PASS_OP_TYPES"]

#: Ops with a weight.
TRANSFORM_PASS_OP_TYPES: List[str] = list(WEIGHT_OPS)
#: Ops with activations only.
QUANT_DEQUANT_PASS_OP_TYPES: List[str] = list(ACTIVATION_OPS)
#: What TensorRT computes in int8.
TENSORRT_OP_TYPES: List[str] = list(TENSORRT_OPS)
