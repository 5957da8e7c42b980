"""``.pdmodel``: a legacy program on disk, with its feed and fetch ops."""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from pathlib import Path
from typing import Any, Dict, List, Sequence, Set, Tuple, Union

from paddle.base import core
from paddle.base.framework import Program
from paddle.base.proto import framework_pb2

from slimkit.errors import ModelError
from slimkit.ir.guards import legacy_ir
from slimkit.ir.runtime_needs import restore
from slimkit.ir.translate.attributes import Attributes

__all__ = ["inference_desc", "read_program"]

_Type = framework_pb2.VarType
_TRAINING_ROLES = 1 | 2  # backward, optimize: bits of the attribute op_role


def read_program(path: Union[str, Path]) -> Tuple[Program, List[str], List[str]]:
    """Reads a ``.pdmodel`` (or ``__model__``) file.

    Returns:
        The program without feed and fetch ops, the feeds' names and the fetches' names, in order.

    Raises:
        ModelError: the file is missing, empty or not a legacy program.
    """
    path = Path(path)
    desc = framework_pb2.ProgramDesc()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the model file {path} cannot be read: {error.strerror}; give an existing file.") from None
    try:
        desc.ParseFromString(data)
        sound = bool(desc.blocks) and bool(desc.blocks[0].ops)
    except Exception:
        sound = False
    if not sound:
        raise ModelError(
            f"{path} is not a Paddle program ({len(data)} bytes): the file is truncated, damaged, or of another "
            "kind; give the .pdmodel (or the PIR .json) that Paddle wrote."
        )
    feeds, fetches = _strip_feed_fetch(desc.blocks[0])
    _complete_attributes(desc)
    with legacy_ir():
        program = Program.parse_from_string(desc.SerializeToString())
    return program, feeds, fetches


def _complete_attributes(desc: Any) -> None:
    """Puts back what saving leaves out: cloning fails on ops without a role, some backward ops on absent slots."""
    attributes = Attributes()
    for op in _all_ops(desc):
        present = {slot.parameter for slot in op.inputs}
        for slot in attributes.inputs(op.type):
            if slot not in present:
                op.inputs.add(parameter=slot)
        held = {attr.name for attr in op.attrs}
        if "op_role" not in held:
            op.attrs.add(name="op_role", type=framework_pb2.INT, i=0)
        if "op_device" not in held:
            op.attrs.add(name="op_device", type=framework_pb2.STRING, s="")


def _strip_feed_fetch(block: Any) -> Tuple[List[str], List[str]]:
    feeds: Dict[int, str] = {}
    fetches: Dict[int, str] = {}
    kept = []
    for op in block.ops:
        if op.type == "feed":
            feeds[_column(op)] = op.outputs[0].arguments[0]
        elif op.type in ("fetch", "fetch_v2"):
            fetches[_column(op)] = op.inputs[0].arguments[0]
        else:
            kept.append(op)
    holders = (_Type.FEED_MINIBATCH, _Type.FETCH_LIST)
    variables = [var for var in block.vars if var.type.type not in holders]
    _replace(block.ops, kept)
    _replace(block.vars, variables)
    return [feeds[i] for i in sorted(feeds)], [fetches[i] for i in sorted(fetches)]


def _replace(field: Any, kept: List[Any]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) for item in kept]
    del field[:]
    field.extend(copies)


def _column(op: Any) -> int:
    return next((attr.i for attr in op.attrs if attr.name == "col"), 0)


def inference_desc(program: Program, feeds: Sequence[str], fetches: Sequence[str]) -> Any:
    """Returns the ProgramDesc message to deploy: what the fetches need, with feed and fetch ops.

    It is in test mode: dropout passes on, batch norm uses its statistics. Backward and optimizer ops go, as do ops
    and variables that no fetch needs, and feeds nothing reads; what Paddle 3 loses and other runtimes need is put
    back (:mod:`slimkit.ir.runtime_needs`).

    Raises:
        ModelError: a fetch is not computed by the program.
    """
    with legacy_ir():
        fresh = program.clone(for_test=True)
        core.save_op_version_info(fresh.desc)
        fresh.desc._set_version()
        # The old form of attributes that may be of any type (assign_value): Paddle-Lite knows no other.
        desc = framework_pb2.ProgramDesc.FromString(bytes(fresh.desc.serialize_to_string(legacy_format=True)))
    block = desc.blocks[0]
    _slice(desc, set(fetches))
    read = {name for op in _all_ops(desc) for slot in op.inputs for name in slot.arguments} | set(fetches)
    used = [name for name in feeds if name in read]
    known = {var.name for var in block.vars}
    for name in fetches:
        if name not in known:
            raise ModelError(f"{name} is to be fetched but is not a variable of the program; fetch one that is.")
    for inner in desc.blocks:
        restore(inner)
        _clean_attributes(inner)
    _drop_unused_variables(desc, set(fetches) | set(used))
    _drop_defaults(desc)
    _add_feed_fetch(block, used, list(fetches))
    return desc


def _slice(desc: Any, wanted: Set[str]) -> None:
    needed = set(wanted)
    kept = []
    for op in reversed(desc.blocks[0].ops):
        if _role(op) & _TRAINING_ROLES or op.type in ("feed", "fetch", "fetch_v2"):
            continue
        writes = {name for slot in op.outputs for name in slot.arguments}
        inner = _sub_blocks(desc, op)
        if not (writes & needed):
            continue
        kept.append(op)
        for one in [op, *(o for index in inner for o in _ops_under(desc, index))]:
            needed |= {name for slot in one.inputs for name in slot.arguments}
    _replace(desc.blocks[0].ops, kept[::-1])


