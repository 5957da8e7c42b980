"""Ops that give a tensor another shape or another order of axes."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from slimkit.ir.graph_nodes import GraphOp, GraphVar
from slimkit.prune.flow import Flow, View, tracked
from slimkit.prune.rules.channelwise import source_of
from slimkit.prune.rules.elementwise import join
from slimkit.prune.rules.rule import Rule
from slimkit.prune.wording import an

__all__ = ["RULES", "reshaped"]


def reshaped(labels: np.ndarray, old: Sequence[int], new: Sequence[int]) -> Optional[np.ndarray]:
    """Labels of a reshaped tensor.

    An axis of unknown length in front, such as the batch, is taken for the same one when it is unknown in both shapes.

    Args:
        labels: of the tensor.
        old: its shape, -1 where it is not known.
        new: the shape it gets, -1 where it is not known.

    Returns:
        The labels; None when axes of unknown length are mixed with channels.
    """
    front = 0
    while front < min(len(old), len(new)) and old[front] == new[front]:
        front += 1
    back = 0
    while back < min(len(old), len(new)) - front and old[-1 - back] == new[-1 - back]:
        back += 1
    middle = slice(front, len(old) - back)
    inner, target = list(old[middle]), list(new[front : len(new) - back])
    head, tail = labels.shape[:front], labels.shape[len(old) - back :]
    core = labels.shape[middle]
    moved = (-1 in inner) != (-1 in target) and -1 in list(old[len(old) - back :])
    if all(length == 1 for length in core) and not moved:
        return labels.reshape(head + (1,) * len(target) + tail)
    if -1 in inner:
        return _by_segments(labels, old, new)
    if target.count(-1) == 1:
        known = int(np.prod([n for n in target if n != -1]))
        target[target.index(-1)] = int(np.prod(inner)) // max(known, 1)
    if -1 in target or np.prod(target) != np.prod(inner):
        return _by_segments(labels, old, new)
    full = np.broadcast_to(labels, head + tuple(inner) + tail)
    return full.reshape(head + tuple(target) + tail)


def _by_segments(labels: np.ndarray, old: Sequence[int], new: Sequence[int]) -> Optional[np.ndarray]:
    """The case of axes of unknown length: they may be joined or parted as long as no channel is among them.

    The one axis with channels must be found again at a place which the known axes before or behind it determine.
    """
    along = tracked(labels)
    if len(along) != 1:
        return None
    axis = along[0]
    size = labels.shape[axis]
    places = [i for i, length in enumerate(new) if length == size]
    for place in places:
        before, after = (list(old[:axis]), list(new[:place])), (list(old[axis + 1 :]), list(new[place + 1 :]))
        parted = -1 in after[0] and (-1 in before[0]) != (-1 in before[1])  # the batch went behind the channels
        if _same(*before) or (_same(*after) and not parted):
            return labels.reshape([size if i == place else 1 for i in range(len(new))])
    return None


def _same(one: List[int], other: List[int]) -> bool:
    """Whether two lists of axes hold equally many elements for sure."""
    return [n for n in one if n != 1] == [n for n in other if n != 1] and one.count(-1) <= 1


def _view_axes(view: View, old: Sequence[int], new: Sequence[int]) -> Optional[Tuple[Optional[int], ...]]:
    """A parameter's view when only axes of length 1 are added or taken away."""
    kept = [axis for axis, size in zip(view.axes, old) if size != 1]
    if [n for n in old if n != 1] != [n for n in new if n != 1]:
        return None
    found = iter(kept)
    return tuple(None if size == 1 else next(found) for size in new)


def _reshape(flow: Flow, op: GraphOp) -> None:
    source, result = source_of(op), op.output_var("Out")
    if source is None or result is None:
        return
    view = flow.view(source)
    if view is not None:
        axes = _view_axes(view, source.shape, result.shape)
        if axes is not None and not (flow.shapes_stay and _names_sizes(op, axes)):
            flow.set_view(result, View(view.parameter, axes))
        return
    labels = flow.channels(source)
    if labels is None:
        return
    new = reshaped(labels, flow.shape(source), list(result.shape))
    if new is None:
        flow.labels.fix(labels, f"{an(op.type)} op mixes them with axes of unknown size")
        return
    if op.type.startswith("reshape") and (flow.shapes_stay or _by_constant(op, new)):
        new = _as_written(flow, op, new)
    flow.set(result, new)


def _names_sizes(op: GraphOp, axes: Sequence[Optional[int]]) -> bool:
    """Whether a reshape has the length of one of these axes of a parameter as a constant in it."""
    shape = list(op.attr("shape", []) or []) if op.type.startswith("reshape") else []
    return any(axis is not None and size > 0 for axis, size in zip(axes, shape))


def _shape_tensors(op: GraphOp) -> List[GraphVar]:
    """The tensors that name the sizes of a result, one an axis; [] when there are none."""
    return [v for name in op.input_names("ShapeTensor") for v in op.inputs if v.name == name]


def _by_constant(op: GraphOp, labels: np.ndarray) -> bool:
    """Whether the number of channels comes from a tensor with a constant in it that cannot be rewritten."""
    if op.input_names("Shape"):
        return True
    inputs = _shape_tensors(op)
    if not inputs:
        return False
    return any(_constant(inputs[axis]) and _own_constant(inputs[axis]) is None for axis in tracked(labels))


def _own_constant(var: GraphVar) -> Optional[GraphOp]:
    """The ``fill_constant`` op of a tensor that nothing else reads."""
    op = var.producer
    single = op is not None and op.type == "fill_constant" and len(var.consumers) == 1 and not op.inputs
    return op if single else None


