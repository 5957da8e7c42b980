"""Activations and other functions of one tensor, element by element."""

from __future__ import annotations

from slimkit.ir.translate.rows import Fold, Row, unary

__all__ = ["ROWS"]

# Names and attributes are the same in PIR and in the legacy program.
_SAME = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "bitwise_not", "ceil", "celu", "cos", "cosh",
    "digamma", "elu", "erf", "erfinv", "exp", "expm1", "floor", "gelu", "lgamma", "log", "log10", "log1p",
    "log2", "log_softmax", "logical_not", "logit", "logsigmoid", "maxout", "reciprocal", "relu", "round",
    "rsqrt", "selu", "sigmoid", "sign", "silu", "sin", "sinh", "softmax", "softplus", "softsign", "sqrt",
    "square", "stanh", "tan", "tanh", "tanh_shrink", "thresholded_relu",
)  # fmt: skip

ROWS = (
    *(unary(name) for name in _SAME),
    unary("relu6", constants={"threshold": 6.0}),
    unary("swish", constants={"beta": 1.0}),
    unary("hardswish", "hard_swish", constants={"threshold": 6.0, "scale": 6.0, "offset": 3.0}),
    unary("hardsigmoid", "hard_sigmoid"),
    unary("hardshrink", "hard_shrink"),
    unary("hardtanh", "brelu"),
    unary("leaky_relu", attrs={"negative_slope": "alpha"}),
    unary("mish", attrs={"lambda": "threshold"}),
    unary("softshrink", attrs={"threshold": "lambda"}),
    unary("isfinite", "isfinite_v2"),
    unary("isinf", "isinf_v2"),
    unary("isnan", "isnan_v2"),
    Row("trunc", "trunc", inputs={"input": "X"}, outputs={"out": "Out"}),
    Row("prelu", "prelu", inputs={"x": "X", "alpha": "Alpha"}, outputs={"out": "Out"}),
    unary("pow", attrs={"y": "factor"}),
    unary("scale", folds={"scale": Fold("scale", tensor="ScaleTensor", scalar=True)}),
    unary(
        "clip",
        folds={
            "min": Fold("min", tensor="Min", scalar=True, default=-3.4e38),
            "max": Fold("max", tensor="Max", scalar=True, default=3.4e38),
        },
    ),
)
