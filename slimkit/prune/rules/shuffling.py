"""Ops that reorder channels, or turn them into pixels and back."""

from __future__ import annotations

from typing import Optional

import numpy as np

from slimkit.ir.graph_nodes import GraphOp
from slimkit.prune.flow import Flow
from slimkit.prune.rules.channelwise import source_of
from slimkit.prune.rules.rule import Rule, channel_axis

__all__ = ["RULES"]


def _give(flow: Flow, op: GraphOp, labels: Optional[np.ndarray], axis: int) -> None:
    """Gives the op's result labels along one axis."""
    result = op.output_var("Out") or op.output_var("Y")
    if labels is not None and result is not None:
        flow.set(result, labels.reshape([-1 if i == axis else 1 for i in range(flow.rank(result))]))


def _shuffle(flow: Flow, op: GraphOp) -> None:
    """``channel_shuffle``: channels read as (g, c) and written as (c, g)."""
    source = source_of(op)
    axis = 1 if source is None else channel_axis(op, flow.rank(source))
    along = flow.along(source, axis, "a channel shuffle reorders them")
    if along is not None:
        table = along.reshape(int(op.attr("groups", op.attr("group", 1))), -1)
        flow.labels.unite_along(table, 0)
        _give(flow, op, table.T.ravel(), axis)


def _pixel_shuffle(flow: Flow, op: GraphOp) -> None:
    """``pixel_shuffle``: the r * r channels that make one go together."""
    source = source_of(op)
    axis = 1 if source is None else channel_axis(op, flow.rank(source))
    along = flow.along(source, axis, "a pixel shuffle turns them into pixels")
    if along is not None:
        table = along.reshape(-1, int(op.attr("upscale_factor", 1)) ** 2)
        _give(flow, op, flow.labels.unite_along(table, 1).ravel(), axis)


def _pixel_unshuffle(flow: Flow, op: GraphOp) -> None:
    """``pixel_unshuffle``: one channel makes r * r that go together."""
    source = source_of(op)
    axis = 1 if source is None else channel_axis(op, flow.rank(source))
    along = flow.along(source, axis, "a pixel unshuffle makes channels of their pixels")
    if along is not None:
        _give(flow, op, np.repeat(along, int(op.attr("downscale_factor", 1)) ** 2), axis)


def _unfold(flow: Flow, op: GraphOp) -> None:
    """``unfold`` (im2col): [N, C, H, W] to [N, C * kh * kw, L]."""
    along = flow.along(source_of(op), 1, "an unfold op makes columns of them")
    if along is not None:
        _give(flow, op, np.repeat(along, int(np.prod(op.attr("kernel_sizes")))), 1)


def _fold(flow: Flow, op: GraphOp) -> None:
    """``fold`` (col2im): [N, C * kh * kw, L] to [N, C, H, W]."""
    along = flow.along(source_of(op), 1, "a fold op makes images of them")
    if along is not None:
        table = along.reshape(-1, int(np.prod(op.attr("kernel_sizes"))))
        _give(flow, op, flow.labels.unite_along(table, 1).ravel(), 1)


def _maxout(flow: Flow, op: GraphOp) -> None:
    """``maxout``: the largest of every g channels in a row."""
    source = source_of(op)
    if source is None:
        return
    axis = int(op.attr("axis", 1)) % flow.rank(source)
    along = flow.along(source, axis, "a maxout op compares them")
    if along is not None:
        table = along.reshape(-1, int(op.attr("groups", 1)))
        _give(flow, op, flow.labels.unite_along(table, 1).ravel(), axis)


RULES = {
    "channel_shuffle": Rule(_shuffle),
    "shuffle_channel": Rule(_shuffle),
    "pixel_shuffle": Rule(_pixel_shuffle),
    "pixel_unshuffle": Rule(_pixel_unshuffle),
    "unfold": Rule(_unfold),
    "fold": Rule(_fold),
    "maxout": Rule(_maxout),
}