def _role(op: Any) -> int:
    return next((attr.i for attr in op.attrs if attr.name == "op_role"), 0)


def _sub_blocks(desc: Any, op: Any) -> List[int]:
    found = []
    for attr in op.attrs:
        if attr.type == framework_pb2.AttrType.BLOCK:
            found.append(attr.block_idx)
        elif attr.type == framework_pb2.AttrType.BLOCKS:
            found.extend(attr.blocks_idx)
    return found


def _ops_under(desc: Any, index: int) -> List[Any]:
    found = []
    for op in desc.blocks[index].ops:
        found.append(op)
        for inner in _sub_blocks(desc, op):
            found.extend(_ops_under(desc, inner))
    return found


def _all_ops(desc: Any) -> List[Any]:
    found = []
    for op in desc.blocks[0].ops:
        found.append(op)
        for inner in _sub_blocks(desc, op):
            found.extend(_ops_under(desc, inner))
    return found


#: Attributes that Paddle 3 fills in with their defaults on loading and that runtimes set themselves. Paddle's own
#: save leaves them out; in a .nb file of a small model they are a fifth of its size.
_RUNTIME_ATTRIBUTES = (
    *("use_mkldnn", "use_onednn", "mkldnn_data_type", "onednn_data_type", "use_quantizer", "use_cudnn", "use_addto"),
    *("workspace_size_MB", "exhaustive_search", "force_fp32_output", "fuse_relu_before_depthwise_conv"),
    *("Scale_in", "Scale_in_eltwise", "Scale_out", "Scale_weights", "Scale_x", "Scale_y", "fuse_with_relu"),
    *("fuse_relu", "fuse_activation", "fuse_alpha", "fuse_beta", "fuse_residual_connection"),
)


def _clean_attributes(block: Any) -> None:
    """Drops what only training, the author's machine or a runtime's own passes need."""
    private = {"op_callstack", "op_role_var", "op_namescope", *_RUNTIME_ATTRIBUTES}
    for op in block.ops:
        fused = any(attr.name == "fuse_brelu" and attr.b for attr in op.attrs)
        drop = private | _IDLE.get(op.type, set()) | (set() if fused else {"fuse_brelu", "fuse_brelu_threshold"})
        kept = [attr for attr in op.attrs if (attr.name not in drop or _is_fused(attr)) and not _says_nothing(attr)]
        if len(kept) != len(op.attrs):
            _replace(op.attrs, kept)
        for slots in (op.inputs, op.outputs):
            filled = [slot for slot in slots if slot.arguments]
            if len(filled) != len(slots):
                _replace(slots, filled)


#: Attributes an inference op does not read: op type -> names.
_IDLE: Dict[str, Set[str]] = {
    "quantize_linear": {"moving_rate", "is_test"},
    "dequantize_linear": {"moving_rate", "is_test", "round_type"},
}


def _says_nothing(attr: Any) -> bool:
    """Whether an attribute that readers do not insist on is at its default; a model has hundreds of them."""
    return (
        (attr.name == "op_device" and not attr.s)
        or (attr.name == "op_role" and attr.i == 0)
        or (attr.name == "with_quant_attr" and not attr.b)
        or (attr.name in ("x_data_format", "y_data_format") and not attr.s)
        or (attr.name.startswith(("fused_reshape_", "fused_transpose_")) and not attr.ints)
    )


def _is_fused(attr: Any) -> bool:
    """Whether the attribute says that an op has another one fused into it, which must not be lost."""
    return attr.name.startswith("fuse_") and (attr.b or bool(attr.s))


def _drop_unused_variables(desc: Any, wanted: Set[str]) -> None:
    used = set(wanted)
    for op in _all_ops(desc):
        for slot in (*op.inputs, *op.outputs):
            used.update(slot.arguments)
    for block in desc.blocks:
        kept = [var for var in block.vars if var.name in used]
        if len(kept) != len(block.vars):
            _replace(block.vars, kept)


def _drop_defaults(desc: Any) -> None:
    """Leaves out what a reader takes for granted: fields of variables at their defaults, versions of ops not there."""
    for block in desc.blocks:
        for var in block.vars:
            for flag in ("persistable", "stop_gradient"):
                if not getattr(var, flag):
                    var.ClearField(flag)
            if var.type.HasField("dense_tensor") and not var.type.dense_tensor.legacy_lod_level:
                var.type.dense_tensor.ClearField("legacy_lod_level")
    types = {op.type for block in desc.blocks for op in block.ops}
    if desc.HasField("op_version_map"):
        kept = [pair for pair in desc.op_version_map.pair if pair.op_name in types]
        _replace(desc.op_version_map.pair, kept)


def _add_feed_fetch(block: Any, feeds: List[str], fetches: List[str]) -> None:
    for name, kind in (("feed", _Type.FEED_MINIBATCH), ("fetch", _Type.FETCH_LIST)):
        var = block.vars.add(name=name, persistable=True)
        var.type.type = kind
    body = [type(op).FromString(op.SerializeToString()) for op in block.ops]
    del block.ops[:]
    for column, name in enumerate(feeds):
        _column_op(block, "feed", "feed", name, column)
    block.ops.extend(body)
    for column, name in enumerate(fetches):
        _column_op(block, "fetch", name, "fetch", column)
    for var in block.vars:
        if var.name in feeds:
            var.need_check_feed = True


def _column_op(block: Any, kind: str, source: str, target: str, column: int) -> None:
    op = block.ops.add(type=kind)
    op.inputs.add(parameter="X", arguments=[source])
    op.outputs.add(parameter="Out", arguments=[target])
    op.attrs.add(name="col", type=framework_pb2.AttrType.INT, i=column)
