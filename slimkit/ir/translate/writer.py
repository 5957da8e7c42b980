"""Records -> a legacy ``Program`` with real Parameters."""

from __future__ import annotations

from typing import Any, Dict

from paddle.base import core
from paddle.base.framework import Parameter, Program

from slimkit.errors import TranslationError
from slimkit.ir.guards import legacy_ir
from slimkit.ir.translate.attributes import Attributes
from slimkit.ir.translate.records import BlockRecord, OpRecord, ParamRecord, VarRecord

__all__ = ["write_program"]


def write_program(root: BlockRecord, params: Dict[str, ParamRecord], attributes: Attributes) -> Program:
    """Builds the program.

    Args:
        root: the global block.
        params: parameters and buffers; trainable ones can be handed to an optimizer.
        attributes: types of the legacy ops' attributes.
    """
    with legacy_ir():
        program = Program()
        block = program.global_block()
        for record in params.values():
            Parameter(block, record.shape, record.dtype, name=record.name, trainable=record.trainable)
        for var in root.variables.values():
            if var.is_feed:
                block.create_var(
                    name=var.name, shape=var.shape, dtype=var.dtype, is_data=True, need_check_feed=True,
                    stop_gradient=True,
                )  # fmt: skip
        _fill(program, block.desc, root, attributes)
        program._sync_with_cpp()
    return program


def _fill(program: Program, desc: Any, block: BlockRecord, attributes: Attributes) -> None:
    for var in block.variables.values():
        if not var.is_feed:
            _write_var(desc, var)
    for op in block.ops:
        _write_op(program, desc, op, attributes)


def _write_var(desc: Any, var: VarRecord) -> None:
    target = desc.var(var.name.encode())
    kind = getattr(core.VarDesc.VarType, var.kind)
    target.set_type(kind)
    if var.kind in ("DENSE_TENSOR", "DENSE_TENSOR_ARRAY"):
        target.set_dtype(var.dtype)
        target.set_shape(var.shape)
    target.set_persistable(var.persistable)
    target.set_stop_gradient(var.stop_gradient)


def _write_op(program: Program, desc: Any, op: OpRecord, attributes: Attributes) -> None:
    target = desc.append_op()
    target.set_type(op.type)
    for slot in attributes.inputs(op.type):  # absent ones too: some backward ops insist on finding them
        target.set_input(slot, op.inputs.get(slot, []))
    for slot, names in op.outputs.items():
        target.set_output(slot, names)
    try:
        for name, value in op.attrs.items():
            attributes.set(target, op.type, name, value)
    except (TypeError, ValueError, KeyError) as error:
        raise TranslationError(f"{op.type} (op {op.origin}) cannot take its attributes: {error}.") from None
    for name, inner in op.blocks.items():
        child = program.desc.append_block(desc)
        _fill(program, child, inner, attributes)
        target.set_block_attr(name, child)
    target._set_int32_attr("op_role", 0)  # forward; the default says "not specified", which passes cannot use
    target.check_attrs()
