"""Rewrite: attributes at the value their readers take for granted are left out; a small model has hundreds of them.

``round_type`` goes too, whatever it is: the runtime rounds half to even, which is the default.
"""

from __future__ import annotations

from slimkit.ir.graph import Graph

__all__ = ["rewrite"]

#: Op types, attribute, value (None: any).
_IDLE = (
    (("conv2d", "depthwise_conv2d", "pool2d"), "padding_algorithm", "EXPLICIT"),
    (("pool2d",), "data_format", "NCHW"),
    (("dequantize_linear",), "quant_axis", 0),
    (("quantize_linear", "dequantize_linear"), "round_type", None),
    (("elementwise_add", "elementwise_mul"), "axis", -1),
)


def rewrite(graph: Graph) -> int:
    """Edits the graph in place; returns how many attributes were left out."""
    count = 0
    for types, name, value in _IDLE:
        for op in graph.ops(*types):
            if op.desc.has_attr(name) and value in (None, op.attr(name)):
                op.desc.remove_attr(name)
                count += 1
    return count
