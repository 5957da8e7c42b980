"""``Group``: channels of a network that can only go together, and what of which parameter goes with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, Optional, Set

import numpy as np

from slimkit.errors import ConfigError, suggestion
from slimkit.prune.wording import listed

__all__ = ["OUTPUT", "Group", "Groups", "Member"]

#: Roles of a member: filters that compute the channels, and what goes with them.
OUTPUT, INPUT, DEPTHWISE, VECTOR = "output", "input", "depthwise", "vector"

#: How the members of a role are introduced in print.
_WITH = {DEPTHWISE: "depthwise", VECTOR: "with", INPUT: "read by"}

#: Ops that cannot have 0 in a stored vector: 0 / 0 is no number.
_DIVIDING = ("elementwise_div", "elementwise_pow", "elementwise_mod", "elementwise_floordiv")


@dataclass(frozen=True)
class Member:
    """One axis of one parameter, seen from one group.

    Attributes:
        parameter: its name.
        axis: the axis along which it shrinks.
        units: int, shape [length of the axis]: the unit of each index; -1: of another group, or stays.
        role: ``output`` (the filters of a convolution, the columns of a fully connected layer), ``input`` (what reads
            the channels), ``depthwise`` (one filter a channel), or ``vector`` (bias, batch norm, PReLU, scale).
        op_type: type of the op that uses it.
        op_output: the first result of that op.
    """

    parameter: str
    axis: int
    units: np.ndarray
    role: str
    op_type: str
    op_output: str = ""


@dataclass
class Group:
    """Channels that can only go together.

    Attributes:
        name: the first parameter, in program order, whose filters compute them.
        size: number of units; a unit is what goes at once, such as one channel of a residual stage.
        members: every parameter axis that shrinks with it; several entries of one parameter and axis are possible in
            no group.
        refused: why nothing of it can be pruned; None when it can.
        notes: what to know when pruning it.
        parts: int arrays of units that make up a tensor by themselves, such as one result of a split; at least one of
            each stays.
        readers_only: zeros stand in what reads the channels alone when it is masked: between lies an op that may have
            no value at 0, such as a quotient of channels or a logarithm.
    """

    name: str
    size: int
    members: List[Member]
    refused: Optional[str] = None
    notes: List[str] = field(default_factory=list)
    parts: List[np.ndarray] = field(default_factory=list)
    readers_only: bool = False

    @property
    def producers(self) -> List[Member]:
        """The members whose filters compute the channels."""
        return [member for member in self.members if member.role == OUTPUT]

    def emptied(self, gone: np.ndarray) -> Optional[np.ndarray]:
        """The first of the parts of which nothing would stay; ``gone`` is bool, shape [size]."""
        return next((part for part in self.parts if gone[part].all()), None)

    def __str__(self) -> str:
        """One line: how many units, of which filters, what goes with them, or why they stay."""
        filters = list(dict.fromkeys(m.parameter for m in self.producers))
        line = f"{self.name}: {self.size} unit{'s' * (self.size != 1)}"
        if filters not in ([], [self.name]):
            line += f" of {listed(filters)}"
        if self.refused:
            return f"{line} stay{'s' * (self.size == 1)}: {self.refused}"
        for role, words in _WITH.items():
            members = [m for m in self.members if m.role == role]
            names = [f"{m.parameter}[{m.axis}]" if role == INPUT else m.parameter for m in members]
            if names:
                line += f"; {words} {listed(list(dict.fromkeys(names)))}"
        return "; ".join([line, *self.notes])


class Groups:
    """The groups of a network, in program order.

    Args:
        groups: all of them, the refused ones too.
        weights: parameters of the network that have filters, prunable or not: name -> what it is used by.
        editable: found for a program whose ops' attributes may be rewritten; see ``find_groups``.
        layer_norm: found with channels that a layer_norm takes its mean over.
    """

    def __init__(
        self,
        groups: List[Group],
        weights: Optional[Mapping[str, str]] = None,
        editable: bool = True,
        layer_norm: bool = False,
    ) -> None:
        self.editable, self.layer_norm = editable, layer_norm
        self._groups = list(groups)
        self._by_name = {group.name: group for group in self._groups}
        self._by_parameter: Dict[str, Group] = {}
        for group in [*self.prunable, *self.refused]:
            for member in group.producers:
                self._by_parameter.setdefault(member.parameter, group)
        for group in [*self.prunable, *self.refused]:
            for member in group.members:
                if member.role == DEPTHWISE:
                    self._by_parameter.setdefault(member.parameter, group)
        self.weights = dict(weights or {})

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, name: str) -> Group:
        """The group of a name.

        Raises:
            ConfigError: there is none.
        """
        if str(name) not in self._by_name:
            raise ConfigError(f"There is no group '{name}'{suggestion(str(name), self._by_name)}")
        return self._by_name[str(name)]

    @property
    def divisors(self) -> Set[str]:
        """Stored vectors that a mask leaves as they are: what they divide is 0 there already."""
        return {m.parameter for g in self._groups for m in g.members if m.role == VECTOR and m.op_type in _DIVIDING}

    @property
    def prunable(self) -> List[Group]:
        return [group for group in self._groups if group.refused is None]

    @property
    def refused(self) -> List[Group]:
        return [group for group in self._groups if group.refused is not None]

    def of(self, parameter: str) -> Group:
        """The group whose channels a parameter's filters compute.

        Raises:
            ConfigError: the parameter is unknown or has no filters, or its group cannot be pruned.
        """
        group = self._by_parameter.get(str(parameter))
        if group is None:
            raise ConfigError(
                f"'{parameter}' is no parameter with filters in this network"
                f"{suggestion(str(parameter), self._by_parameter)} Those that can be pruned are listed by "
                "print(slimkit.prune.find_groups(model))."
            )
        if group.refused is not None:
            raise ConfigError(f"'{parameter}' cannot be pruned: {group.refused}")
        return group

    def __str__(self) -> str:
        return "\n".join(str(group) for group in self._groups)
