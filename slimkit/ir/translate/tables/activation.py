"""Activations: one tensor in, one out, element by element."""

from __future__ import annotations

from slimkit.ir.translate.rows import unary

__all__ = ["ROWS"]

ROWS = (
    unary("relu"),
    unary("relu6", constants={"threshold": 6.0}),
    unary("hardswish", "hard_swish", constants={"threshold": 6.0, "scale": 6.0, "offset": 3.0}),
    unary("hardsigmoid", "hard_sigmoid"),
    unary("swish", constants={"beta": 1.0}),
    unary("silu"),
    unary("sigmoid"),
    unary("tanh"),
    unary("softmax"),
    unary("log_softmax"),
)
