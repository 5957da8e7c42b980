"""The arithmetic of quantization in pure numpy: testable without Paddle, imported by everything above."""

from slimkit.numerics.affine import AffineGrid, affine_grid, dequantize_affine, fake_quantize_affine, quantize_affine
from slimkit.numerics.fidelity import cosine, mean_squared_error, sqnr_db
from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.packing import pack, storage_type
from slimkit.numerics.rounding import round_half_away, round_half_even
from slimkit.numerics.scales import ACTIVATION_SCALES, WEIGHT_SCALES, abs_max, channel_wise_abs_max, scale_tracker
from slimkit.numerics.straight_through import pact_clip, pact_gradients, pact_quantize, straight_through_gradient
from slimkit.numerics.symmetric import dequantize, fake_quantize, quantize
from slimkit.numerics.thresholds import clipping_error, mse_threshold, percentile_threshold

__all__ = [
    "ACTIVATION_SCALES",
    "WEIGHT_SCALES",
    "AbsHistogram",
    "AffineGrid",
    "abs_max",
    "affine_grid",
    "channel_wise_abs_max",
    "clipping_error",
    "cosine",
    "dequantize",
    "dequantize_affine",
    "fake_quantize",
    "fake_quantize_affine",
    "mean_squared_error",
    "mse_threshold",
    "pack",
    "pact_clip",
    "pact_gradients",
    "pact_quantize",
    "percentile_threshold",
    "quantize",
    "quantize_affine",
    "round_half_away",
    "round_half_even",
    "scale_tracker",
    "sqnr_db",
    "storage_type",
    "straight_through_gradient",
]
