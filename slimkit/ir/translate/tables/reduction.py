"""Reductions over axes."""

from __future__ import annotations

from typing import Any

from slimkit.ir.translate.records import OpRecord
from slimkit.ir.translate.rows import Fold, Row
from slimkit.ir.translate.source import PirOp

__all__ = ["ROWS"]


def _all_axes(op: PirOp, record: OpRecord, builder: Any) -> None:
    """No axis means all of them, which the legacy ops say with ``reduce_all``."""
    axes = record.attrs.get("dim") or []
    rank = len(op.operands[0].shape)
    record.attrs["reduce_all"] = not axes or len(axes) == rank
    if not axes:
        record.attrs["dim"] = list(range(rank)) or [0]


def _reduce(pir: str, **more: Any) -> Row:
    return Row(
        pir, f"reduce_{pir}", inputs={"x": "X"}, outputs={"out": "Out"}, attrs={"keepdim": "keep_dim"},
        folds={"axis": Fold("dim")}, adapt=_all_axes, **more,
    )  # fmt: skip


ROWS = (_reduce("mean"), _reduce("sum"), _reduce("max"), _reduce("min"), _reduce("prod"))
