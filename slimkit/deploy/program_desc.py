"""Reading a ``.pdmodel`` file's ops and variables without a Paddle executor or a parameter file."""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from slimkit.errors import ModelError

__all__ = ["OpDesc", "ProgramView", "VarDesc", "read_program"]

# framework.proto, VarType.Type: the plain tensor dtypes.
DTYPES = {0: "bool", 1: "int16", 2: "int32", 3: "int64", 4: "float16", 5: "float32", 6: "float64", 20: "uint8"}
DTYPES.update({21: "int8", 22: "bfloat16"})
ITEM_BYTES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "float16": 2, "bfloat16": 2, "int32": 4, "float32": 4}
ITEM_BYTES.update({"int64": 8, "float64": 8})


@dataclass(frozen=True)
class VarDesc:
    """A variable: dtype, shape (-1 where it is open), and whether the parameter file holds it."""

    name: str
    dtype: str
    shape: Tuple[int, ...]
    persistable: bool

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= max(size, 0)
        return count

    @property
    def nbytes(self) -> int:
        return self.elements * ITEM_BYTES.get(self.dtype, 4)


@dataclass(frozen=True)
class OpDesc:
    """An op: type, slot -> variable names, attributes."""

    type: str
    inputs: Dict[str, List[str]]
    outputs: Dict[str, List[str]]
    attrs: Dict[str, Any] = field(repr=False)

    def input(self, slot: str) -> Optional[str]:
        names = self.inputs.get(slot)
        return names[0] if names else None

    @property
    def input_names(self) -> List[str]:
        return [name for names in self.inputs.values() for name in names]

    @property
    def output_names(self) -> List[str]:
        return [name for names in self.outputs.values() for name in names]


@dataclass(frozen=True)
class ProgramView:
    """A program's main block; ``sub_blocks`` counts the others (while, if)."""

    ops: List[OpDesc]
    variables: Dict[str, VarDesc]
    sub_blocks: int

    def producers(self) -> Dict[str, OpDesc]:
        return {name: op for op in self.ops for name in op.output_names}

    def consumers(self) -> Dict[str, List[OpDesc]]:
        found: Dict[str, List[OpDesc]] = {}
        for op in self.ops:
            for name in dict.fromkeys(op.input_names):
                found.setdefault(name, []).append(op)
        return found

    def names(self, type_: str) -> List[str]:
        """Feeds (type_ "feed") or fetches ("fetch"), by column."""
        column = [(op.attrs.get("col", 0), op) for op in self.ops if op.type == type_]
        slot = "outputs" if type_ == "feed" else "inputs"
        ordered = sorted(column, key=lambda pair: pair[0])
        return [getattr(op, slot)["Out" if type_ == "feed" else "X"][0] for _, op in ordered]


def read_program(path: Union[str, Path]) -> ProgramView:
    """Parses a ``.pdmodel`` file.

    Raises:
        ModelError: it cannot be read or is not a program.
    """
    from google.protobuf.message import DecodeError
    from paddle.base.proto import framework_pb2

    program = framework_pb2.ProgramDesc()
    try:
        program.ParseFromString(Path(path).read_bytes())
    except (OSError, DecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a Paddle program or is cut short"
        raise ModelError(f"{path} cannot be read: {reason}; export the model again.") from None
    if not program.blocks:
        raise ModelError(f"{path} holds no ops; it is not a Paddle program, export the model again.")
    block = program.blocks[0]
    return ProgramView(
        ops=[_op(op) for op in block.ops],
        variables={var.name: _var(var) for var in block.vars},
        sub_blocks=len(program.blocks) - 1,
    )


def _op(op: Any) -> OpDesc:
    return OpDesc(
        op.type,
        {slot.parameter: list(slot.arguments) for slot in op.inputs},
        {slot.parameter: list(slot.arguments) for slot in op.outputs},
        {attr.name: _attr(attr) for attr in op.attrs},
    )


# framework.proto, AttrType: the field of OpDesc.Attr that holds each kind's value.
_ATTR_FIELDS = {0: "i", 1: "f", 2: "s", 3: "ints", 4: "floats", 5: "strings", 6: "b", 7: "bools", 9: "l", 11: "longs"}
_ATTR_FIELDS.update({12: "float64s", 15: "float64"})


def _attr(attr: Any) -> Any:
    name = _ATTR_FIELDS.get(attr.type)
    value = getattr(attr, name, None) if name else None
    repeated = value is not None and name is not None and name.endswith("s") and name != "s"
    return list(value) if repeated else value  # type: ignore[arg-type]


def _var(var: Any) -> VarDesc:
    kind = var.type
    holder = getattr(kind, "dense_tensor", None) or getattr(kind, "lod_tensor", None)  # renamed in Paddle 3
    if holder is None or not kind.HasField("dense_tensor" if hasattr(kind, "dense_tensor") else "lod_tensor"):
        return VarDesc(var.name, "other", (), var.persistable)
    tensor = holder.tensor
    return VarDesc(var.name, DTYPES.get(tensor.data_type, "other"), tuple(tensor.dims), var.persistable)
