"""Functions of numbers: activations, arithmetic, reductions, searches."""

from __future__ import annotations

from typing import Callable

import numpy as np
import paddle
from casebook import case, fl, ints, layer
from paddle import _C_ops, nn
from paddle.nn import functional as F

# -- activations

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
case("isclose", lambda x: paddle.isclose(x, x * 1.001, 1e-2), np.array([1, np.inf, np.nan], "float32"))
case("solve", lambda x: paddle.linalg.solve(x, x + 1), np.array([[2, 1], [0, 3]], "float32"))
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

# -- elementwise

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

# -- reductions and searches


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
