"""Rewrite: short names for activations and for what the export added, scales and what lies between quantize ops.

A small model's program is names for a quarter. Those of weights, inputs and results stay: reports refer to them.
"""

from __future__ import annotations

import string
from typing import Any, Collection, Iterator

from slimkit.ir.graph import Graph, GraphVar
from slimkit.quant.passes.onednn.stored_weight import array
from slimkit.quant.site import set_tensor

__all__ = ["rewrite"]

_DIGITS = string.digits + string.ascii_lowercase


def rewrite(graph: Graph, scope: Any, place: Any, known: Collection[str]) -> int:
    """Edits the graph in place.

    Args:
        graph: the exported graph.
        scope: holds the constants; renamed ones are copied.
        place: device of these.
        known: names that stay.

    Returns:
        How many variables were renamed.
    """
    held = set(known)
    if any(v.name in held and len(graph.vars(v.name)) > 1 for v in graph.vars()):
        return 0  # written in place somewhere: versions of one name belong together
    fresh = (name for name in _names() if name not in held and not graph.has_var(name))
    added = [v for v in graph.vars() if v.name not in held]
    for var in sorted(added, key=lambda v: v.name):
        if len(var.name) > 3:
            _rename(graph, var, next(fresh), scope, place)
    return len(added)


def _names() -> Iterator[str]:
    """q0, q1, ..., qz, q10, ..."""
    number = 0
    while True:
        digits, rest = "", number
        while rest or not digits:
            rest, digit = divmod(rest, len(_DIGITS))
            digits = _DIGITS[digit] + digits
        yield f"q{digits}"
        number += 1


def _rename(graph: Graph, var: GraphVar, name: str, scope: Any, place: Any) -> None:
    shape = () if _between_quantizers(var) else var.shape
    short = graph.create_var(name, shape, var.dtype, persistable=var.persistable)
    if var.persistable:
        set_tensor(scope, name, array(scope, var.name), place)
    if var.producer is not None:
        graph.replace_output(var.producer, var, short)
    graph.replace_all_uses(var, short)
    graph.drop_unread(var)


def _between_quantizers(var: GraphVar) -> bool:
    """Whether a variable is the result of a quantize or dequantize op: its shape is that of the op's input."""
    return var.producer is not None and var.producer.type in ("quantize_linear", "dequantize_linear")
