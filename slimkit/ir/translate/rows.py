"""The form of one line of the PIR -> ProgramDesc table.

A newcomer adds an op by adding one :class:`Row` to the file of its family under ``tables/``. Facts about names
and slots: ``paddle/phi/ops/yaml/op_compat.yaml`` in Paddle's repository, and
``OpProtoHolder.instance().get_op_proto(type)`` for what the legacy op really has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

__all__ = ["Fold", "Row", "binary", "index_rows", "unary"]


@dataclass(frozen=True)
class Fold:
    """A PIR operand that is an attribute of the legacy op when its value is known, else a tensor input.

    Attributes:
        attr: the legacy attribute.
        tensor: the slot of one tensor holding all values, or None when the legacy op takes no tensor.
        tensors: the slot of a list of one-element tensors, one per value, or None.
        scalar: the attribute is one number, not a list.
        unknown: what the attribute says for a value that a tensor gives.
        default: what the attribute says when one tensor gives all, if the legacy op insists on it.
    """

    attr: str
    tensor: Optional[str] = None
    tensors: Optional[str] = None
    scalar: bool = False
    unknown: int = -1
    default: Optional[float] = None


@dataclass(frozen=True)
class Row:
    """How one PIR op becomes one legacy op.

    PIR attributes whose name the legacy op has as well are carried over without being mentioned; every other one
    must be renamed in ``attrs`` or declared meaningless in ``dropped``, so nothing is lost in silence.

    Attributes:
        pir: name, ``pd_op.`` understood; ``relu`` serves ``relu_`` too.
        legacy: the ProgramDesc op type.
        inputs: PIR operand -> legacy slot.
        outputs: PIR result -> legacy slot. A result not listed must be unused.
        attrs: PIR attribute -> legacy attribute, where the names differ.
        folds: PIR operand -> :class:`Fold`.
        constants: legacy attributes PIR does not have and a kernel or runtime needs.
        dropped: PIR attributes without a legacy counterpart.
        ignored: PIR operands the legacy op does not read.
        xshape: the slot of the extra output that keeps the input's shape ("XShape"), which Paddle-Lite and
            the backward op need.
        in_place: PIR result -> PIR operand it is stored in, for state (running statistics).
        adapt: ``adapt(op, record, builder)`` corrects the record where the table cannot say it.
        build: ``build(op, builder)`` emits everything itself; the slots above are then unused.
    """

    pir: str
    legacy: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, str] = field(default_factory=dict)
    folds: Mapping[str, Fold] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    dropped: Tuple[str, ...] = ()
    ignored: Tuple[str, ...] = ()
    xshape: Optional[str] = None
    in_place: Mapping[str, str] = field(default_factory=dict)
    adapt: Optional[Callable[..., None]] = None
    build: Optional[Callable[..., None]] = None

    @property
    def full_name(self) -> str:
        """The name with its dialect: ``pd_op.conv2d``, ``builtin.split``."""
        return self.pir if "." in self.pir else f"pd_op.{self.pir}"


def unary(pir: str, legacy: str = "", **more: Any) -> Row:
    """A row of the commonest form: ``X`` in, ``Out`` out."""
    return Row(pir, legacy or pir, inputs={"x": "X"}, outputs={"out": "Out"}, **more)


def binary(pir: str, legacy: str = "", **more: Any) -> Row:
    """A row of the second commonest form: ``X`` and ``Y`` in, ``Out`` out."""
    return Row(pir, legacy or pir, inputs={"x": "X", "y": "Y"}, outputs={"out": "Out"}, **more)


def index_rows(*tables: Tuple[Row, ...]) -> Dict[str, Row]:
    """Returns full PIR name -> row.

    Raises:
        ValueError: two rows for one op.
    """
    rows: Dict[str, Row] = {}
    for table in tables:
        for row in table:
            if row.full_name in rows:
                raise ValueError(f"two rows for {row.full_name}")
            rows[row.full_name] = row
    return rows
