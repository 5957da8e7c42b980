"""``Plan``: which units of which group go."""

from __future__ import annotations

from typing import Dict, Mapping

import numpy as np

from slimkit.errors import ConfigError
from slimkit.prune.groups import Group, Groups

__all__ = ["Plan"]


class Plan:
    """Which units of which group go.

    Args:
        groups: of the network.
        removed: group name -> numbers of the units that go; at least one unit of a group stays.

    Raises:
        ConfigError: an unknown or refused group, a unit it does not have, or none would be left.
    """

    def __init__(self, groups: Groups, removed: Mapping[str, np.ndarray]) -> None:
        self.groups = groups
        self.removed: Dict[str, np.ndarray] = {}
        for name, units in removed.items():
            group = groups[name]
            units = np.unique(np.asarray(units, np.int64))
            if not units.size:
                continue
            _check(group, units)
            self.removed[name] = units

    def kept(self, group: Group) -> int:
        """Number of units of a group that stay."""
        return group.size - len(self.removed.get(group.name, ()))

    def ratio(self, group: Group) -> float:
        """Fraction of a group's units that go."""
        return 1.0 - self.kept(group) / group.size

    def slices(self) -> Dict[str, Dict[int, np.ndarray]]:
        """What goes of each parameter: name -> axis -> sorted indices."""
        found: Dict[str, Dict[int, np.ndarray]] = {}
        for name, units in self.removed.items():
            group = self.groups[name]
            gone = np.zeros(group.size + 1, bool)  # the last stands for -1: stays
            gone[units] = True
            for member in group.members:
                indices = np.flatnonzero(gone[member.units])
                axes = found.setdefault(member.parameter, {})
                axes[member.axis] = np.union1d(axes.get(member.axis, np.zeros(0, np.int64)), indices)
        return found

    def __len__(self) -> int:
        """Number of units that go."""
        return sum(len(units) for units in self.removed.values())


def _check(group: Group, units: np.ndarray) -> None:
    if group.refused is not None:
        raise ConfigError(f"'{group.name}' cannot be pruned: {group.refused}")
    if units[0] < 0 or units[-1] >= group.size:
        raise ConfigError(
            f"The plan removes unit {int(units[-1] if units[0] >= 0 else units[0])} of '{group.name}', which has units "
            f"0 to {group.size - 1}; give numbers in this range."
        )
    if len(units) >= group.size:
        raise ConfigError(f"The plan removes all {group.size} units of '{group.name}'; leave at least one.")
