"""Reading PIR ops: the little of Paddle's PIR bindings that translation needs, in one place."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import paddle
from paddle.base.libpaddle import pir
from paddle.pir.core import datatype_to_vartype

__all__ = ["PirOp", "element_types", "has_type", "is_missing", "vartype"]

# Attributes every PIR op may carry and that say nothing about what it computes.
BOOKKEEPING = frozenset(
    (
        "op_callstack",
        "struct_name",
        "stop_gradient",
        "place",
        "persistable",
        "op_role",
        "chunk_id",
        "execution_stream",
    )
)


def vartype(dtype: Any) -> Any:
    """Returns the legacy ``VarType`` of a PIR dtype (or of a ``VarType``, itself)."""
    return datatype_to_vartype.get(dtype, dtype)


def is_missing(value: Any) -> bool:
    """Whether an operand is absent (an optional input not given)."""
    return value is None or not value.initialized()


def has_type(value: Any) -> bool:
    """Whether a result exists: an optional result an op does not make has no type."""
    return not str(value.type()).startswith("<<NULL")


def element_types(value: Any) -> Optional[List[Tuple[Any, List[int]]]]:
    """Returns (dtype, shape) per element of a list value, or None for a tensor."""
    vector = value.type().as_vec_type()
    if vector is None:
        return None
    return [(t.dtype, list(t.shape)) for t in vector.as_list()]


class PirOp:
    """One PIR op: operands and results by name, attributes, and where in the user's code it came from."""

    def __init__(self, op: Any) -> None:
        self.op = op
        self.full_name: str = op.name()
        self.name = self.full_name.split(".", 1)[-1]
        self.attrs: Dict[str, Any] = op.attrs()
        self.operands: List[Any] = [op.operand_source(i) for i in range(op.num_operands())]
        self.results: List[Any] = [op.result(i) for i in range(op.num_results())]
        self._inputs: Optional[Dict[str, Any]] = None
        self._outputs: Optional[Dict[str, Any]] = None

    @property
    def inputs(self) -> Dict[str, Any]:
        """Operands by name, absent ones left out."""
        if self._inputs is None:
            pairs = zip(self.op.get_input_names(), self.operands)
            self._inputs = {name: value for name, value in pairs if not is_missing(value)}
        return self._inputs

    @property
    def outputs(self) -> Dict[str, Any]:
        """Results by name."""
        if self._outputs is None:
            self._outputs = dict(zip(self.op.get_output_names(), self.results))
        return self._outputs

    def in_place_operand(self, result: str) -> Optional[Any]:
        """Returns the operand whose memory a result of an in-place op shares, or None."""
        pairs = pir.get_op_inplace_info(self.op)
        position = self.op.get_output_names().index(result)
        operand = pairs.get(position)
        return None if operand is None else self.operands[operand]

    def meaningful_attrs(self) -> Dict[str, Any]:
        """The attributes that say what the op computes."""
        return {k: v for k, v in self.attrs.items() if k not in BOOKKEEPING}

    def where(self) -> str:
        """The layer and the line of the user's code, as far as they are known."""
        layer = self.attrs.get("struct_name")
        parts = [f"layer {layer}"] if layer else []
        line = _user_line(self.attrs.get("op_callstack") or [])
        if line:
            parts.append(line)
        return ", ".join(parts) or "unknown layer"


def _user_line(stack: List[str]) -> str:
    """Returns the innermost frame outside Paddle's own package and this one."""
    paddle_root = paddle.__file__.rsplit("/", 1)[0]
    for frame in reversed(stack):
        text = frame.strip()
        if text.startswith('File "') and paddle_root not in text and "/slimkit/ir/" not in text:
            return text.replace("File ", "").split(", in ")[0].replace('"', "")
    return ""
