"""Whole programs: PIR in, legacy ``Program`` out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, FrozenSet, List, Optional, Sequence

from paddle.base.framework import Program

from slimkit.ir.translate.attributes import Attributes
from slimkit.ir.translate.builder import Builder
from slimkit.ir.translate.records import prune
from slimkit.ir.translate.source import PirOp
from slimkit.ir.translate.tables import ROWS, TABLE_OF
from slimkit.ir.translate.writer import write_program

__all__ = ["Translation", "translate"]


@dataclass(frozen=True)
class Translation:
    """The legacy program of a PIR program.

    Attributes:
        program: the legacy program; parameters are ``Parameter`` objects without values.
        feeds: names of the feeds, in order.
        fetches: names of the results, in order.
    """

    program: Program
    feeds: List[str]
    fetches: List[str]


def translate(
    program: Any, outputs: Optional[Sequence[Any]] = None, *, trainable: Optional[FrozenSet[str]] = None
) -> Translation:
    """Translates a PIR program.

    Args:
        program: ``paddle.pir.Program``.
        outputs: the PIR values to fetch; default: what the program's fetch ops name.
        trainable: names of parameters an optimizer may change; default: as the program says.

    Raises:
        TranslationError: an op has no row, or a form the legacy op cannot express.
    """
    builder = Builder(ROWS, TABLE_OF)
    block = program.global_block()
    _reserve_names(builder, block)
    builder.fetched = {value.id for value in outputs or ()}
    builder.translate_block(block)
    if outputs is not None:
        builder.fetches = [builder.name_of(value) for value in outputs]
    if trainable is not None:
        for record in builder.params.values():
            record.trainable = record.name in trainable
    prune(builder.block, set(builder.fetches) | set(builder.params))
    used = {name for op in builder.block.ops for name in op.reads() | op.writes()} | set(builder.fetches)
    builder.params = {name: record for name, record in builder.params.items() if name in used}
    return Translation(write_program(builder.block, builder.params, Attributes()), builder.feeds, builder.fetches)


def _reserve_names(builder: Builder, block: Any) -> None:
    """Keeps parameters' and feeds' names out of the generated ones; results are called what fetch ops call them."""
    names = []
    for raw in block.ops:
        if raw.name() in ("builtin.parameter", "pd_op.data", "pd_op.feed"):
            op = PirOp(raw)
            names.append(op.attrs.get("parameter_name") or op.attrs.get("name"))
        elif raw.name() in ("pd_op.fetch", "builtin.shadow_output"):
            attrs = raw.attrs()
            builder.wanted[raw.operand_source(0).id] = attrs.get("name") or attrs.get("output_name")
    builder.reserve([name for name in names if name])
