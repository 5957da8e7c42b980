"""``Channels``: the channels of a whole network, the groups they form, and the edits that make them go.

One analysis serves inference programs, training programs with backward and optimizer ops, and the traces of layers.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph
from slimkit.prune.flow import ALONE, Binding, Flow, tracked
from slimkit.prune.groups import OUTPUT, Group, Groups, Member
from slimkit.prune.plan import Plan
from slimkit.prune.rules import RULES, reason_of
from slimkit.prune.rules.numbers import hold_numbers

__all__ = ["Channels"]


class Channels:
    """The channels of one graph.

    Args:
        graph: the network; ``resize`` edits it.
        fetches: names of the results that keep their channels; None: whatever no op reads.
        editable: see :class:`~slimkit.prune.flow.Flow`.
        layer_norm: let channels go that a layer_norm takes its mean over.
        from_shapes: see :class:`~slimkit.prune.flow.Flow`.
    """

    def __init__(
        self,
        graph: Graph,
        fetches: Optional[Sequence[str]] = None,
        editable: bool = True,
        layer_norm: bool = False,
        from_shapes: bool = False,
    ) -> None:
        self.graph = graph
        self.flow = Flow(graph, editable, layer_norm, from_shapes)
        self._run(fetches)
        self._settle()
        self.groups = self._collect()

    # ---------------------------------------------------------------- analysis

    def _run(self, fetches: Optional[Sequence[str]]) -> None:
        flow = self.flow
        for op in self.graph.ops():
            if not op.is_forward or op.type == "fetch":
                continue
            rule = RULES.get(op.type)
            if rule is not None:
                rule.flow(flow, op)
            else:
                flow.fix_inputs(op, reason_of(op.type))
        flow.check_shared()
        hold_numbers(flow)
        for name in fetches or ():
            for var in self.graph.vars(name):
                flow.fix(var, "they are results of the network")
        for var in self.graph.vars():
            readers = [op for op in var.consumers if op.is_forward and op.type != "fetch"]
            if fetches is None and not readers and not var.persistable and not _side_result(var):
                flow.fix(var, "they are results of the network")
            if any(op.type == "fetch" for op in var.consumers):
                flow.fix(var, "they are results of the network")
        self._fix_inner_blocks()

    def _fix_inner_blocks(self) -> None:
        """What the blocks of control flow read keeps its channels."""
        inner = {name for graph in self.graph.sub_graphs for op in graph.ops() for name in op.desc.input_arg_names()}
        for name in inner:
            for labels in self.flow.bound(name).values():
                self.flow.labels.fix(labels, "an inner block of control flow uses them")
            for var in self.graph.vars(name):
                self.flow.fix(var, "an inner block of control flow uses them")

    def _settle(self) -> None:
        """Sees that every tensor stays rectangular: of a grid of channels whole rows, or whole columns, go."""
        labels, grids = self.flow.labels, self.flow.grids()
        while True:
            touched: Set[int] = set()
            classes, done = labels.classes(), True
            for grid in grids:
                if _rectangular(classes[grid]):
                    continue
                done = False
                names = set(np.unique(classes[grid]).tolist())
                if touched & names:
                    continue
                touched |= names
                for axis in tracked(grid)[:-1]:
                    labels.unite_along(grid, axis)
            if done:
                return

    # ---------------------------------------------------------------- groups

    def _collect(self) -> Groups:
        flow = self.flow
        classes, fixed, notes = flow.labels.classes(), flow.labels.fixed(), flow.labels.notes()
        bindings = _in_order(flow.bindings, self.graph)
        producers = [b for b in bindings if b.role == OUTPUT]
        owner = _owners(producers, classes)
        stays = np.zeros(flow.labels.count, bool)  # by class
        stays[list(fixed)] = True
        groups: List[Group] = []
        names: Set[str] = set()
        unit_of = np.full(flow.labels.count, -1, np.int64)  # by class
        group_of = np.full(flow.labels.count, -1, np.int64)
        for place, own in enumerate(owner):
            found = _once(np.concatenate([classes[b.labels] for b in own]))
            free = found[~stays[found]]
            unit_of[free] = np.arange(len(free))
            group_of[free] = place
            groups.append(_group(own[0], len(found), free, found[stays[found]].tolist(), fixed, notes))
            groups[-1].readers_only = not flow.labels.zero_allowed(found)
            if own[0].parameter in names:  # a tied weight gives channels along both of its axes
                groups[-1].name = f"{own[0].parameter}[{own[0].axis}]"
            names.add(own[0].parameter)
        self._group_of, self._unit_of = group_of, unit_of
        seen: Dict[Tuple[str, int, int], str] = {}
        done: Set[Tuple[str, int, int]] = set()
        for binding in bindings:
            classes_here = classes[binding.labels]
            places = group_of[classes_here]
            for place in set(places.tolist()):
                key = (binding.parameter, binding.axis, place)
                if place >= 0 and seen.setdefault(key, binding.role) != binding.role:
                    groups[place].readers_only = False  # one axis makes channels and reads them
                if place < 0 or key in done:
                    continue
                done.add(key)
                units = np.where(places == place, unit_of[classes_here], -1)
                groups[place].members.append(
                    Member(binding.parameter, binding.axis, units, binding.role, binding.op_type, binding.op_output)
                )
        for place, group in enumerate(groups):
            if not group.members:
                b = owner[place][0]
                units = np.full(b.labels.size, -1, np.int64)
                group.members.append(Member(b.parameter, b.axis, units, b.role, b.op_type, b.op_output))
        for place, part in _parts(flow.arrays(), classes, group_of, unit_of):
            if part.size < groups[place].size and not any(np.array_equal(part, p) for p in groups[place].parts):
                groups[place].parts.append(part)
        weights = {b.parameter: b.op_type for b in producers}
        return Groups(groups, weights, flow.editable, flow.layer_norm)

    def units(self) -> Tuple[np.ndarray, np.ndarray]:
        """Returns, for each label, the place of its group in ``groups`` (-1: it has none), and its unit there."""
        classes = self.flow.labels.classes()
        return self._group_of[classes], self._unit_of[classes]

    # ---------------------------------------------------------------- edits

    def removed(self, plan: Plan) -> np.ndarray:
        """Which labels go.

        Returns:
            bool [number of labels].

        Raises:
            ModelError: the plan is of another network.
        """
        classes = self.flow.labels.classes()
        slices = plan.slices()
        gone = np.zeros(self.flow.labels.count, bool)
        for name, units in plan.removed.items():
            group = next((g for g in self.groups if g.name == name), None)
            if group is None or group.refused is not None or group.size != plan.groups[name].size:
                raise ModelError(
                    f"The plan removes channels of '{name}', which this network does not have in this form; make the "
                    "plan from the groups of this network."
                )
            place = [g.name for g in self.groups].index(name)
            mine = np.flatnonzero(self._group_of == place)
            gone[mine[np.isin(self._unit_of[mine], units)]] = True
        result = gone[classes]
        for binding in self.flow.bindings:
            expected = slices.get(binding.parameter, {}).get(binding.axis, np.zeros(0, np.int64))
            if not np.array_equal(np.flatnonzero(result[binding.labels]), expected):
                raise ModelError(
                    f"The plan does not fit '{binding.parameter}' of this network; make it from this network's groups."
                )
        return result


def _parts(
    arrays: List[np.ndarray], classes: np.ndarray, group_of: np.ndarray, unit_of: np.ndarray
) -> Iterator[Tuple[int, np.ndarray]]:
    """The place of a group, and its units in a tensor that has channels of this group only."""
    for labels in arrays:
        own = classes[labels.ravel()]
        place = int(group_of[own[0]])
        if place >= 0 and (group_of[own] == place).all():
            yield place, np.unique(unit_of[own])


def _side_result(var: Any) -> bool:
    """Whether a tensor is a result that only gradients need, such as a dropout's mask."""
    producer = var.producer
    if producer is None:
        return True
    main = [producer.output_names(slot) for slot in ("Out", "Y", "Output") if producer.output_names(slot)]
    return bool(main) and var.name not in main[0]


