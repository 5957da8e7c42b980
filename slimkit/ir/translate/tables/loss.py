"""Losses."""

from __future__ import annotations

from slimkit.ir.translate.rows import Row

__all__ = ["ROWS"]

_PAIR = {"input": "X", "label": "Label"}

ROWS = (
    Row(
        "cross_entropy_with_softmax", "softmax_with_cross_entropy",
        inputs={"input": "Logits", "label": "Label"}, outputs={"softmax": "Softmax", "loss": "Loss"},
    ),
    Row("bce_loss", "bce_loss", inputs=_PAIR, outputs={"out": "Out"}),
    Row(
        "sigmoid_cross_entropy_with_logits", "sigmoid_cross_entropy_with_logits",
        inputs={"x": "X", "label": "Label", "pos_weight": "pos_weight"}, outputs={"out": "Out"},
    ),
    Row(
        "nll_loss", "nll_loss", inputs={"input": "X", "label": "Label", "weight": "Weight"},
        outputs={"out": "Out", "total_weight": "Total_weight"},
    ),
    Row("kldiv_loss", "kldiv_loss", inputs={"x": "X", "label": "Target"}, outputs={"out": "Loss"}),
    Row(
        "huber_loss", "huber_loss", inputs={"input": "X", "label": "Y"},
        outputs={"out": "Out", "residual": "Residual"},
    ),
    Row("log_loss", "log_loss", inputs={"input": "Predicted", "label": "Labels"}, outputs={"out": "Loss"}),
    Row("label_smooth", "label_smooth", inputs={"label": "X", "prior_dist": "PriorDist"}, outputs={"out": "Out"}),
    Row(
        "warpctc", "warpctc",
        inputs={
            "logits": "Logits", "label": "Label", "logits_length": "LogitsLength", "labels_length": "LabelLength",
        },
        outputs={"loss": "Loss", "warpctcgrad": "WarpCTCGrad"},
    ),
)  # fmt: skip
