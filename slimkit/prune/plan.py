"""``Plan``: which units of which group go; ``make_plan`` chooses them."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from slimkit.errors import ConfigError
from slimkit.prune.criteria import Scorer
from slimkit.prune.groups import INPUT, Group, Groups, Member
from slimkit.prune.legal import Floor, check_rounding, legal

__all__ = ["Plan", "group_ratios", "make_plan"]

_FORMAT = 1
_CONFLICTS = ("refuse", "first", "least")


class Plan:
    """Which units of which group go.

    Args:
        groups: of the network.
        removed: group name -> numbers of the units that go; of every parameter something stays.
        notes: what the user should know, such as a group too small for the rounding.

    Raises:
        ConfigError: an unknown or refused group, a unit it does not have, or nothing of a parameter would be left.
    """

    def __init__(self, groups: Groups, removed: Mapping[str, np.ndarray], notes: Tuple[str, ...] = ()) -> None:
        self.groups = groups
        self.notes: List[str] = list(notes)
        self.removed: Dict[str, np.ndarray] = {}
        if not isinstance(groups, Groups) or not isinstance(removed, Mapping):
            raise ConfigError(
                "A plan needs the groups of a network and {name of a group: units that go}; find the groups with "
                "slimkit.prune.find_groups(model)."
            )
        for name, given in removed.items():
            group = groups[name]
            units = np.unique(np.asarray(given))
            if not units.size:
                continue
            if units.dtype.kind not in "iu":
                raise ConfigError(
                    f"The units of '{name}' that go are given as {units.dtype}; give whole numbers from 0 to "
                    f"{group.size - 1} (of a mask: numpy.flatnonzero(mask))."
                )
            units = units.astype(np.int64)
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
        return self._indices(lambda group, member: True)

    def zeros(self) -> Dict[str, Dict[int, np.ndarray]]:
        """What is zero of each parameter in a masked network, which computes what the pruned one does.

        That is what goes, but for stored vectors that something is divided by, and for what makes the channels of
        groups with ``readers_only``.
        """
        left = self.groups.divisors
        return self._indices(
            lambda group, member: member.parameter not in left and (not group.readers_only or member.role == INPUT)
        )

    def _indices(self, chosen: Callable[[Group, Member], bool]) -> Dict[str, Dict[int, np.ndarray]]:
        masks: Dict[str, Dict[int, np.ndarray]] = {}
        for name, units in self.removed.items():
            group = self.groups[name]
            gone = np.zeros(group.size + 1, bool)  # the last stands for -1: stays
            gone[units] = True
            for member in group.members:
                if not chosen(group, member):
                    continue
                axes = masks.setdefault(member.parameter, {})
                here = gone[member.units]
                axes[member.axis] = here | axes[member.axis] if member.axis in axes else here
        return {name: {axis: np.flatnonzero(mask) for axis, mask in axes.items()} for name, axes in masks.items()}

    def __len__(self) -> int:
        """Number of units that go."""
        return sum(len(units) for units in self.removed.values())

    def __str__(self) -> str:
        lines = [
            f"{group.name}: {self.kept(group)} of {group.size} units stay ({100 * self.ratio(group):.1f}% go)"
            for group in self.groups
            if group.name in self.removed
        ]
        return "\n".join([*(lines or ["nothing goes"]), *self.notes])

    def to_dict(self) -> Dict[str, Any]:
        """JSON-ready: with the sizes of the groups, so that it is not applied to another network."""
        held = {
            name: {"size": self.groups[name].size, "removed": units.tolist()} for name, units in self.removed.items()
        }
        return {"format": _FORMAT, "groups": held}

    @classmethod
    def from_dict(cls, groups: Groups, values: Mapping[str, Any]) -> Plan:
        """A plan that ``to_dict`` wrote, for the same network.

        Raises:
            ConfigError: it is none, or of another network.
        """
        known = isinstance(values, Mapping) and values.get("format") == _FORMAT
        held = values.get("groups") if known else None
        if not isinstance(held, Mapping) or not all(
            isinstance(each, Mapping) and {"size", "removed"} <= set(each) for each in held.values()
        ):
            raise ConfigError(f"This is no pruning plan of format {_FORMAT}; give what Plan.to_dict() wrote.")
        removed = {}
        for name, each in held.items():
            group = groups[name]
            if each["size"] != group.size:
                raise ConfigError(
                    f"The plan is for a network where '{name}' has {each['size']} units, here it has {group.size}; "
                    "apply it to the network it was made for, before that is pruned."
                )
            removed[name] = np.asarray(each["removed"])
        return cls(groups, removed)


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
    gone = np.zeros(group.size + 1, bool)  # the last stands for -1: stays
    gone[units] = True
    part = group.emptied(gone)
    if part is not None:
        raise ConfigError(
            f"The plan removes all of the units {part.tolist()} of '{group.name}', of which a tensor is made; "
            "leave at least one of them."
        )
    empty = next((m.parameter for m in group.members if gone[m.units].all()), None)
    if empty is not None:
        raise ConfigError(f"The plan removes all of '{empty}' in the group '{group.name}'; leave at least one filter.")


def make_plan(
    groups: Groups,
    scores: Union[Mapping[str, np.ndarray], Scorer, None],
    ratios: Mapping[str, float],
    *,
    round_to: int = 1,
    floor: Floor = 1,
    greedy: bool = False,
    conflict: str = "refuse",
    params: Optional[Mapping[str, np.ndarray]] = None,
    criterion: Any = "l1_norm",
    **how: Any,
) -> Plan:
    """Chooses the least important units of each group asked for.

    Args:
        groups: of the network.
        scores: group name -> score of each unit, such as of :func:`slimkit.prune.criteria.scores`; or a ``Scorer``,
            which is asked for the groups needed only; or None: a ``Scorer`` of ``params`` and ``criterion``.
        ratios: parameter with filters -> fraction of them that goes, in [0, 1); 0 removes nothing.
        round_to: the channels that stay are rounded to a multiple of this, to the nearest.
        floor: the least that stays: channels when an int, a fraction of the units when a float.
        greedy: what earlier groups of this plan take away of a layer's input does not count in its score (Li et al.
            2017, arXiv:1608.08710, section 3.2); else it counts, and a group is scored by itself.
        conflict: what to do about different ratios for parameters of one group: ``refuse``; ``first``, the ratio of
            the one listed first, which is PaddleSlim's rule; ``least``.
        params: name -> array; needed when ``scores`` is None.
        criterion: used with ``params``.
        how: other arguments of ``Scorer``.

    Returns:
        The plan. Equal scores are broken by index. A ratio changed by rounding or floor to 0 is in ``notes``.

    Raises:
        ConfigError: a parameter that cannot be pruned, a ratio, rounding or floor out of range, ratios in conflict, or
            scores that do not fit.
    """
    if scores is None:
        if params is None:
            raise ConfigError("make_plan needs scores, or params to score; pass params=model.params.")
        scores = Scorer(params, criterion, **how)
    elif params is not None or how:
        raise ConfigError("make_plan takes either scores or params with a criterion, not both; leave one out.")
    if greedy and not isinstance(scores, Scorer):
        raise ConfigError(
            "Greedy pruning scores a layer after those before it were chosen, so scores computed beforehand cannot "
            "serve; pass scores=None and params=model.params, or a Scorer."
        )
    check_rounding(round_to, floor)
    if not isinstance(groups, Groups) or not isinstance(ratios, Mapping):
        raise ConfigError(
            "make_plan needs the groups of a network, such as of slimkit.prune.find_groups(model), and ratios as "
            f"{{parameter: ratio}}, not {type(groups).__name__} and {type(ratios).__name__}."
        )
    wanted = group_ratios(groups, ratios, conflict)
    removed: Dict[str, np.ndarray] = {}
    notes = []
    for group in groups:
        ratio = wanted.get(group.name, 0.0)
        if ratio == 0:
            continue
        steps = legal(group, round_to, floor)
        step = steps.nearest(ratio)
        if step == 0:
            notes.append(_unchanged(group, ratio, round_to, floor))
            continue
        gone = Plan(groups, removed).slices() if greedy else None
        removed[group.name] = steps.units(step, _scores_of(group, scores, gone))
    return Plan(groups, removed, tuple(notes))


def group_ratios(groups: Groups, ratios: Mapping[str, float], conflict: str = "refuse") -> Dict[str, float]:
    """Ratios of parameters as ratios of groups.

    Args, raises: see :func:`make_plan`.

    Returns:
        Group name -> ratio.
    """
    if conflict not in _CONFLICTS:
        raise ConfigError(f"conflict = {conflict!r} is none of {', '.join(_CONFLICTS)}.")
    found: Dict[str, Tuple[str, float]] = {}
    for parameter, ratio in ratios.items():
        value = _checked_ratio(parameter, ratio)
        name = groups.of(parameter).name
        other, before = found.setdefault(name, (parameter, value))
        if before == value or conflict == "first":
            continue
        if conflict == "refuse":
            raise ConfigError(
                f"'{other}' and '{parameter}' can only be pruned together, but their ratios are {before:g} and "
                f"{value:g}; give one of them, or both the same ratio."
            )
        found[name] = min((other, before), (parameter, value), key=lambda pair: pair[1])
    return {name: value for name, (_, value) in found.items()}


def _checked_ratio(parameter: str, ratio: Any) -> float:
    try:
        value = float(ratio)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < 1:
        raise ConfigError(
            f"The ratio of '{parameter}' is {ratio!r}; it is the fraction of the filters that goes, from 0 (none) to "
            "below 1."
        )
    return value


def _scores_of(
    group: Group, scores: Union[Mapping[str, np.ndarray], Scorer], gone: Optional[Dict[str, Dict[int, np.ndarray]]]
) -> np.ndarray:
    if isinstance(scores, Scorer):
        return scores(group, gone)
    if group.name not in scores:
        raise ConfigError(f"There are no scores of the group '{group.name}', which is to be pruned; score it too.")
    try:
        found = np.asarray(scores[group.name], np.float64)
    except (TypeError, ValueError):
        found = np.full(0, np.nan)
    if found.shape != (group.size,) or np.isnan(found).any():
        raise ConfigError(
            f"The scores of '{group.name}' must be {group.size} numbers, one a unit and none NaN; they have shape "
            f"{list(found.shape)}."
        )
    return found


def _unchanged(group: Group, ratio: float, round_to: int, floor: Floor) -> str:
    return (
        f"'{group.name}' stays whole: no legal number of its {group.size} units is nearer to the ratio {ratio:g} "
        f"(round_to = {round_to}, floor = {floor})."
    )
