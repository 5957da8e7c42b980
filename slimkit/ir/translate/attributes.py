"""What attributes a legacy op has, of which type, and how to set them in a description."""

from __future__ import annotations

from typing import Any, Dict, List

from paddle.base import core
from paddle.base.framework import OpProtoHolder

from slimkit.errors import TranslationError
from slimkit.ir.translate.source import vartype

__all__ = ["Attributes"]

_Type = core.AttrType


def _integers(values: Any) -> List[int]:
    return [int(v) for v in values]


def _floats(values: Any) -> List[float]:
    return [float(v) for v in values]


# Attribute type -> (setter of OpDesc, conversion).
_SETTERS: Dict[Any, Any] = {
    _Type.INT: ("_set_int32_attr", int),
    _Type.LONG: ("_set_int64_attr", int),
    _Type.FLOAT: ("_set_float32_attr", float),
    _Type.FLOAT64: ("_set_float64_attr", float),
    _Type.STRING: ("_set_str_attr", str),
    _Type.BOOL: ("_set_bool_attr", bool),
    _Type.INTS: ("_set_int32s_attr", _integers),
    _Type.LONGS: ("_set_int64s_attr", _integers),
    _Type.FLOATS: ("_set_float32s_attr", _floats),
    _Type.FLOAT64S: ("_set_float64s_attr", _floats),
    _Type.STRINGS: ("_set_strs_attr", list),
    _Type.BOOLS: ("_set_bools_attr", lambda values: [bool(v) for v in values]),
    _Type.SCALAR: ("_set_scalar_attr", core.Scalar),
    _Type.SCALARS: ("_set_scalars_attr", lambda values: [core.Scalar(v) for v in values]),
}


class Attributes:
    """Reads op protos once each."""

    def __init__(self) -> None:
        self._types: Dict[str, Dict[str, Any]] = {}
        self._inputs: Dict[str, List[str]] = {}

    def types(self, legacy: str) -> Dict[str, Any]:
        """Returns attribute -> type of a legacy op; the type of an "extra" attribute is None."""
        found = self._types.get(legacy)
        if found is None:
            try:
                proto = OpProtoHolder.instance().get_op_proto(legacy)
            except ValueError:
                raise TranslationError(f"this Paddle has no legacy op {legacy}.") from None
            found = dict.fromkeys(core.get_op_extra_attrs(legacy))
            found.update({attr.name: _Type(attr.type) for attr in proto.attrs})
            self._types[legacy] = found
        return found

    def inputs(self, legacy: str) -> List[str]:
        """Returns the input slots of a legacy op; none of an op this Paddle does not have."""
        found = self._inputs.get(legacy)
        if found is None:
            protos = OpProtoHolder.instance()
            known = protos.has_op_proto(legacy)
            found = self._inputs[legacy] = [s.name for s in protos.get_op_proto(legacy).inputs] if known else []
        return found

    def has(self, legacy: str, name: str) -> bool:
        return name in self.types(legacy)

    def converted(self, legacy: str, name: str, value: Any) -> Any:
        """Returns a value as the type that the op declares for an attribute."""
        kind = self.types(legacy).get(name)
        value = _plain(value)
        return value if kind is None else _SETTERS[kind][1](value)

    def set(self, desc: Any, legacy: str, name: str, value: Any) -> None:
        """Sets an attribute of an OpDesc with the type its op declares."""
        kind = self.types(legacy).get(name)
        value = self.converted(legacy, name, value)
        if kind is None:
            desc._set_attr(name, value)
        else:
            getattr(desc, _SETTERS[kind][0])(name, value)


def _plain(value: Any) -> Any:
    """Turns a dtype into its number (-1 if undefined: "as the input"); everything else stays."""
    if value is core.DataType.UNDEFINED or value == core.DataType.UNDEFINED:
        return -1
    legacy = vartype(value) if not isinstance(value, (list, tuple, dict, str, bool, int, float)) else value
    return int(legacy) if isinstance(legacy, core.VarDesc.VarType) else legacy
