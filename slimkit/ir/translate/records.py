"""What translation produces before it is written into Paddle's ProgramDesc: plain, printable records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Set

__all__ = ["BlockRecord", "OpRecord", "ParamRecord", "VarRecord", "prune"]


@dataclass
class VarRecord:
    """A variable of a block. ``dtype`` is a ``VarType``; ``kind`` names its ``VarType`` container."""

    name: str
    dtype: Any
    shape: List[int]
    stop_gradient: bool = False
    persistable: bool = False
    kind: str = "DENSE_TENSOR"
    is_feed: bool = False


@dataclass
class ParamRecord:
    """A parameter or buffer of the global block."""

    name: str
    dtype: Any
    shape: List[int]
    trainable: bool


@dataclass
class OpRecord:
    """A legacy op: slots of variable names, attributes, sub-blocks by attribute name, and where it came from."""

    type: str
    inputs: Dict[str, List[str]] = field(default_factory=dict)
    outputs: Dict[str, List[str]] = field(default_factory=dict)
    attrs: Dict[str, Any] = field(default_factory=dict)
    blocks: Dict[str, BlockRecord] = field(default_factory=dict)
    origin: str = ""

    def reads(self) -> Set[str]:
        """Returns every variable the op or its sub-blocks read."""
        names = {name for slot in self.inputs.values() for name in slot}
        for block in self.blocks.values():
            for op in block.ops:
                names |= op.reads()
        return names

    def writes(self) -> Set[str]:
        """Returns every variable the op or its sub-blocks write."""
        names = {name for slot in self.outputs.values() for name in slot}
        for block in self.blocks.values():
            for op in block.ops:
                names |= op.writes()
        return names


@dataclass
class BlockRecord:
    """A block: its ops in order, its variables by name, its parent."""

    ops: List[OpRecord] = field(default_factory=list)
    variables: Dict[str, VarRecord] = field(default_factory=dict)
    parent: Optional[BlockRecord] = None


def prune(block: BlockRecord, wanted: Set[str]) -> None:
    """Removes ops whose results no one uses, and variables no op touches, in place.

    Args:
        block: the block; its sub-blocks are pruned too.
        wanted: names that must be kept: fetches, and variables that outlive a run.
    """
    needed = set(wanted)
    kept = []
    for op in reversed(block.ops):
        if not op.outputs or op.writes() & needed:
            kept.append(op)
            for inner in op.blocks.values():
                prune(inner, needed | {name for slot in op.outputs.values() for name in slot} | op.reads())
            needed |= op.reads()
    block.ops = kept[::-1]
    used = set(wanted)
    for op in block.ops:
        used |= op.reads() | op.writes()
    block.variables = {n: v for n, v in block.variables.items() if n in used or v.is_feed}
