"""Recurrent networks."""

from __future__ import annotations

from slimkit.ir.translate.rows import Row

__all__ = ["ROWS"]

ROWS = (
    Row(
        "rnn", "rnn",
        inputs={
            "x": "Input", "pre_state": "PreState", "weight_list": "WeightList", "sequence_length": "SequenceLength",
        },
        outputs={"out": "Out", "dropout_state_out": "DropoutState", "state": "State", "reserve": "Reserve"},
        ignored=("dropout_state_in",),
    ),
)  # fmt: skip