def _constant(var: GraphVar) -> bool:
    """Whether a number is a constant above zero; 0 and -1 stand for sizes that follow from others."""
    seen: Optional[GraphVar] = var
    while seen is not None and seen.producer is not None:
        op = seen.producer
        if op.type == "fill_constant":
            return float(op.attr("value", 0.0)) > 0
        if op.type not in ("cast", "assign", "scale"):
            return op.type == "assign_value"
        seen = source_of(op)
    return True


def _as_written(flow: Flow, op: GraphOp, new: np.ndarray) -> Optional[np.ndarray]:
    """A shape that is not rewritten: every number in it that counts channels holds its axis."""
    shape, tensors = list(op.attr("shape", []) or []), _shape_tensors(op)
    kept: Optional[np.ndarray] = new
    for axis in tracked(new):
        if op.input_names("Shape") or (_constant(tensors[axis]) if tensors else axis < len(shape) and shape[axis] > 0):
            kept = flow.hold(kept, axis, "their number is written as a constant in a reshape")
    return kept


def _resize_shape(sizes: Any, op: GraphOp) -> None:
    """``shape`` of reshape2 and expand_v2 names the sizes of the result."""
    result = op.output_var("Out")
    if result is None or not sizes.changed(result):
        return
    old, new = sizes.old_shape(result), sizes.new_shape(result)
    for name in ("shape", "target_shape"):
        shape = list(op.attr(name, []) or [])
        if len(shape) == len(new):
            sizes.set_attr(op, name, [n if s > 0 and o != n else s for s, o, n in zip(shape, old, new)])
    for var, before, after in zip(_shape_tensors(op), old, new):
        constant = _own_constant(var)
        if before != after and constant is not None and float(constant.attr("value", 0.0)) > 0:
            sizes.set_attr(constant, "value", float(after))
            if constant.attr("str_value", ""):
                sizes.set_attr(constant, "str_value", str(after))


def _transpose(flow: Flow, op: GraphOp) -> None:
    source, result = source_of(op), op.output_var("Out")
    order = [int(a) for a in op.attr("axis", [])]
    view = flow.view(source)
    if view is not None:
        flow.set_view(result, View(view.parameter, tuple(view.axes[a] for a in order)))
        return
    labels = flow.channels(source)
    if labels is not None:
        flow.set(result, np.transpose(labels, order))


def _expand(flow: Flow, op: GraphOp) -> None:
    source, result = source_of(op), op.output_var("Out")
    labels = flow.channels(source)
    if source is None or result is None:
        return
    view = flow.view(source)
    if view is not None:  # a stored token for each image of the batch
        axes = tuple(None if size == 1 else axis for axis, size in zip(view.axes, source.shape))
        flow.set_view(result, View(view.parameter, (None,) * (flow.rank(result) - len(axes)) + axes))
    if labels is None:
        return
    flow.fix_inputs(op, f"{an(op.type)} op reads them as a setting", but=[source])
    new: Optional[np.ndarray] = labels.reshape((1,) * (flow.rank(result) - labels.ndim) + labels.shape)
    if new is not None and (flow.shapes_stay or any(op.input_names(s) for s in ("Shape", "expand_shapes_tensor"))):
        new = _as_written_expand(flow, op, new)
    flow.set(result, new)


def _expand_as(flow: Flow, op: GraphOp) -> None:
    """``expand_as``: the result is as long as the other tensor, so that channels of both go together."""
    source, other, result = source_of(op), op.input_var("Y"), op.output_var("Out")
    if source is None or other is None or result is None:
        _expand(flow, op)
        return
    rank, before = flow.rank(result), flow.rank(result) - flow.rank(source)
    labels = flow.channels(source)
    if labels is not None:
        labels = labels.reshape((1,) * before + labels.shape)
    if rank != flow.rank(other):
        flow.fix_inputs(op, "an expand_as_v2 op to another rank reads them")
        return
    shapes = [[1] * before + flow.shape(source), flow.shape(other)]
    flow.set(result, join(flow, [labels, flow.channels(other)], shapes, op.type))


def _as_written_expand(flow: Flow, op: GraphOp, new: np.ndarray) -> Optional[np.ndarray]:
    shape = list(op.attr("shape", []) or [])
    kept: Optional[np.ndarray] = new
    for axis in tracked(new):
        if axis >= len(shape) or shape[axis] != -1:
            kept = flow.hold(kept, axis, f"their number is written as a constant in an {op.type} op")
    return kept


def _tile(flow: Flow, op: GraphOp) -> None:
    source, result = source_of(op), op.output_var("Out")
    labels = flow.channels(source)
    if result is None or labels is None:
        return
    if op.input_names("RepeatTimes") or op.input_names("repeat_times_tensor"):
        flow.fix(source, "a tile op takes its counts from a tensor")
        return
    rank = flow.rank(result)
    times = list(op.attr("repeat_times", []))
    times = [1] * (rank - len(times)) + times
    wide = labels.reshape((1,) * (rank - labels.ndim) + labels.shape)
    along = tracked(wide)
    counts = [int(times[axis]) if axis in along else 1 for axis in range(rank)]
    flow.set(result, np.tile(wide, counts))


RESHAPE = Rule(_reshape, _resize_shape)

_RESHAPE = (
    *("reshape2", "reshape", "flatten_contiguous_range", "flatten2", "squeeze2", "unsqueeze2", "squeeze", "unsqueeze"),
)

RULES = {
    **dict.fromkeys(_RESHAPE, RESHAPE),
    "transpose2": Rule(_transpose),
    "transpose": Rule(_transpose),
    "expand_v2": Rule(_expand, _resize_shape),
    "expand_as_v2": Rule(_expand_as, _resize_shape),
    "tile": Rule(_tile),
}
