"""Branches and loops, and what their blocks end in.

A PIR ``if`` returns values; a legacy ``conditional_block`` writes variables of the block around it. As Paddle's
legacy ``cond`` did: each branch assigns its results to variables outside, and ``select_input`` picks one.
"""

from __future__ import annotations

from typing import Any, List

from slimkit.ir.translate.records import BlockRecord, OpRecord
from slimkit.ir.translate.rows import Row
from slimkit.ir.translate.source import PirOp

__all__ = ["ROWS"]


def _yield(op: PirOp, builder: Any) -> None:
    builder.yielded = [builder.name_of(value) for value in op.operands]


def _body(block: Any, builder: Any, targets: List[str], origin: str) -> BlockRecord:
    """Translates a sub-block that leaves what it yields in ``targets``."""
    with builder.inside() as record:
        builder.translate_block(block)
        sources = builder.yielded
        if set(sources) & set(targets):  # a loop that swaps its variables: read all before writing any
            sources = [builder.copy(name, origin) for name in sources]
        for source, target in zip(sources, targets):
            builder.emit(OpRecord("assign", {"X": [source]}, {"Out": [target]}, origin=origin))
    return record


def _outside(block: BlockRecord) -> List[str]:
    """What a sub-block reads of the blocks around it, sorted."""
    read = {name for op in block.ops for name in op.reads()}
    return sorted(read - set(block.variables))


def _scope(prefix: str, builder: Any) -> str:
    return builder.variable(builder.fresh(f"{prefix}.scope"), builder.int32, [], kind="STEP_SCOPES")


def _if(op: PirOp, builder: Any) -> None:
    branch, origin = op.op.as_if_op(), f"{op.full_name} from {op.where()}"
    condition = builder.name_of(op.operands[0])
    prefix = builder.begin("conditional_block")
    negated = builder.variable(builder.fresh(f"{prefix}.not"), op.operands[0].dtype, op.operands[0].shape)
    builder.emit(OpRecord("logical_not", {"X": [condition]}, {"Out": [negated]}, origin=origin))
    chosen = []
    for name, guard, block in (("true", condition, branch.true_block()), ("false", negated, branch.false_block())):
        targets = [
            builder.variable(builder.fresh(f"{prefix}.{name}_{k}"), v.dtype, v.shape) for k, v in enumerate(op.results)
        ]
        body = _body(block, builder, targets, origin)
        builder.emit(
            OpRecord(
                "conditional_block",
                {"Cond": [guard], "Input": _outside(body)},
                {"Out": targets, "Scope": [_scope(f"{prefix}.{name}", builder)]},
                {"is_scalar_condition": True},
                {"sub_block": body},
                origin,
            )
        )
        chosen.append(targets)
    mask = builder.variable(builder.fresh(f"{prefix}.mask"), builder.int32, op.operands[0].shape, stop_gradient=True)
    builder.emit_cast(condition, op.operands[0].dtype, mask, builder.int32, origin)
    for value, taken, other in zip(op.results, *chosen):
        (name,) = builder.result(value, builder.begin("select_input"), 0)
        builder.emit(OpRecord("select_input", {"X": [other, taken], "Mask": [mask]}, {"Out": [name]}, origin=origin))


def _while(op: PirOp, builder: Any) -> None:
    loop, origin = op.op.as_while_op(), f"{op.full_name} from {op.where()}"
    prefix = builder.begin("while")
    block = loop.body()
    condition = builder.copy(builder.name_of(op.operands[0]), origin, f"{prefix}.condition")
    carried = []
    for k, (start, argument, result) in enumerate(zip(op.operands[1:], block.args(), op.results)):
        name = builder.variable(builder.fresh(f"{prefix}.tmp_{k}"), result.dtype, result.shape)
        builder.emit(OpRecord("assign", {"X": [builder.name_of(start)]}, {"Out": [name]}, origin=origin))
        builder.bind(argument, name)
        builder.bind(result, name)
        carried.append(name)
    body = _body(block, builder, [condition, *carried], origin)
    read = [name for name in _outside(body) if name != condition]
    builder.emit(
        OpRecord(
            "while",
            {"X": sorted({*read, *carried}), "Condition": [condition]},
            {"Out": [*carried, condition], "StepScopes": [_scope(prefix, builder)]},
            {"is_test": False},
            {"sub_block": body},
            origin,
        )
    )


ROWS = (
    Row("if", build=_if),
    Row("while", build=_while),
    Row("cf.yield", build=_yield),
)
