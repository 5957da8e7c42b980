"""The nodes a ``Graph`` is made of: ops with a role, and versions of variables."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple, Union

__all__ = ["GraphOp", "GraphVar", "OpRole", "VarLike", "as_list"]


class OpRole:
    """The bits of an op's ``op_role`` attribute."""

    FORWARD = 0
    BACKWARD = 1
    OPTIMIZE = 2
    LR_SCHEDULE = 16
    LOSS = 256


class GraphVar:
    """One version of a variable: ``name``, its ``producer`` (or None) and its ``consumers``."""

    __slots__ = ("_owner", "consumers", "desc", "name", "node", "producer")

    def __init__(self, node: Any, owner: Any = None) -> None:
        self.node = node
        self._owner = owner  # nodes live as long as Paddle's graph
        self.name: str = node.name()
        self.desc = node.var()
        self.producer: Optional[GraphOp] = None
        self.consumers: List[GraphOp] = []

    @property
    def persistable(self) -> bool:
        return self.desc.persistable()

    @property
    def shape(self) -> Tuple[int, ...]:
        return tuple(self.desc.shape())

    @property
    def dtype(self) -> Any:
        return self.desc.dtype()

    def __repr__(self) -> str:
        return f"GraphVar({self.name})"


class GraphOp:
    """One op: ``type``, ``inputs``/``outputs`` (data var nodes) and slots by name.

    ``waits_for`` and ``awaited_by`` hold control dependencies: (the other op, the raw control node between).
    """

    __slots__ = ("_owner", "awaited_by", "desc", "id", "inputs", "node", "outputs", "waits_for")

    def __init__(self, node: Any, owner: Any = None) -> None:
        self.node = node
        self._owner = owner
        self.id: int = node.id()
        self.desc = node.op()
        self.inputs: List[GraphVar] = []
        self.outputs: List[GraphVar] = []
        self.waits_for: List[Tuple[GraphOp, Any]] = []
        self.awaited_by: List[Tuple[GraphOp, Any]] = []

    @property
    def type(self) -> str:
        return self.desc.type()

    @property
    def role(self) -> int:
        return self.desc.attr("op_role") if self.desc.has_attr("op_role") else OpRole.FORWARD

    @property
    def is_backward(self) -> bool:
        return bool(self.role & OpRole.BACKWARD)

    @property
    def is_forward(self) -> bool:
        return not self.role & (OpRole.BACKWARD | OpRole.OPTIMIZE | OpRole.LR_SCHEDULE)

    def input_names(self, slot: str) -> List[str]:
        """Names in an input slot, [] when the op has no such slot."""
        return list(self.desc.input(slot)) if slot in self.desc.input_names() else []

    def output_names(self, slot: str) -> List[str]:
        """Names in an output slot, [] when the op has no such slot."""
        return list(self.desc.output(slot)) if slot in self.desc.output_names() else []

    def input_var(self, slot: str, index: int = 0) -> Optional[GraphVar]:
        """The var node in an input slot, or None."""
        names = self.input_names(slot)
        return self._find(self.inputs, names[index]) if index < len(names) else None

    def output_var(self, slot: str, index: int = 0) -> Optional[GraphVar]:
        """The var node in an output slot, or None."""
        names = self.output_names(slot)
        return self._find(self.outputs, names[index]) if index < len(names) else None

    @staticmethod
    def _find(nodes: Sequence[GraphVar], name: str) -> Optional[GraphVar]:
        return next((v for v in nodes if v.name == name), None)

    def attr(self, name: str, default: Any = None) -> Any:
        return self.desc.attr(name) if self.desc.has_attr(name) else default

    def set_attr(self, name: str, value: Any) -> None:
        self.desc._set_attr(name, value)

    def __repr__(self) -> str:
        return f"GraphOp({self.type} -> {', '.join(v.name for v in self.outputs)})"


VarLike = Union[GraphVar, Sequence[GraphVar]]


def as_list(value: VarLike) -> List[GraphVar]:
    return [value] if isinstance(value, GraphVar) else list(value)