def _rectangular(classes: np.ndarray) -> bool:
    """Whether all classes of a grid depend on the index along one axis only."""
    for axis in tracked(classes):
        first = classes
        for other in tracked(classes):
            if other != axis:
                first = np.take(first, [0], other)
        if np.array_equal(np.broadcast_to(first, classes.shape), classes):
            return True
    return False


def _in_order(bindings: List[Binding], graph: Graph) -> List[Binding]:
    """Bindings as their ops stand in the program, whose ids rise as they are written."""
    place: Dict[str, int] = {}
    for op in graph.ops():
        if op.is_forward and op.outputs:
            place.setdefault(op.outputs[0].name, op.id)
    return sorted(bindings, key=lambda b: place.get(b.op_output, 0))


def _owners(producers: List[Binding], classes: np.ndarray) -> List[List[Binding]]:
    """Filters that share a class are one group; groups and their filters in program order."""
    parent = list(range(len(producers)))
    first = np.zeros(len(classes), np.int64)  # class -> the first producer that has it
    for place in reversed(parent):
        first[classes[producers[place].labels]] = place

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for place, binding in enumerate(producers):
        for earlier in sorted(set(first[classes[binding.labels]].tolist())):
            other, mine = root(earlier), root(place)
            parent[max(mine, other)] = min(mine, other)
    found: Dict[int, List[Binding]] = {}
    for place, binding in enumerate(producers):
        found.setdefault(root(place), []).append(binding)
    return list(found.values())


def _once(values: np.ndarray) -> np.ndarray:
    """The values without repetitions, in the order they first appear in."""
    _, first = np.unique(values, return_index=True)
    return values[np.sort(first)]


def _group(
    first: Binding,
    count: int,
    free: np.ndarray,
    held: List[int],
    fixed: Dict[int, List[str]],
    notes: Dict[int, List[str]],
) -> Group:
    """A group of ``count`` classes, of which ``free`` may go and ``held`` must stay."""
    reasons = list(dict.fromkeys(text for c in held for text in fixed[c]))
    noted = free.tolist() if notes else []
    remarks = list(dict.fromkeys(text for c in noted for text in notes.get(c, [])))
    refused = None
    if len(free) < 2:
        single = count == 1 and reasons in ([], [ALONE])
        refused = "it is a single unit, which must stay" if single or not reasons else _told(reasons)
    elif len(held):
        remarks.append(f"{len(held)} of {count} units stay: {_told(reasons)}")
    size = len(free) if refused is None else count
    return Group(first.parameter, size, [], refused, remarks)


def _told(reasons: List[str]) -> str:
    """The first reasons in one sentence."""
    more = [f"and {len(reasons) - 2} reasons more"] if len(reasons) > 3 else reasons[2:]
    return "; ".join([*reasons[:2], *more])
