"""Ops that join tensors or take parts of them."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import numpy as np

from slimkit.ir.graph_nodes import GraphOp, GraphVar
from slimkit.prune.flow import Flow, tracked
from slimkit.prune.rules.channelwise import source_of
from slimkit.prune.rules.elementwise import join, with_parameter
from slimkit.prune.rules.rule import Rule
from slimkit.prune.wording import an

__all__ = ["RULES"]


def variables(op: GraphOp, slot: str, results: bool = False) -> List[GraphVar]:
    """The variables in a slot, in order."""
    names = op.output_names(slot) if results else op.input_names(slot)
    nodes = op.outputs if results else op.inputs
    return [next(v for v in nodes if v.name == name) for name in names]


def _concat(flow: Flow, op: GraphOp) -> None:
    parts, result = variables(op, "X"), op.output_var("Out")
    if result is None or not any(flow.channels(v) is not None for v in parts):
        return
    if op.input_var("AxisTensor") is not None:
        flow.fix_inputs(op, "a concat op takes its axis from a tensor")
        return
    rank = flow.rank(result)
    axis = int(op.attr("axis", 0)) % rank
    arrays = [flow.channels(v) for v in parts]
    if not any(a is not None and a.shape[axis] > 1 for a in arrays):  # joined along another axis
        stored = [v for v in parts if flow.view(v) is not None]
        computed = [v for v in parts if flow.view(v) is None]
        shapes = [flow.shape(v) for v in computed]
        for shape in shapes:
            shape[axis] = 1
        labels = join(flow, [flow.channels(v) for v in computed], shapes, op.type)
        for parameter in stored:
            labels = with_parameter(flow, op, parameter, labels, rank)
        flow.set(result, labels)
        return
    pieces = [_piece(flow, op, v, axis, rank) for v in parts]
    if any(piece is None for piece in pieces):
        flow.fix_inputs(op, "a concat op joins them with channels of unknown number")
        return
    flow.set(result, np.concatenate([p for p in pieces if p is not None], axis))


def _piece(flow: Flow, op: GraphOp, var: GraphVar, axis: int, rank: int) -> Optional[np.ndarray]:
    """Labels of one part along the joined axis; channels that stay get labels of their own."""
    labels = flow.channels(var)
    if labels is not None:
        along = flow.along(var, axis, f"{an(op.type)} op joins tensors along another axis")
        if along is not None:
            return along.reshape([-1 if i == axis else 1 for i in range(rank)])
    count = flow.shape(var)[axis]
    if count < 0:
        return None
    fresh = flow.labels.fresh(count)
    flow.labels.fix(fresh, f"'{var.name}' keeps its channels")
    return fresh.reshape([-1 if i == axis else 1 for i in range(rank)])


def _sections(flow: Flow, op: GraphOp, total: int) -> Optional[List[int]]:
    if op.input_names("AxisTensor") or op.input_names("SectionsTensorList"):
        return None
    number, sections = int(op.attr("num", 0) or 0), list(op.attr("sections", []) or [])
    if number > 0:
        return [total // number] * number
    if -1 in sections:
        sections[sections.index(-1)] = total - sum(s for s in sections if s >= 0)
    return sections


def _split(flow: Flow, op: GraphOp) -> None:
    source, results = source_of(op), variables(op, "Out", results=True)
    labels = flow.channels(source)
    if source is None or labels is None:
        return
    axis = int(op.attr("axis", 0)) % labels.ndim
    if labels.shape[axis] == 1:
        if op.input_names("AxisTensor"):
            flow.fix(source, "a split op takes its axis from a tensor")
            return
        for result in results:
            flow.set(result, labels)
        return
    sections = _sections(flow, op, labels.shape[axis])
    if sections is None or len(sections) != len(results):
        flow.fix(source, "a split op takes its sections from tensors")
        return
    pieces = np.split(labels, np.cumsum(sections)[:-1], axis)
    if not flow.editable:  # code that splits in equal parts goes on doing so
        if len(set(sections)) > 1 or (flow.shapes_stay and not int(op.attr("num", 0) or 0)):
            flow.labels.fix(labels, "the sizes of the parts that a split makes of them are written in the code")
        else:
            for piece in pieces[1:]:
                flow.labels.unite(pieces[0], piece)
    for result, piece in zip(results, pieces):
        flow.set(result, piece)


def _resize_split(sizes: Any, op: GraphOp) -> None:
    source, results = source_of(op), variables(op, "Out", results=True)
    if source is None or not sizes.changed(source):
        return
    axis = int(op.attr("axis", 0)) % len(sizes.new_shape(source))
    kept = [sizes.new_shape(v)[axis] for v in results]
    if len(set(kept)) == 1 and int(op.attr("num", 0) or 0) > 0:
        return
    sizes.set_attr(op, "num", 0)
    sizes.set_attr(op, "sections", kept)


def _bounds(op: GraphOp, place: int, length: int) -> Tuple[int, int]:
    """Start and end of a slice along one axis, counted from the front."""
    start, end = (int(op.attr(name)[place]) for name in ("starts", "ends"))
    start, end = (value + length if value < 0 else value for value in (start, end))
    return min(max(start, 0), length), min(max(end, 0), length)


_SLICE_TENSORS = ("StartsTensor", "EndsTensor", "StridesTensor")
_SLICE_LISTS = ("StartsTensorList", "EndsTensorList", "StridesTensorList")


def _slice(flow: Flow, op: GraphOp) -> None:
    source, result = source_of(op), op.output_var("Out")
    labels = flow.channels(source)
    if source is None or labels is None or result is None:
        return
    axes = [int(a) % labels.ndim for a in op.attr("axes", [])]
    dropped = [int(a) for a in op.attr("decrease_axis", []) or []]
    by_tensor = any(op.input_names(slot) for slot in (*_SLICE_TENSORS, *_SLICE_LISTS))
    strides = list(op.attr("strides", []) or [1] * len(axes))
    kept: Optional[np.ndarray] = labels
    for place, axis in enumerate(axes):
        if kept is None or kept.shape[axis] == 1:
            continue
        if axis in dropped or by_tensor or strides[place] != 1 or not flow.editable or len(tracked(kept)) > 1:
            kept = flow.hold(kept, axis, f"{an(op.type)} op takes a fixed part of them")
            continue
        start, end = _bounds(op, place, kept.shape[axis])
        kept = np.take(kept, np.arange(start, end), axis)
    if kept is not None and dropped:
        kept = kept.reshape([n for axis, n in enumerate(kept.shape) if axis not in dropped])
        if kept.ndim != flow.rank(result):  # all axes dropped: a result of shape [1]
            kept = None
    flow.set(result, kept)


def _resize_slice(sizes: Any, op: GraphOp) -> None:
    source = source_of(op)
    if source is None or not sizes.changed(source):
        return
    labels = sizes.labels(source)
    starts, ends = list(op.attr("starts", [])), list(op.attr("ends", []))
    for place, axis in enumerate(int(a) % labels.ndim for a in op.attr("axes", [])):
        if labels.shape[axis] == 1 or len(tracked(labels)) > 1:
            continue
        start, end = _bounds(op, place, labels.shape[axis])
        stays = sizes.stays(labels.ravel())
        starts[place], ends[place] = int(stays[:start].sum()), int(stays[:end].sum())
    sizes.set_attr(op, "starts", starts)
    sizes.set_attr(op, "ends", ends)


def _stack(flow: Flow, op: GraphOp) -> None:
    parts, result = variables(op, "X"), op.output_var("Y")
    if result is None:
        return
    joined = join(flow, [flow.channels(v) for v in parts], [flow.shape(v) for v in parts], op.type)
    if joined is not None:
        flow.set(result, np.expand_dims(joined, int(op.attr("axis", 0)) % flow.rank(result)))


def _unstack(flow: Flow, op: GraphOp) -> None:
    source, slot = source_of(op), "Y" if op.type == "unstack" else "Out"
    labels = flow.channels(source)
    if labels is None:
        return
    axis = int(op.attr("axis", 0)) % labels.ndim
    labels = flow.hold(labels, axis, f"{an(op.type)} op takes them apart")
    if labels is not None:
        for result in variables(op, slot, results=True):
            flow.set(result, np.squeeze(labels, axis))


RULES = {
    "concat": Rule(_concat),
    "split": Rule(_split, _resize_split),
    "slice": Rule(_slice, _resize_slice),
    "strided_slice": Rule(_slice, _resize_slice),
    "stack": Rule(_stack),
    "unstack": Rule(_unstack),
    "unbind": Rule(_unstack),
}
