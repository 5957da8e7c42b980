"""Losses."""

from __future__ import annotations

from slimkit.ir.translate.rows import Row

__all__ = ["ROWS"]

ROWS = (
    Row(
        "cross_entropy_with_softmax", "softmax_with_cross_entropy",
        inputs={"input": "Logits", "label": "Label"}, outputs={"softmax": "Softmax", "loss": "Loss"},
    ),
)  # fmt: skip
