"""Ops that pick elements, in another order or by number, along axes that are no channels."""

from __future__ import annotations

from typing import List, Optional

import numpy as np

from slimkit.ir.graph_nodes import GraphOp
from slimkit.prune.flow import Flow, tracked
from slimkit.prune.rules.channelwise import source_of
from slimkit.prune.rules.rule import Rule
from slimkit.prune.wording import an

__all__ = ["RULES"]


def _axes(op: GraphOp, rank: int, name: str = "axis") -> List[int]:
    values = op.attr(name, None)
    values = [values] if isinstance(values, int) else list(values or [])
    return [int(a) % rank for a in values]


def _gather(flow: Flow, op: GraphOp) -> None:
    """``gather`` and ``index_select``: along one axis, by a tensor of numbers."""
    source, index, result = source_of(op), op.input_var("Index"), op.output_var("Out")
    flow.fix_inputs(op, f"{an(op.type)} op reads them as numbers of elements", but=[source])
    labels = flow.channels(source)
    if labels is None or index is None or result is None:
        return
    if op.input_names("Axis"):
        flow.fix(source, f"{an(op.type)} op takes its axis from a tensor")
        return
    axis = (_axes(op, labels.ndim, "dim" if op.type == "index_select" else "axis") or [0])[0]
    held = flow.hold(labels, axis, f"{an(op.type)} op picks some of them by number")
    if held is not None:
        ones = flow.rank(result) - held.ndim + 1
        flow.set(result, held.reshape(held.shape[:axis] + (1,) * ones + held.shape[axis + 1 :]))


def _gather_nd(flow: Flow, op: GraphOp) -> None:
    source, index, result = source_of(op), op.input_var("Index"), op.output_var("Out")
    flow.fix_inputs(op, "a gather_nd op reads them as numbers of elements", but=[source])
    held: Optional[np.ndarray] = flow.channels(source)
    if held is None or index is None or result is None:
        return
    depth = int(index.shape[-1])
    for axis in range(depth):
        held = flow.hold(held, axis, "a gather_nd op picks some of them by number")
    if held is not None:
        flow.set(result, held.reshape((1,) * (flow.rank(index) - 1) + held.shape[depth:]))


def _flip(flow: Flow, op: GraphOp) -> None:
    labels = flow.channels(source_of(op))
    if labels is not None:
        flow.set(op.output_var("Out"), np.flip(labels, tuple(_axes(op, labels.ndim))))


def _roll(flow: Flow, op: GraphOp) -> None:
    held: Optional[np.ndarray] = flow.channels(source_of(op))
    if held is None:
        return
    for axis in _axes(op, held.ndim) or tracked(held):
        held = flow.hold(held, axis, "a roll op moves them by a fixed number")
    flow.set(op.output_var("Out"), held)


def _sampled(flow: Flow, op: GraphOp) -> None:
    """``grid_sampler`` and ``roi_align``: images at computed places; channels pass."""
    source, result = source_of(op), op.output_var("Output") or op.output_var("Out")
    flow.fix_inputs(op, f"{an(op.type)} op reads them as places in an image", but=[source])
    along = flow.along(source, 1, f"{an(op.type)} op samples images of them")
    if along is not None and result is not None:
        flow.set(result, along.reshape([-1 if i == 1 else 1 for i in range(flow.rank(result))]))


RULES = {
    "gather": Rule(_gather),
    "index_select": Rule(_gather),
    "gather_nd": Rule(_gather_nd),
    "flip": Rule(_flip),
    "roll": Rule(_roll),
    "grid_sampler": Rule(_sampled),
    "roi_align": Rule(_sampled),
    "roi_pool": Rule(_sampled),
}
