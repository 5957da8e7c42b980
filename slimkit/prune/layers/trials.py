"""Which groups a layer's code lets go: a trace shows constants, but not whether code computed them from shapes.

Where it makes a difference, a few units are pruned for a moment, forward is run and compared with the masked layer's,
and the layer gets everything back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import paddle
from paddle import nn

from slimkit.ir import Model
from slimkit.prune.apply import find_groups
from slimkit.prune.groups import DEPTHWISE, OUTPUT, Group, Groups
from slimkit.prune.layers.apply import mask_layer, shrink
from slimkit.prune.layers.attributes import row_of
from slimkit.prune.layers.comparison import difference, results
from slimkit.prune.layers.tensors import Undo
from slimkit.prune.plan import Plan

__all__ = ["Trials", "sentence", "tried_groups"]


class Trials:
    """Prunes a layer for a moment.

    Args:
        layer: it.
        arguments: of its forward.
        discrete, shrinks: see :func:`~slimkit.prune.layers.comparison.difference`.
    """

    def __init__(
        self, layer: nn.Layer, arguments: Sequence[Any], discrete: bool = False, shrinks: bool = False
    ) -> None:
        self.layer, self.arguments, self.discrete, self.shrinks = layer, list(arguments), discrete, shrinks

    def failure(self, plan: Plan) -> Optional[str]:
        """Why a layer pruned by a plan would not work; None when it would. The layer is left as it is.

        What is compared is forward in eval mode, on the example arguments.
        """
        undo = mask_layer(self.layer, plan)
        try:
            masked = results(self.layer, self.arguments)
        finally:
            undo()
        undo = Undo(self.layer)
        try:
            with paddle.no_grad():
                shrink(self.layer, plan.slices(), None, undo)
            pruned = results(self.layer, self.arguments)
        except Exception as error:  # whatever the layer's own code raises
            return f"its code fails: {sentence(error)}"
        finally:
            undo()
        return difference(masked, pruned, self.discrete, self.shrinks)


def sentence(error: Exception) -> str:
    """The line of an error that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line]
    return f"{type(error).__name__}: {(named or lines or ['no message'])[0].rstrip('.')}"


def tried_groups(model: Model, trials: Trials, fetches: Sequence[str]) -> Groups:
    """The groups of a traced layer that its code lets go.

    Three kinds: those that no constant of the code touches; those that constants touch, which are tried as if the code
    computed them from shapes, and fall back to what the constants allow; those with parameters of a Layer class that
    ``LAYER_ATTRIBUTES`` does not list, which are tried too.

    Args:
        model: the trace.
        trials: of the layer.
        fetches: results that keep their channels.
    """
    strict = find_groups(model, fetches, editable=False)
    free = find_groups(model, fetches, editable=False, from_shapes=True)
    unknown = _unknown_parameters(trials.layer)
    chosen: List[Group] = []
    for cautious, bold in _components(strict, free):
        if _same(cautious, bold):  # but for the reasons, of which those that constants do not give say more
            chosen += [_checked(group, free, unknown, trials) for group in bold]
        elif any(group.refused is None for group in bold) and _works(bold, free, trials) is None:
            chosen += bold
        else:
            chosen += [_checked(group, strict, unknown, trials) for group in cautious]
    order = {name: place for place, name in enumerate(dict.fromkeys([*free.weights, *strict.weights]))}
    chosen.sort(key=lambda group: order.get(group.name, len(order)))
    return Groups(chosen, free.weights, editable=False)


def _checked(group: Group, groups: Groups, unknown: Dict[str, str], trials: Trials) -> Group:
    """The group; refused when it has parameters of unknown layers whose code does not follow."""
    strangers = [member.parameter for member in group.members if member.parameter in unknown]
    if group.refused is not None or not strangers:
        return group
    reason = _works([group], groups, trials)
    if reason is None:
        return group
    refused = f"without some of the channels of '{strangers[0]}' {unknown[strangers[0]]} fails: {reason}"
    return replace(group, refused=refused)


def _works(some: List[Group], groups: Groups, trials: Trials) -> Optional[str]:
    """Why the layer fails without one unit, or half of the units, of each of some groups."""
    able = [group for group in some if group.refused is None]
    for count in (lambda size: 1, lambda size: size // 2):
        removed = {group.name: _some_units(group, count(group.size)) for group in able}
        reason = trials.failure(Plan(groups, removed))
        if reason is not None:
            return reason
    return None


def _some_units(group: Group, count: int) -> np.ndarray:
    """About so many units, as last ones as possible, so that of every parameter something stays."""
    gone = np.zeros(group.size + 1, bool)
    for unit in range(group.size - 1, -1, -1):
        if gone.sum() >= count:
            break
        gone[unit] = True
        if any(gone[member.units].all() for member in group.members) or group.emptied(gone[:-1]) is not None:
            gone[unit] = False
    return np.flatnonzero(gone)


def _unknown_parameters(layer: nn.Layer) -> Dict[str, str]:
    """Parameters and buffers of layers whose class is not in ``LAYER_ATTRIBUTES`` -> class."""
    found: Dict[str, str] = {}
    for part in layer.sublayers(include_self=True):
        if row_of(part) is None:
            own = [*part.parameters(include_sublayers=False), *part.buffers(include_sublayers=False)]
            found.update({tensor.name: type(part).__name__ for tensor in own})
    return found


def _cells(group: Group) -> set:
    return {(member.parameter, member.axis) for member in group.members if member.role in (OUTPUT, DEPTHWISE)}


def _components(strict: Groups, free: Groups) -> List[tuple]:
    """Groups of both findings that share filters: lists of (cautious, bold)."""
    nodes = [(group, False) for group in strict] + [(group, True) for group in free]
    owner: Dict[Any, int] = {}
    parent = list(range(len(nodes)))

    def root(place: int) -> int:
        while parent[place] != place:
            place = parent[place]
        return place

    for place, (group, _) in enumerate(nodes):
        for cell in _cells(group):
            other, mine = root(owner.setdefault(cell, place)), root(place)
            parent[max(other, mine)] = min(other, mine)
    found: Dict[int, tuple] = {}
    for place, (group, bold) in enumerate(nodes):
        found.setdefault(root(place), ([], []))[bold].append(group)
    return list(found.values())


def _same(cautious: List[Group], bold: List[Group]) -> bool:
    """Whether both findings let the same go."""
    able = [[group for group in groups if group.refused is None] for groups in (cautious, bold)]
    if [(g.name, g.size) for g in able[0]] != [(g.name, g.size) for g in able[1]]:
        return False
    return all(
        (a.parameter, a.axis) == (b.parameter, b.axis) and np.array_equal(a.units, b.units)
        for one, other in zip(*able)
        for a, b in zip(one.members, other.members)
    )
