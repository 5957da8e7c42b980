"""``Rule``: what an op type does with channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional

from slimkit.ir.graph_nodes import GraphOp
from slimkit.prune.flow import Flow

__all__ = ["Rule", "channel_axis"]


@dataclass(frozen=True)
class Rule:
    """A row of :data:`slimkit.prune.rules.RULES`.

    Attributes:
        flow: (flow, op) gives the op's results their channels and binds its parameters.
        resize: (sizes, op) rewrites attributes that hold a number of channels; ``sizes`` is a
            :class:`slimkit.prune.sizes.Sizes`. None: there are none.
    """

    flow: Callable[[Flow, GraphOp], None]
    resize: Optional[Callable[[Any, GraphOp], None]] = None


def channel_axis(op: GraphOp, rank: int, attribute: str = "data_format") -> int:
    """The axis of the channels of an op's input: 1, or the last in layouts such as NHWC."""
    layout = str(op.attr(attribute, "NCHW"))
    return rank - 1 if layout.endswith("C") and rank > 2 else 1
