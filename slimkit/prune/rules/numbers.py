"""Numbers of channels that a program computes with: ``shape(x)[1]`` may only say how long an axis of them is."""

from __future__ import annotations

from typing import Iterator, List, Optional, Tuple

import numpy as np

from slimkit.ir.graph_nodes import GraphOp, GraphVar
from slimkit.prune.flow import Flow, tracked
from slimkit.prune.rules.channelwise import source_of
from slimkit.prune.wording import an

__all__ = ["hold_numbers"]

#: What each number in a tensor of sizes is: an axis of the tensor that they are the sizes of, or None.
Sizes = List[Optional[int]]

#: Ops that pass sizes on, and those that put them side by side.
_PASSING = ("assign", "cast", "share_data", "memcpy", "squeeze2", "unsqueeze2", "reshape2", "squeeze", "unsqueeze")
_JOINING = ("concat", "stack")

#: Ops whose result gets the sizes.
_SHAPING = ("reshape2", "reshape", "expand_v2")


def hold_numbers(flow: Flow) -> None:
    """Keeps the channels whose number is used for something else than the length of an axis along which they lie."""
    for op in flow.graph.ops():
        if not op.is_forward or op.type not in ("shape", "size"):
            continue
        source = op.input_var("Input") or source_of(op)
        labels = flow.channels(source)
        if source is None or labels is None:
            continue
        for axis in tracked(labels):
            user = _other_use(flow, op, labels, axis) if op.type == "shape" else op
            if user is not None and not (user is op and _in_ratios(flow, op, labels)):
                flow.hold(labels, axis, f"{an(user.type)} op computes with their number")


def _in_ratios(flow: Flow, op: GraphOp, labels: np.ndarray) -> bool:
    """Whether the size of a tensor only divides, or is divided by, that of another with the same channels, as in
    a variance over pixels."""
    ahead = list(op.outputs)
    while ahead:
        for user in ahead.pop().consumers:
            if user.type in _PASSING:
                ahead += user.outputs
            elif user.is_forward and not (
                user.type == "elementwise_div"
                and all(_sized(flow, user.input_var(slot), labels) for slot in ("X", "Y"))
            ):
                return False
    return True


def _sized(flow: Flow, var: Optional[GraphVar], labels: np.ndarray) -> bool:
    """Whether a number is the size of a tensor with the same channels."""
    while var is not None and var.producer is not None and var.producer.type in _PASSING:
        var = source_of(var.producer)
    if var is None or var.producer is None or var.producer.type != "size":
        return False
    found = flow.channels(var.producer.input_var("Input"))
    if found is None:
        return False
    classes = flow.labels.classes()
    one, other = (np.sort(classes[np.squeeze(each)], None) for each in (found, labels))
    return np.array_equal(one, other)


def _other_use(flow: Flow, op: GraphOp, labels: np.ndarray, axis: int) -> Optional[GraphOp]:
    """The first op that takes the number of channels for something else."""
    ahead: List[Tuple[GraphVar, Sizes]] = []
    for var in op.outputs:
        ahead.append((var, [a if a == axis else None for a in range(labels.ndim)]))
    while ahead:
        var, sizes = ahead.pop()
        if not any(size is not None for size in sizes):
            continue
        for user in var.consumers:
            if not user.is_forward:
                continue
            following = _following(flow, user, var, sizes, labels, axis)
            if following is None:
                return user
            ahead += following
    return None


def _following(
    flow: Flow, user: GraphOp, var: GraphVar, sizes: Sizes, labels: np.ndarray, axis: int
) -> Optional[List[Tuple[GraphVar, Sizes]]]:
    """Where the sizes go on from an op that reads them; None: it uses them for something else."""
    result = user.output_var("Out") or user.output_var("Y")
    if result is None:
        return None
    if user.type in _SHAPING and source_of(user) is not var:
        places = list(_places(user, var, sizes))
        return [] if places and all(_as_long(flow, result, place, labels, axis) for place in places) else None
    if user.type in _PASSING:
        return [(result, sizes)]
    if user.type in _JOINING:
        return [(result, _joined(user, var, sizes))]
    if user.type in ("slice", "strided_slice"):
        return [(result, _part(user, sizes))]
    return None


def _places(user: GraphOp, var: GraphVar, sizes: Sizes) -> Iterator[int]:
    """The axes of an op's result that get the number."""
    for slot in ("ShapeTensor", "expand_shapes_tensor"):
        for place, name in enumerate(user.input_names(slot)):
            if name == var.name:
                yield place
    if var.name in user.input_names("Shape"):
        yield from (place for place, size in enumerate(sizes) if size is not None)


def _as_long(flow: Flow, result: GraphVar, place: int, labels: np.ndarray, axis: int) -> bool:
    """Whether an axis of a result has the same channels, in whatever order."""
    found = flow.channels(result)
    if found is None or place >= found.ndim:
        return False
    classes = flow.labels.classes()
    return np.array_equal(np.sort(classes[_line(found, place)]), np.sort(classes[_line(labels, axis)]))


def _line(labels: np.ndarray, axis: int) -> np.ndarray:
    for other in range(labels.ndim):
        if other != axis:
            labels = np.take(labels, [0], other)
    return labels.ravel()


def _joined(user: GraphOp, var: GraphVar, sizes: Sizes) -> Sizes:
    found: Sizes = []
    for name in user.input_names("X"):
        part = next(v for v in user.inputs if v.name == name)
        length = int(part.shape[0]) if part.shape else 1
        found += sizes if name == var.name else [None] * max(length, 1)
    return found


def _part(user: GraphOp, sizes: Sizes) -> Sizes:
    """The numbers that a slice with constant bounds takes; all of them where it has others."""
    starts, ends = list(user.attr("starts", []) or []), list(user.attr("ends", []) or [])
    strides = list(user.attr("strides", []) or [1])
    by_tensor = any(slot.startswith(("Starts", "Ends", "Strides")) and user.input_names(slot) for slot in _SLOTS)
    if len(starts) != 1 or len(ends) != 1 or by_tensor:
        return sizes
    return sizes[int(starts[0]) : int(ends[0]) : int(strides[0])]


_SLOTS = ("StartsTensor", "EndsTensor", "StridesTensor", "StartsTensorList", "EndsTensorList", "StridesTensorList")
