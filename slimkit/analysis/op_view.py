"""``OpView``: one op of a program with the shapes of what it reads and writes."""

from __future__ import annotations

from math import prod
from typing import Any, Callable, Dict, Iterator, List, Tuple

__all__ = ["LOOPS", "NoShapeError", "OpView", "Shape", "forward_ops", "is_forward", "sub_block"]

Shape = Tuple[int, ...]

#: Bits of ``op_role`` of ops that are not of the forward pass: backward, optimizer, learning rate.
_LATER = 1 | 2 | 16
#: Ops whose block runs once a turn; any other op's block is a branch.
LOOPS = ("while", "recurrent")
_FRAME = ("feed", "fetch")


class NoShapeError(Exception):
    """The shape of a tensor is not known yet; not for users.

    Attributes:
        name: of the tensor.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class OpView:
    """One op, seen by a cost formula.

    Args:
        desc: its description (``core.OpDesc``).
        block: number of its block.
        shape_of: name -> shape; raises :class:`NoShapeError`.
    """

    __slots__ = ("_inputs", "_outputs", "_shape_of", "block", "desc", "type")

    def __init__(self, desc: Any, block: int, shape_of: Callable[[str], Shape]) -> None:
        self.desc, self.block, self._shape_of = desc, block, shape_of
        self.type: str = desc.type()
        self._inputs: Dict[str, List[str]] = desc.inputs()
        self._outputs: Dict[str, List[str]] = desc.outputs()

    def at(self, turn: int, shapes: Any) -> OpView:
        """The op as it was in one turn of its loop, -1 being the last."""
        return OpView(self.desc, self.block, lambda name: shapes.of(name, turn))

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute, or ``default`` when the op has none of this name."""
        return self.desc.attr(name) if self.desc.has_attr(name) else default

    def reads(self, *slots: str) -> List[str]:
        """Names in the first of these input slots that is not empty; without slots: all of them."""
        return self._names(self._inputs, slots)

    def writes(self, *slots: str) -> List[str]:
        """Names in the first of these output slots that is not empty; without slots: all of them."""
        return self._names(self._outputs, slots)

    def read(self, *slots: str) -> Shape:
        """Shape of the first tensor in the first of these input slots that is not empty."""
        return self._shape_of(self.reads(*slots)[0])

    def read_all(self, *slots: str) -> List[Shape]:
        """Shapes of all tensors there."""
        return [self._shape_of(name) for name in self.reads(*slots)]

    def written(self, *slots: str) -> Shape:
        """Shape of the first tensor in the first of these output slots that is not empty."""
        return self._shape_of(self.writes(*slots)[0])

    def size_read(self) -> int:
        """Number of elements of what it works on."""
        names = self.reads("X", "Input", "Logits", "x") or self.reads()
        return prod(self._shape_of(names[0])) if names else 0

    def size_written(self) -> int:
        """Number of elements of its result."""
        names = self.writes("Out", "Output", "Y", "out") or self.writes()
        return prod(self._shape_of(names[0])) if names else 0

    @staticmethod
    def _names(table: Dict[str, List[str]], slots: Tuple[str, ...]) -> List[str]:
        if not slots:
            return [name for names in table.values() for name in names]
        return next((list(table[slot]) for slot in slots if table.get(slot)), [])


def sub_block(desc: Any) -> int:
    """Number of the block a control-flow op holds, -1 when it holds none."""
    return int(desc._block_attr_id("sub_block")) if desc.has_attr("sub_block") else -1


def is_forward(desc: Any) -> bool:
    """Whether an op is of the forward pass; what feeds it and fetches from it is not."""
    role = desc.attr("op_role") if desc.has_attr("op_role") else 0
    return not role & _LATER and desc.type() not in _FRAME


def forward_ops(program: Any, block: int = 0) -> Iterator[Tuple[int, Any]]:
    """The ops of the forward pass in program order, those of a control-flow op's block right behind it.

    Args:
        program: ``core.ProgramDesc``.
        block: number of the block to begin with.

    Yields:
        Number of the op's block, and the op (``core.OpDesc``).
    """
    desc = program.block(block)
    for index in range(desc.op_size()):
        op = desc.op(index)
        if not is_forward(op):
            continue
        yield block, op
        inner = sub_block(op)
        if inner >= 0:
            yield from forward_ops(program, inner)
