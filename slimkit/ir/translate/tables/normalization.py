"""Normalisation and dropout."""

from __future__ import annotations

from typing import Any

from slimkit.ir.translate.records import OpRecord
from slimkit.ir.translate.rows import Fold, Row
from slimkit.ir.translate.source import PirOp

__all__ = ["ROWS"]


def _inference_form(op: PirOp, record: OpRecord, builder: Any) -> None:
    """In test mode nothing is kept for a backward op."""
    if record.attrs.get("is_test"):
        record.outputs.pop("ReserveSpace", None)


def _batch_norm(pir: str) -> Row:
    """A synchronised batch norm of one device is a plain one."""
    return Row(
        pir, "batch_norm",
        inputs={"x": "X", "mean": "Mean", "variance": "Variance", "scale": "Scale", "bias": "Bias"},
        outputs={
            "out": "Y", "mean_out": "MeanOut", "variance_out": "VarianceOut", "saved_mean": "SavedMean",
            "saved_variance": "SavedVariance", "reserve_space": "ReserveSpace",
        },
        attrs={"data_format": "data_layout"},
        in_place={"mean_out": "mean", "variance_out": "variance"},
        adapt=_inference_form,
    )  # fmt: skip


_AFFINE = {"x": "X", "scale": "Scale", "bias": "Bias"}

ROWS = (
    _batch_norm("batch_norm"),
    _batch_norm("sync_batch_norm_"),
    Row(
        "layer_norm", "layer_norm", inputs=_AFFINE, outputs={"out": "Y", "mean": "Mean", "variance": "Variance"},
    ),
    Row(
        "group_norm", "group_norm", inputs=_AFFINE, outputs={"y": "Y", "mean": "Mean", "variance": "Variance"},
        attrs={"data_format": "data_layout"},
    ),
    Row(
        "instance_norm", "instance_norm", inputs=_AFFINE,
        outputs={"y": "Y", "saved_mean": "SavedMean", "saved_variance": "SavedVariance"},
    ),
    Row("spectral_norm", "spectral_norm", inputs={"weight": "Weight", "u": "U", "v": "V"}, outputs={"out": "Out"}),
    Row("norm", "norm", inputs={"x": "X"}, outputs={"out": "Out", "norm": "Norm"}),
    Row(
        "dropout", "dropout", inputs={"x": "X", "seed_tensor": "Seed"}, outputs={"out": "Out", "mask": "Mask"},
        attrs={"mode": "dropout_implementation"}, folds={"p": Fold("dropout_prob", scalar=True)},
    ),
)  # fmt: skip
