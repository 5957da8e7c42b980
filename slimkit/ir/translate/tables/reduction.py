"""Reductions over axes, sorting and searching."""

from __future__ import annotations

from typing import Any

from slimkit.ir.translate.records import OpRecord
from slimkit.ir.translate.rows import Fold, Row, unary
from slimkit.ir.translate.source import PirOp

__all__ = ["ROWS"]


def _all_axes(op: PirOp, record: OpRecord, builder: Any) -> None:
    """No axis means all of them, which the legacy ops say with ``reduce_all``."""
    axes = list(record.attrs.get("dim") or [])
    rank = len(op.operands[0].shape)
    record.attrs["reduce_all"] = not axes or len(axes) == rank
    record.attrs["dim"] = axes or list(range(rank)) or [0]


def _reduce(pir: str, *, attribute: bool = False, legacy: str = "", **more: Any) -> Row:
    """A reduction whose axes PIR gives as an operand, or (``attribute``) as an attribute."""
    renamed = {"keepdim": "keep_dim", "dtype": "out_dtype"}
    if attribute:
        renamed["axis"] = "dim"
    return unary(
        pir, legacy or f"reduce_{pir}", attrs=renamed, folds={} if attribute else {"axis": Fold("dim")},
        adapt=_all_axes, **more,
    )  # fmt: skip


def _log_sum_exp(op: PirOp, record: OpRecord, builder: Any) -> None:
    axes = list(record.attrs.get("axis") or [])
    record.attrs["reduce_all"] = bool(record.attrs.get("reduce_all")) or not axes
    record.attrs["axis"] = axes or [0]


def _unique(op: PirOp, record: OpRecord, builder: Any) -> None:
    """PIR always sorts; the legacy op asks."""
    record.attrs["is_sorted"] = True


_SEARCHED = {"out": "Out", "indices": "Indices"}

ROWS = (
    _reduce("mean"),
    _reduce("sum"),
    _reduce("max"),
    _reduce("min"),
    _reduce("prod"),
    _reduce("amax", attribute=True),
    _reduce("amin", attribute=True),
    _reduce("all", attribute=True),
    _reduce("any", attribute=True),
    _reduce("frobenius_norm", legacy="frobenius_norm"),
    unary("mean_all", "mean"),
    unary("logsumexp", adapt=_log_sum_exp),
    unary("p_norm"),
    unary("squared_l2_norm"),
    unary("argmax", "arg_max", folds={"axis": Fold("axis", scalar=True)}),
    unary("argmin", "arg_min", folds={"axis": Fold("axis", scalar=True)}),
    unary("cumsum", folds={"axis": Fold("axis", scalar=True)}),
    unary("cumprod"),
    Row("argsort", "argsort", inputs={"x": "X"}, outputs=_SEARCHED),
    Row(
        "topk", "top_k_v2", inputs={"x": "X"}, outputs=_SEARCHED, folds={"k": Fold("k", tensor="K", scalar=True)},
    ),
    Row("kthvalue", "kthvalue", inputs={"x": "X"}, outputs=_SEARCHED),
    Row("mode", "mode", inputs={"x": "X"}, outputs=_SEARCHED),
    Row(
        "unique", "unique", inputs={"x": "X"},
        outputs={"out": "Out", "indices": "Indices", "inverse": "Index", "counts": "Counts"}, adapt=_unique,
    ),
    Row(
        "accuracy", "accuracy", inputs={"x": "Out", "indices": "Indices", "label": "Label"},
        outputs={"accuracy": "Accuracy", "correct": "Correct", "total": "Total"},
    ),
    Row(
        "searchsorted", "searchsorted", inputs={"sorted_sequence": "SortedSequence", "values": "Values"},
        outputs={"out": "Out"},
    ),
)  # fmt: skip
