"""Shapes, indices and the making of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from casebook import case, fl, ints, layer
from paddle import _C_ops, nn
from paddle.nn import functional as F

# Functions that look at a dynamic shape: Paddle's tracer rewrites the code of functions, not of lambdas.


def _reshape_dynamic(x: Any) -> Any:
    return x.reshape([x.shape[0], 3, x.shape[2] * 4])


def _tile_dynamic(x: Any) -> Any:
    return paddle.tile(x, [x.shape[0], 1, 1, 1])


def _expand_dynamic(x: Any, y: Any) -> Any:
    return paddle.expand(x, [y.shape[0], 3])


def _scale_by_batch(x: Any) -> Any:
    return x.mean() * x.shape[0]


def _slice_dynamic(x: Any, y: Any) -> Any:
    return x[:, : y.shape[1]]


def _zeros_of_batch(x: Any) -> Any:
    return paddle.full([4, x.shape[0], 5], 0.5)


def _range_dynamic(x: Any) -> Any:
    return paddle.arange(x.shape[0])


# -- shapes

_DYNAMIC = [[-1, 3, -1, 4]]
case("reshape", lambda x: x.reshape([0, -1]), fl(2, 3, 4), grad=True)
case("reshape", _reshape_dynamic, fl(2, 3, 5, 4), shapes=_DYNAMIC, grad=True)
case("reshape", lambda x, s: paddle.reshape(x, s), fl(2, 6), np.array([3, 4], "int64"))
case("flatten", lambda x: x.flatten(1, 2), fl(2, 3, 4), grad=True)
case("squeeze", lambda x: x.squeeze([1, 3]), fl(2, 1, 3, 1), grad=True)
case("unsqueeze", lambda x: x.unsqueeze([0, -1]), fl(2, 3), grad=True)
case("transpose", lambda x: x.transpose([2, 0, 1]), fl(2, 3, 4), grad=True)
case("cast", lambda x: x.astype("int32"), fl(2, 3))
case("cast", lambda x: x.astype("float64"), fl(2, 3), grad=True)
case("concat", lambda x, y: paddle.concat([x, y, x], axis=1), fl(2, 3), fl(2, 4), grad=True)
case("stack", lambda x, y: paddle.stack([x, y], axis=1), fl(2, 3), fl(2, 3), grad=True)
case("split", lambda x: paddle.split(x, [1, 2, -1], axis=1), fl(2, 6), grad=True)
case("split_with_num", lambda x: paddle.split(x, 3, axis=1), fl(2, 6), grad=True)
case("unbind", lambda x: paddle.unbind(x, axis=1), fl(2, 3), grad=True)
case("unstack", lambda x: paddle.unstack(x, axis=1), fl(2, 3))
case("meshgrid", lambda x, y: paddle.meshgrid(x, y), fl(3), fl(4))
case("tile", lambda x: paddle.tile(x, [2, 3]), fl(2, 3), grad=True)
case("tile", _tile_dynamic, fl(2, 3, 5, 4), shapes=_DYNAMIC)
case("expand", lambda x: paddle.expand(x, [4, 2, 3]), fl(2, 1), grad=True)
case("expand", _expand_dynamic, fl(1, 3), fl(2, 3), shapes=[[1, 3], [-1, 3]])
case("expand_as", lambda x, y: paddle.expand_as(x, y), fl(1, 3), fl(2, 3), grad=True)
case("flip", lambda x: paddle.flip(x, [0, 1]), fl(2, 3), grad=True)
case("roll", lambda x: paddle.roll(x, [1, -1], [0, 1]), fl(2, 3), grad=True)
case("tril", lambda x: paddle.tril(x, -1), fl(4, 4), grad=True)
case("triu", lambda x: paddle.triu(x, 1), fl(4, 4), grad=True)
case("shape", lambda x: _C_ops.shape(x), fl(2, 3))
case("shape64", lambda x: paddle.shape(x), fl(2, 3, 5, 4), shapes=_DYNAMIC)
case("shape64", _scale_by_batch, fl(2, 3, 5, 4), shapes=_DYNAMIC)
case("numel", lambda x: paddle.numel(x), fl(2, 3), shapes=[[-1, 3]])
case("slice", lambda x: x[:, 1:3], fl(2, 5), grad=True)
case("slice", lambda x: x[-1], fl(2, 5), grad=True)
case("slice", _slice_dynamic, fl(2, 5), fl(2, 3), shapes=[[-1, -1], [-1, -1]])
case("strided_slice", lambda x: x[:, ::2], fl(2, 5), grad=True)
case("crop", lambda x: paddle.crop(x, [1, 2], [1, 1]), fl(2, 5))

# -- indexing

case("gather", lambda x, i: paddle.gather(x, i, axis=1), fl(2, 5), ints(3), grad=True)
case("gather_nd", paddle.gather_nd, fl(3, 5), ints(4, 1, high=3), grad=True)
case("index_select", lambda x, i: paddle.index_select(x, i, axis=1), fl(2, 5), ints(3), grad=True)
case("index_sample", paddle.index_sample, fl(2, 5), ints(2, 3))
case("take_along_axis", lambda x, i: paddle.take_along_axis(x, i, 1), fl(2, 5), ints(2, 3))
case("put_along_axis", lambda x, i, v: paddle.put_along_axis(x, i, v, 1), fl(2, 5),
     np.array([[0, 3], [1, 2]], "int64"), fl(2, 2))  # fmt: skip
case("scatter", lambda x, i, u: paddle.scatter(x, i, u), fl(4, 3), np.array([2, 0], "int64"), fl(2, 3))
case("scatter_nd_add", paddle.scatter_nd_add, fl(4, 3), np.array([[2], [0]], "int64"), fl(2, 3))
case("masked_select", paddle.masked_select, fl(2, 3), np.array([[1, 0, 1], [0, 1, 1]], "bool"))
case("nonzero", lambda x: paddle.nonzero(x), ints(3, 4, high=2))


def _set_slice(x: Any) -> Any:
    y = x * 2
    y[:, 1:3] = 0.5
    return y + x


def _set_tensor(x: Any, v: Any) -> Any:
    y = x * 2
    y[:, 0] = v
    return y


case("set_value", _set_slice, fl(2, 5))
case("set_value_with_tensor", _set_tensor, fl(2, 5), fl(2))
layer("embedding", lambda: nn.Embedding(7, 4, padding_idx=0), ints(3, 2, high=7))
case("one_hot", lambda x: F.one_hot(x, 6), ints(3, 2, high=6))

# -- creation

case("full", lambda x: x + paddle.full([2, 3], 1.5), fl(2, 3))
case("full", lambda x: paddle.full([2], 2**40 + 1, "int64") + x, ints(2))
case("full_int_array", lambda x: _C_ops.full_int_array([3, 4], paddle.int64, paddle.CPUPlace()) + x, ints(2))
case("assign_value", lambda x: x + paddle.to_tensor(np.array([[1.0, 2.0, 3.5]], "float32")), fl(2, 3))
case("full_with_tensor", lambda x, v: _C_ops.full_with_tensor(v, [2, 3], paddle.float32) + x, fl(2, 3), fl(1))
case("full_with_tensor", _zeros_of_batch, fl(2, 3), shapes=[[-1, 3]])
case("full_like", lambda x: paddle.full_like(x, 3.0) + x, fl(2, 3))
case("full_batch_size_like",
     lambda x: _C_ops.full_batch_size_like(x, [5, 2], paddle.float32, 1.5, 0, 0, paddle.CPUPlace()), fl(3, 4),
     shapes=[[-1, 4]])  # fmt: skip
case("empty", lambda x: paddle.empty([2, 3]) * 0 + x, fl(2, 3), values=False)
case("arange", lambda x: paddle.arange(0, 10, 2, "float32") + x, fl(5))
case("arange", _range_dynamic, fl(5, 2), shapes=[[-1, 2]])
case("linspace", lambda x: paddle.linspace(0, 1, 5) + x, fl(5))
case("eye", lambda x: paddle.eye(3) + x, fl(3, 3))
case("assign", lambda x: paddle.assign(x) + 1, fl(2, 3), grad=True)
case("share_data", lambda x: x.detach() + 1, fl(2, 3))
case("increment", lambda x: paddle.increment(x + 0.0, 2.0), fl(1))
case("gaussian", lambda x: paddle.randn([200, 3]) + x, fl(200, 3), values=False)
case("uniform", lambda x: paddle.uniform([200, 3], min=0.5, max=1.0) + x, fl(200, 3), values=False)
case("randint", lambda x: paddle.randint(0, 9, [2, 3]) + x, ints(2, 3), values=False)
case("bernoulli", lambda x: paddle.bernoulli(x), fl(20, 3, low=0, high=1), values=False)


def _assign_out(x: Any) -> Any:
    y = x * 2
    z = y + 0.0
    paddle.assign(x, z)
    z[:, 0] = 0.0
    return z + y


case("assign_out_", _assign_out, fl(2, 3))

# -- less common

case("fmax", paddle.fmax, fl(2, 3), fl(3), grad=True)
case("fmin", paddle.fmin, fl(2, 3), fl(3), grad=True)
case("equal_all", paddle.equal_all, ints(3), ints(3))
case("lerp", lambda x, y: paddle.lerp(x, y, 0.3), fl(2, 3), fl(2, 3), grad=True)
layer("bilinear", lambda: nn.Bilinear(3, 4, 2), fl(5, 3), fl(5, 4))
case("inverse", paddle.inverse, fl(3, 3) + 4 * np.eye(3, dtype="float32"))
case("broadcast_tensors", lambda x, y: paddle.broadcast_tensors([x, y]), fl(2, 1), fl(1, 3))
case("repeat_interleave", lambda x: paddle.repeat_interleave(x, 3, axis=1), fl(2, 3), grad=True)
case("diag", lambda x: paddle.diag(x, offset=1), fl(3))
case("diag_embed", lambda x: paddle.diag_embed(x, offset=1), fl(2, 3))
case("diagonal", lambda x: paddle.diagonal(x, offset=1), fl(3, 4))
case("index_add", lambda x, i, v: paddle.index_add(x, i, 0, v), fl(4, 3), np.array([2, 0], "int64"), fl(2, 3))
case("index_put", lambda x, i, v: paddle.index_put(x, (i,), v), fl(4, 3), np.array([2, 0], "int64"), fl(2, 3))
case("multiplex", lambda x, y, i: paddle.multiplex([x, y], i), fl(3, 2), fl(3, 2), ints(3, 1, high=2, dtype="int32"))
case("fold", lambda x: F.fold(x, [4, 5], [2, 2]), fl(2, 12, 12))
layer("spectral_norm", lambda: nn.SpectralNorm([4, 3], dim=0, power_iters=2), fl(4, 3))
case("unique", lambda x: paddle.unique(x, return_index=True, return_inverse=True, return_counts=True), ints(9))
case("accuracy", lambda x, y: paddle.metric.accuracy(x, y, k=2), fl(4, 5, low=0), ints(4, 1))
