"""Where a network can be cut so that pruning one group only needs what lies behind.

The masked network has the group's slices zero in the filters that compute its channels and in what reads them. Between
the two every channel is computed by itself; so, however the removed channels look there, what reads them multiplies
them by zero. The results are therefore those of the network in which only the readers are masked, and everything
before the first reader is that of the unpruned network: it is computed once, and its tensors are used for every ratio.
For a convolution, batch norm, activation, depthwise convolution and the next convolution, the cut is in front of that
next convolution.

Where an op between the two mixes channels (attention's products, softmax), the cut is at the first op that reads any of
the masked parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Iterable, List, Sequence, Set

from slimkit.prune.groups import INPUT, Group

__all__ = ["Cut", "Ops"]

#: Ops each of whose output channels depends on the same channel of their inputs, wherever the channels lie.
_BY_CHANNEL = frozenset(
    "abs assign batch_norm cast ceil clip dropout elementwise_add elementwise_div elementwise_max elementwise_min "
    "elementwise_mul elementwise_pow elementwise_sub elu exp floor gelu hard_sigmoid hard_swish hardsigmoid hardswish "
    "leaky_relu log mish pow prelu relu relu6 rsqrt scale sigmoid silu softplus sqrt square swish sync_batch_norm tanh "
    # these move channels about
    "channel_shuffle concat flatten flatten_contiguous_range flatten2 gather pad pad2d pad3d pixel_shuffle reshape "
    "reshape2 shuffle_channel slice split squeeze squeeze2 stack strided_slice transpose transpose2 unsqueeze "
    "unsqueeze2 "
    # these take means and maxima of a channel's places
    "bilinear_interp bilinear_interp_v2 depthwise_conv2d depthwise_conv2d_transpose instance_norm "
    "max_pool2d_with_index nearest_interp nearest_interp_v2 pool2d pool3d sum".split()
)


#: Paddle's name for a result that is not wanted.
_NONE = "@EMPTY@"


@dataclass(frozen=True)
class Cut:
    """How one group is measured.

    Attributes:
        group: its name.
        behind: numbers of the ops whose results change with the group, in program order.
        inputs: tensors that these ops read, or that the model returns, and that do not change.
        masked: parameters whose slices have to be zeroed for the results to be those of the masked network.
    """

    group: str
    behind: FrozenSet[int]
    inputs: FrozenSet[str]
    masked: FrozenSet[str]

    @property
    def position(self) -> int:
        """The first op that changes."""
        return min(self.behind, default=0)


@dataclass
class Ops:
    """The ops of a program without control flow, by number.

    Args:
        program: legacy, in test mode.
        feeds, fetches: names.
    """

    program: Any
    feeds: Sequence[str]
    fetches: Sequence[str]
    types: List[str] = field(default_factory=list)
    reads: List[List[str]] = field(default_factory=list)
    writes: List[List[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        block = self.program.global_block()
        self.persistable = {name for name, var in block.vars.items() if var.persistable}
        left_out = {*self.persistable, _NONE}
        for op in block.ops:
            self.types.append(op.type)
            self.reads.append([name for name in dict.fromkeys(op.input_arg_names) if name != _NONE])
            self.writes.append([name for name in dict.fromkeys(op.output_arg_names) if name not in left_out])
        self.producer: Dict[str, int] = {name: i for i, names in enumerate(self.writes) for name in names}

    def __len__(self) -> int:
        return len(self.types)

    @property
    def divisible(self) -> bool:
        """Whether pieces of it can be run: no control flow, no variable that is written twice or is no plain tensor."""
        from paddle.base import core

        block, dense = self.program.global_block(), core.VarDesc.VarType.DENSE_TENSOR
        written = [name for names in self.writes for name in names]
        plain = all(block.has_var(name) and block.var(name).type == dense for name in written)
        return self.program.num_blocks == 1 and plain and len(set(written)) == len(written)

    def whole(self) -> Cut:
        """The cut in front of everything; its ``masked`` is of no group."""
        needed = self.needed(self.fetches, set(self.feeds))
        read = {name for i in needed for name in self.reads[i]} | set(self.fetches)
        return Cut("", frozenset(needed), frozenset(read & set(self.feeds)), frozenset())

    def cut(self, group: Group) -> Cut:
        """Where a group can be measured from."""
        parameters = {member.parameter for member in group.members}
        readers = {member.parameter for member in group.members if member.role == INPUT}
        masked = readers if self._readers_suffice(group) else parameters
        behind = self._behind(i for i in range(len(self)) if masked.intersection(self.reads[i]))
        changed = {name for i in behind for name in self.writes[i]}
        behind = {i for i in self.needed(self.fetches, set(self.feeds)) if i in behind}
        read = {name for i in behind for name in self.reads[i]} | set(self.fetches)
        return Cut(group.name, frozenset(behind), frozenset(read - changed - self.persistable), frozenset(masked))

    def needed(self, targets: Iterable[str], known: Set[str]) -> List[int]:
        """The ops that compute targets from known tensors, in program order."""
        ahead, found = [name for name in targets if name not in known], set()
        while ahead:
            index = self.producer.get(ahead.pop())
            if index is not None and index not in found:
                found.add(index)
                ahead += [name for name in self.reads[index] if name not in known]
        return sorted(found)

    def frontier(self, targets: Iterable[str], known: Set[str]) -> Set[str]:
        """The known tensors that targets are computed from."""
        ahead, found, seen = list(targets), set(), set()
        while ahead:
            name = ahead.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in known:
                found.add(name)
            elif name in self.producer:
                ahead += self.reads[self.producer[name]]
        return found

    def _behind(self, first: Iterable[int]) -> Set[int]:
        """These ops and all that depend on them."""
        found = set(first)
        changed: Set[str] = set()
        for index in range(min(found, default=len(self)), len(self)):
            if index in found or changed.intersection(self.reads[index]):
                found.add(index)
                changed.update(self.writes[index])
        return found

    def _readers_suffice(self, group: Group) -> bool:
        """Whether removed channels reach results only through the readers, and no op on the way mixes channels."""
        readers = {member.parameter for member in group.members if member.role == INPUT}
        makers = {member.parameter for member in group.members if member.role != INPUT}
        carrying: Set[str] = set()
        for index in range(len(self)):
            carries = not makers.isdisjoint(self.reads[index])
            if not carrying.isdisjoint(self.reads[index]) and readers.isdisjoint(self.reads[index]):
                if self.types[index] not in _BY_CHANNEL:
                    return False
                carries = True
            if carries:
                carrying.update(self.writes[index])
        return carrying.isdisjoint(self.fetches)
