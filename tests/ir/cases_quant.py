"""Cases of the rows in ``tables/quantization.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
from casebook import case, fl
from paddle import _C_ops

SCALE = np.array([1.5], "float32")


def moving_average(x: Any, scale: Any) -> Any:
    return _C_ops.fake_quantize_dequantize_moving_average_abs_max(x, scale, None, None, 0.9, 8, True, 1)[0]


case("fake_quantize_dequantize_moving_average_abs_max", moving_average, fl(2, 3, 4), SCALE, grad=True)
case(
    "fake_quantize_dequantize_abs_max", lambda x: _C_ops.fake_quantize_dequantize_abs_max(x, 4, 1)[0], fl(2, 3, 4),
    grad=True,
)  # fmt: skip
for axis in (0, 1):
    case(
        "fake_channel_wise_quantize_dequantize_abs_max",
        lambda x, axis=axis: _C_ops.fake_channel_wise_quantize_dequantize_abs_max(x, 8, 1, axis)[0],
        fl(3, 4, 2, 2),
        grad=True,
    )
