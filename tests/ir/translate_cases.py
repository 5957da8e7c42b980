"""One small function per row of the translator's table, with inputs for it.

``CASES[full PIR name]`` is a list of :class:`Case`; a row without one fails ``test_translate.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import paddle
from paddle import _C_ops, nn
from paddle.nn import functional as F

# Functions that look at a dynamic shape: Paddle's tracer rewrites the code of functions, not of lambdas.


def _resize_like(x: Any, y: Any) -> Any:
    return F.interpolate(x, size=y.shape[2:])


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


def _range_dynamic(x: Any) -> Any:
    return paddle.arange(x.shape[0])


RANDOM = np.random.RandomState(7)


@dataclass
class Case:
    """``make()`` gives the function or layer to trace; ``inputs`` are its arguments.

    ``shapes`` replaces the input specs' shapes (for dynamic dimensions); ``values`` off compares shapes and dtypes
    only (random ops); ``grad`` compares the gradient of the first input too; ``expect`` computes the result where
    the op cannot be called in dynamic mode.
    """

    make: Callable[[], Any]
    inputs: Sequence[np.ndarray]
    shapes: Optional[Sequence[Sequence[int]]] = None
    values: bool = True
    grad: bool = False
    train: bool = False
    expect: Optional[Callable] = None


def fl(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return RANDOM.uniform(low, high, shape).astype("float32")


def ints(*shape: int, high: int = 5, dtype: str = "int64") -> np.ndarray:
    return RANDOM.randint(0, high, shape).astype(dtype)


CASES: Dict[str, List[Case]] = {}


def case(name: str, function: Callable, *inputs: np.ndarray, **more: Any) -> None:
    full = name if "." in name else f"pd_op.{name}"
    CASES.setdefault(full, []).append(Case(lambda: function, inputs, **more))


def layer(name: str, make: Callable[[], Any], *inputs: np.ndarray, **more: Any) -> None:
    full = name if "." in name else f"pd_op.{name}"
    CASES.setdefault(full, []).append(Case(make, inputs, **more))


# -- activations -----------------------------------------------------------------------------------------------

for _name in ("abs", "asinh", "atan", "ceil", "cos", "cosh", "erf", "exp", "expm1", "floor", "round", "sigmoid",
              "sign", "sin", "sinh", "square", "tan", "tanh", "stanh"):  # fmt: skip
    case(_name, getattr(paddle, _name, None) or getattr(F, _name), fl(2, 3), grad=True)
for _name in ("digamma", "lgamma", "log", "log10", "log1p", "log2", "reciprocal", "rsqrt", "sqrt"):
    case(_name, getattr(paddle, _name), fl(2, 3, low=0.5), grad=True)
for _name in ("acos", "asin", "atanh", "erfinv"):
    case(_name, getattr(paddle, _name), fl(2, 3, low=-0.8, high=0.8), grad=True)
case("acosh", paddle.acosh, fl(2, 3, low=1.5, high=3.0), grad=True)
case("logit", lambda x: paddle.logit(x, 1e-3), fl(2, 3, low=0.1, high=0.9), grad=True)
case("logical_not", paddle.logical_not, ints(2, 3, high=2, dtype="bool"))
case("bitwise_not", paddle.bitwise_not, ints(2, 3))
for _name in ("celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish",
              "relu", "relu6", "selu", "silu", "softplus", "softshrink", "softsign", "swish",
              "thresholded_relu"):  # fmt: skip
    case(_name, getattr(F, _name), fl(2, 3, low=-8, high=8), grad=True)
case("relu6", lambda x: F.relu6(x), fl(2, 3, low=-8, high=12))
case("leaky_relu", lambda x: F.leaky_relu(x, 0.3), fl(2, 3))
case("elu", lambda x: F.elu(x, 0.7), fl(2, 3))
case("hardtanh", lambda x: F.hardtanh(x, -0.3, 0.6), fl(2, 3))
case("softplus", lambda x: F.softplus(x, 2.0, 1.0), fl(2, 3))
case("mish", F.mish, fl(2, 3, low=15, high=30))
case("gelu", lambda x: F.gelu(x, approximate=True), fl(2, 3), grad=True)
case("hardsigmoid", lambda x: F.hardsigmoid(x, 0.2, 0.4), fl(2, 3))
case("softshrink", lambda x: F.softshrink(x, 0.2), fl(2, 3))
case("tanh_shrink", F.tanhshrink, fl(2, 3), grad=True)
case("logsigmoid", F.log_sigmoid, fl(2, 3), grad=True)
case("softmax", lambda x: F.softmax(x, axis=1), fl(2, 3, 4), grad=True)
case("log_softmax", lambda x: F.log_softmax(x, axis=1), fl(2, 3, 4), grad=True)
case("maxout", lambda x: F.maxout(x, 2, axis=1), fl(2, 4, 3, 3), grad=True)
case("isfinite", paddle.isfinite, np.array([1, np.inf, np.nan], "float32"))
case("isinf", paddle.isinf, np.array([1, np.inf, np.nan], "float32"))
case("isnan", paddle.isnan, np.array([1, np.inf, np.nan], "float32"))
case("trunc", paddle.trunc, fl(2, 3))
layer("prelu", lambda: nn.PReLU(4, init=0.2), fl(2, 4, 3, 3), grad=True)
case("pow", lambda x: paddle.pow(x, 3.0), fl(2, 3), grad=True)
case("scale", lambda x: paddle.scale(x, 2.5, 0.5, bias_after_scale=False), fl(2, 3), grad=True)
case("scale", lambda x, s: paddle.scale(x, s), fl(2, 3), fl(1))
case("clip", lambda x: paddle.clip(x, -0.5, 0.7), fl(2, 3), grad=True)
case("clip", lambda x, low, high: paddle.clip(x, low, high), fl(2, 3), fl(1, high=-1), fl(1, low=1))

# -- elementwise -----------------------------------------------------------------------------------------------

for _name in ("add", "subtract", "multiply", "maximum", "minimum"):
    case(_name, getattr(paddle, _name), fl(2, 3, 4), fl(3, 1), grad=True)
case("divide", paddle.divide, fl(2, 3), fl(2, 3, low=0.5), grad=True)
case("elementwise_pow", paddle.pow, fl(2, 3, low=0.5), fl(2, 3), grad=True)
case("remainder", paddle.remainder, ints(2, 3, high=20), ints(2, 3, high=4) + 1)
case("floor_divide", paddle.floor_divide, ints(2, 3, high=20), ints(2, 3, high=4) + 1)
for _name in ("equal", "greater_equal", "greater_than", "less_equal", "less_than", "not_equal"):
    case(_name, getattr(paddle, _name), ints(4, 5, high=3), ints(4, 5, high=3))
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    case(_name, getattr(paddle, _name), ints(2, 3), ints(2, 3))
for _name in ("logical_and", "logical_or", "logical_xor"):
    case(_name, getattr(paddle, _name), ints(4, 3, high=2, dtype="bool"), ints(4, 3, high=2, dtype="bool"))
case("bmm", paddle.bmm, fl(2, 3, 4), fl(2, 4, 5), grad=True)
case("dot", paddle.dot, fl(4), fl(4), grad=True)
case("kron", paddle.kron, fl(2, 3), fl(3, 2))
case("cross", lambda x, y: paddle.cross(x, y, axis=1), fl(2, 3), fl(2, 3))
case("matmul", lambda x, y: paddle.matmul(x, y, transpose_y=True), fl(2, 3, 4), fl(5, 4), grad=True)
case("matmul", lambda x, y: paddle.matmul(x, y, transpose_x=True), fl(2, 4, 3), fl(2, 4, 5))
case("matmul_with_flatten", lambda x, y: _C_ops.matmul_with_flatten(x, y, 2, 1), fl(2, 3, 4), fl(4, 5),
     expect=paddle.matmul)  # fmt: skip
case("atan2", paddle.atan2, fl(2, 3), fl(2, 3))
case("mv", paddle.mv, fl(2, 3), fl(3))
case("addmm", lambda i, x, y: paddle.addmm(i, x, y, beta=0.5, alpha=2.0), fl(2, 4), fl(2, 3), fl(3, 4), grad=True)
case("add_n", lambda x, y: paddle.add_n([x, y, x]), fl(2, 3), fl(2, 3), grad=True)
case("where", lambda c, x, y: paddle.where(c, x, y), ints(2, 3, high=2, dtype="bool"), fl(2, 3), fl(2, 3))
case("einsum", lambda x, y: paddle.einsum("bij,bjk->bik", x, y), fl(2, 3, 4), fl(2, 4, 5))

# -- convolutions and geometry ---------------------------------------------------------------------------------

layer("conv2d", lambda: nn.Conv2D(4, 6, 3, stride=2, padding=1, groups=2), fl(2, 4, 7, 7), grad=True)
layer("conv2d", lambda: nn.Conv2D(4, 6, 3, padding="SAME", dilation=2), fl(2, 4, 7, 7))
layer("conv2d", lambda: nn.Conv2D(4, 6, 3, padding=[1, 2]), fl(2, 4, 7, 7))
layer("depthwise_conv2d", lambda: nn.Conv2D(4, 8, 3, padding=1, groups=4), fl(2, 4, 7, 7), grad=True)
layer("conv2d_transpose", lambda: nn.Conv2DTranspose(4, 6, 3, stride=2, padding=1), fl(2, 4, 5, 5), grad=True)
case("conv2d_transpose",
     lambda x, w: F.conv2d_transpose(x, w, stride=2, output_size=[12, 12]), fl(2, 4, 5, 5), fl(4, 6, 4, 4))  # fmt: skip
layer("depthwise_conv2d_transpose", lambda: nn.Conv2DTranspose(4, 4, 3, stride=2, groups=4), fl(2, 4, 5, 5))
layer("conv3d", lambda: nn.Conv3D(2, 3, 3, padding=1), fl(1, 2, 4, 4, 4), grad=True)
layer("conv3d_transpose", lambda: nn.Conv3DTranspose(2, 3, 3), fl(1, 2, 3, 3, 3))


class Deformable(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv = paddle.vision.ops.DeformConv2D(2, 3, 3, padding=1)

    def forward(self, x: Any, offset: Any, mask: Any) -> Any:
        return self.conv(x, offset, mask)


layer("deformable_conv", Deformable, fl(1, 2, 5, 5), fl(1, 18, 5, 5), fl(1, 9, 5, 5, low=0))
case("pool2d", lambda x: F.avg_pool2d(x, 3, stride=2, padding=1, exclusive=False), fl(2, 3, 8, 8), grad=True)
case("pool2d", lambda x: F.max_pool2d(x, 2, ceil_mode=True), fl(2, 3, 7, 7), grad=True)
case("pool2d", lambda x: F.adaptive_avg_pool2d(x, [2, 3]), fl(2, 3, 7, 7), grad=True)
case("pool3d", lambda x: F.avg_pool3d(x, 2), fl(1, 2, 4, 4, 4), grad=True)
case("max_pool2d_with_index", lambda x: F.max_pool2d(x, 2, return_mask=True), fl(1, 2, 4, 4))
case("nearest_interp", lambda x: F.interpolate(x, scale_factor=2), fl(1, 2, 4, 5), grad=True)
case("nearest_interp", lambda x: F.interpolate(x, size=[7, 9]), fl(1, 2, 4, 5))
case("nearest_interp", _resize_like, fl(1, 2, 4, 5), fl(1, 2, 8, 6),
     shapes=[[-1, 2, -1, -1], [-1, 2, -1, -1]])  # fmt: skip
case("bilinear_interp", lambda x: F.interpolate(x, size=[7, 9], mode="bilinear", align_corners=True), fl(1, 2, 4, 5))
case("bilinear_interp", lambda x, y: F.interpolate(x, size=y, mode="bilinear"), fl(1, 2, 4, 5),
     np.array([6, 8], "int64"))  # fmt: skip
case("bilinear_interp", lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"), fl(1, 2, 4, 6), grad=True)
case("bicubic_interp", lambda x: F.interpolate(x, size=[7, 9], mode="bicubic"), fl(1, 2, 4, 5))
case("linear_interp", lambda x: F.interpolate(x, size=[7], mode="linear", data_format="NCW"), fl(1, 2, 4))
case("trilinear_interp",
     lambda x: F.interpolate(x, size=[3, 4, 5], mode="trilinear", data_format="NCDHW"), fl(1, 2, 2, 3, 4))  # fmt: skip
case("pad", lambda x: F.pad(x, [1, 0, 0, 2, 1, 1], value=0.5), fl(2, 3, 4), grad=True)
case("pad3d", lambda x: F.pad(x, [1, 2, 0, 1], mode="reflect"), fl(1, 2, 4, 4), grad=True)
case("pad3d", lambda x: F.pad(x, [1, 2, 0, 1], value=0.3), fl(1, 2, 4, 4))
case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), fl(1, 8, 3, 3), grad=True)
case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), fl(1, 2, 4, 4))
case("channel_shuffle", lambda x: F.channel_shuffle(x, 2), fl(1, 4, 3, 3))
case("shuffle_channel", lambda x: _C_ops.shuffle_channel(x, 2), fl(1, 4, 3, 3))
case("temporal_shift", lambda x: F.temporal_shift(x, 2, 0.25), fl(4, 4, 3, 3))
case("unfold", lambda x: F.unfold(x, [2, 2], 1, 0, 1), fl(1, 2, 4, 4), grad=True)
case("affine_grid", lambda x: F.affine_grid(x, [2, 3, 4, 4], align_corners=False), fl(2, 2, 3))
case("grid_sample", lambda x, g: F.grid_sample(x, g), fl(2, 3, 5, 5), fl(2, 4, 4, 2, low=-1, high=1), grad=True)

# -- normalisation ---------------------------------------------------------------------------------------------

layer("batch_norm", lambda: nn.BatchNorm2D(3), fl(4, 3, 5, 5), grad=True, train=True)
layer("batch_norm", lambda: nn.BatchNorm2D(3), fl(4, 3, 5, 5))
layer("batch_norm", lambda: nn.BatchNorm2D(3, data_format="NHWC"), fl(4, 5, 5, 3), grad=True, train=True)
layer("layer_norm", lambda: nn.LayerNorm(5), fl(2, 3, 5), grad=True)
layer("group_norm", lambda: nn.GroupNorm(2, 4), fl(2, 4, 3, 3), grad=True)
layer("instance_norm", lambda: nn.InstanceNorm2D(3), fl(2, 3, 4, 4), grad=True)
case("norm", lambda x: _C_ops.norm(x, 1, 1e-10, False), fl(2, 3))
layer("dropout", lambda: nn.Dropout(0.3), fl(4, 5))
layer("dropout", lambda: nn.Dropout(0.3), fl(40, 5), train=True, values=False)
layer("dropout", lambda: nn.Dropout(0.3, mode="downscale_in_infer"), fl(4, 5))

# -- reductions and searches -----------------------------------------------------------------------------------


def _over_axes(reduce: Callable) -> Callable:
    return lambda x: reduce(x, axis=[1, -1], keepdim=True)


for _name in ("mean", "sum", "max", "min", "prod", "amax", "amin", "logsumexp"):
    case(_name, _over_axes(getattr(paddle, _name)), fl(2, 3, 4), grad=True)
    case(_name, getattr(paddle, _name), fl(2, 3, 4), grad=True)
case("sum", lambda x: paddle.sum(x, axis=0, dtype="float64"), fl(2, 3))
case("all", lambda x: paddle.all(x, axis=1), ints(3, 4, high=2, dtype="bool"))
case("any", lambda x: paddle.any(x, axis=1, keepdim=True), ints(3, 4, high=2, dtype="bool"))
case("frobenius_norm", lambda x: _C_ops.frobenius_norm(x, [1], False, False), fl(2, 3))
case("mean_all", lambda x: _C_ops.mean_all(x), fl(2, 3), grad=True)
case("p_norm", lambda x: paddle.linalg.norm(x, p=2, axis=1), fl(2, 3), grad=True)
case("squared_l2_norm", lambda x: _C_ops.squared_l2_norm(x), fl(2, 3))
case("argmax", lambda x: paddle.argmax(x, axis=1, keepdim=True), fl(2, 5))
case("argmin", lambda x: paddle.argmin(x, dtype="int32"), fl(2, 5))
case("cumsum", lambda x: paddle.cumsum(x, axis=1), fl(2, 5), grad=True)
case("cumprod", lambda x: paddle.cumprod(x, dim=1), fl(2, 5), grad=True)
case("argsort", lambda x: paddle.argsort(x, axis=1, descending=True), fl(2, 5))
case("topk", lambda x: paddle.topk(x, 2, axis=1), fl(3, 5))
case("topk", lambda x, k: paddle.topk(x, k, axis=1), fl(3, 5), np.array([2], "int32"))
case("kthvalue", lambda x: paddle.kthvalue(x, 2), fl(3, 5))
case("mode", lambda x: paddle.mode(x)[0], fl(3, 5))
case("searchsorted", paddle.searchsorted, np.array([1, 3, 5], "float32"), fl(4, low=0, high=6))

# -- shapes ----------------------------------------------------------------------------------------------------

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

# -- indexing --------------------------------------------------------------------------------------------------

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

# -- creation --------------------------------------------------------------------------------------------------

case("full", lambda x: x + paddle.full([2, 3], 1.5), fl(2, 3))
case("full", lambda x: paddle.full([2], 2**40 + 1, "int64") + x, ints(2))
case("full_int_array", lambda x: _C_ops.full_int_array([3, 4], paddle.int64, paddle.CPUPlace()) + x, ints(2))
case("assign_value", lambda x: x + paddle.to_tensor(np.array([[1.0, 2.0, 3.5]], "float32")), fl(2, 3))
case("full_with_tensor", lambda x, v: _C_ops.full_with_tensor(v, [2, 3], paddle.float32) + x, fl(2, 3), fl(1))
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

# -- losses ----------------------------------------------------------------------------------------------------

case("cross_entropy_with_softmax", lambda x, y: F.cross_entropy(x, y), fl(4, 5), ints(4, 1), grad=True)
case("cross_entropy_with_softmax", lambda x, y: F.cross_entropy(x, F.softmax(y), soft_label=True), fl(4, 5), fl(4, 5))
case("cross_entropy_with_softmax",
     lambda x, y: F.cross_entropy(x, y, weight=paddle.ones([5])), fl(4, 5), ints(4))  # fmt: skip
case("bce_loss", F.binary_cross_entropy, fl(3, 2, low=0.1, high=0.9), fl(3, 2, low=0, high=1), grad=True)
case("sigmoid_cross_entropy_with_logits", F.binary_cross_entropy_with_logits, fl(3, 2), fl(3, 2, low=0, high=1),
     grad=True)  # fmt: skip
case("nll_loss", lambda x, y: F.nll_loss(F.log_softmax(x), y), fl(4, 5), ints(4), grad=True)
case("kldiv_loss", lambda x, y: F.kl_div(x, y, reduction="batchmean"), fl(3, 2), fl(3, 2, low=0.1), grad=True)
case("huber_loss", lambda x, y: F.smooth_l1_loss(x, y, delta=0.5), fl(3, 2), fl(3, 2), grad=True)
case("log_loss", lambda x, y: F.log_loss(x, y), fl(3, 1, low=0.1, high=0.9), fl(3, 1, low=0, high=1))
case("label_smooth", lambda x: F.label_smooth(x, epsilon=0.2), fl(3, 4))
case("warpctc",
     lambda x, y, n, m: F.ctc_loss(x, y, n, m, blank=0), fl(6, 2, 5), (ints(2, 3, high=4) + 1).astype("int32"),
     np.array([6, 5], "int64"), np.array([3, 2], "int64"), grad=True)  # fmt: skip

# -- detection -------------------------------------------------------------------------------------------------

_BOXES = np.array([[0, 0, 4, 4], [1, 1, 5, 5], [6, 6, 9, 9]], "float32")
case("yolo_box",
     lambda x, s: paddle.vision.ops.yolo_box(x, s, [10, 13, 16, 30], 2, 0.01, 8), fl(1, 14, 4, 4),
     np.array([[32, 32]], "int32"))  # fmt: skip
case("prior_box", lambda x, y: paddle.vision.ops.prior_box(x, y, [4.0], [8.0], [1.0, 2.0]), fl(1, 2, 3, 3),
     fl(1, 3, 12, 12))  # fmt: skip
case("box_coder",
     lambda p, v, t: paddle.vision.ops.box_coder(p, v, t, "encode_center_size"), _BOXES,
     np.full((3, 4), 0.1, "float32"), _BOXES + 1)  # fmt: skip
case("multiclass_nms3",
     lambda b, s: _C_ops.multiclass_nms3(b, s, None, 0.05, 100, 10, 0.5, True, 1.0, -1), fl(1, 6, 4, low=0, high=9),
     fl(1, 2, 6, low=0, high=1))  # fmt: skip
case("matrix_nms", lambda b, s: paddle.vision.ops.matrix_nms(b, s, 0.05, 0.0, 100, 10, return_index=True), _BOXES[None],
     fl(1, 2, 3, low=0, high=1))  # fmt: skip
case("nms", lambda b: paddle.vision.ops.nms(b, 0.3), _BOXES)
case("roi_align", lambda x, b, n: paddle.vision.ops.roi_align(x, b, n, 2), fl(1, 2, 8, 8), _BOXES[:, :] / 2,
     np.array([3], "int32"))  # fmt: skip
case("generate_proposals",
     lambda s, d, i, a, v: paddle.vision.ops.generate_proposals(s, d, i, a, v, return_rois_num=True),
     fl(1, 2, 3, 3, low=0, high=1), fl(1, 8, 3, 3), np.array([[24, 24]], "float32"),
     np.abs(fl(3, 3, 2, 4)) * np.array([1, 1, 8, 8], "float32"), np.ones((3, 3, 2, 4), "float32"))  # fmt: skip
case("distribute_fpn_proposals",
     lambda b, n: paddle.vision.ops.distribute_fpn_proposals(b, 2, 3, 2, 4, rois_num=n), _BOXES,
     np.array([3], "int32"))  # fmt: skip

# -- recurrent, structure, control flow ------------------------------------------------------------------------

layer("rnn", lambda: nn.LSTM(4, 3, num_layers=2, direction="bidirect"), fl(2, 5, 4))
layer("rnn", lambda: nn.GRU(4, 3), fl(2, 5, 4))
layer("builtin.parameter", lambda: nn.Linear(3, 2), fl(2, 3), grad=True)
case("data", lambda x: x + 1, fl(2, 3))
case("builtin.combine", lambda x: paddle.concat([x, x]), fl(2, 3))
case("builtin.split", lambda x: paddle.split(x, 3, axis=1)[1], fl(2, 6))


def _branch(x: Any) -> Any:
    y = x * 1.0
    if x.mean() > 0:
        y = x * 2 + 1
    else:
        y = x - 3
    return y * x


def _loop(x: Any) -> Any:
    i = paddle.zeros([1], "int64")
    y = x * 0
    while i < 4:
        x, y = y + x, x
        i = i + 1
    return x, y


case("if", _branch, fl(2, 3, low=0.5))
case("if", _branch, fl(2, 3, high=-0.5), grad=True)
case("while", _loop, fl(2, 3))
case("cf.yield", _branch, fl(2, 3, high=-0.5))
