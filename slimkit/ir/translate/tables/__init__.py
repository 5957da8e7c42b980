"""The table: one file per family of ops, one row per op."""

from __future__ import annotations

from typing import Dict

from slimkit.ir.translate.rows import index_rows
from slimkit.ir.translate.tables import (
    activation,
    control_flow,
    convolution,
    creation,
    detection,
    elementwise,
    indexing,
    loss,
    normalization,
    quantization,
    recurrent,
    reduction,
    shape,
    structure,
)

__all__ = ["ROWS", "TABLE_OF"]

_FAMILIES = (
    activation,
    control_flow,
    convolution,
    creation,
    detection,
    elementwise,
    indexing,
    loss,
    normalization,
    quantization,
    recurrent,
    reduction,
    shape,
    structure,
)

ROWS = index_rows(*(family.ROWS for family in _FAMILIES))

TABLE_OF: Dict[str, str] = {
    row.full_name: f"tables/{family.__name__.rsplit('.', 1)[-1]}.py" for family in _FAMILIES for row in family.ROWS
}
