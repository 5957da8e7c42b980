"""PaddleOCR's own PACT on networks whose activations are larger than the 20 that its alpha starts at.

``deploy/slim/quantization/quant.py`` was written for MobileNetV3, whose activations stay below 20. In PP-OCRv4's
detector they reach 2000 in front of the head: its first convolution would see little but 20 everywhere, hmean would be
0, and alpha would grow by the learning rate a step. Under ``slimkit run`` an alpha that would clip away more than a
hundredth of the first batch's energy starts where quantization loses least, as slimkit's own PACT does.
"""

from __future__ import annotations

import functools
import logging
from types import ModuleType
from typing import Any

from slimkit.plugins.hooks import Undo
from slimkit.plugins.repairs import with_attribute

__all__ = ["raise_alpha", "started"]

_logger = logging.getLogger("slimkit")

#: The part of an activation's energy that a start of alpha may clip away: 20 dB.
CLIPPED = 0.01


def started(wrappers: ModuleType) -> Undo:
    """Lets quantized layers look at a user's alpha when they see their first batch of training."""
    base = wrappers._QuantizedBase
    original = base._quantize_input

    @functools.wraps(original)
    def _quantize_input(self: Any, x: Any) -> Any:
        if self.training and self._act_preprocess is not None:
            raise_alpha(self._act_preprocess, self._fake_quant_input, x)
        return original(self, x)

    return with_attribute(base, "_quantize_input", _quantize_input)


def raise_alpha(preprocess: Any, quantizer: Any, x: Any) -> bool:
    """Raises alpha of a layer that computes ``clip(x, -alpha, alpha)``, if it would clip away too much.

    Args:
        preprocess: the user's layer.
        quantizer: behind it; once it has seen a batch, alpha has been trained and nothing is done.
        x: what both are for.

    Returns:
        Whether alpha was raised.
    """
    if getattr(quantizer, "_seen", True) or 0 in x.shape:
        return False
    import numpy as np
    import paddle

    from slimkit.numerics.histogram import AbsHistogram
    from slimkit.numerics.thresholds import mse_threshold
    from slimkit.quant.layers.exporting import clip_level
    from slimkit.quant.layers.pact import PACT

    if not paddle.in_dynamic_mode() or type(preprocess) is PACT or quantizer.seen:
        return False
    level = clip_level(preprocess)
    if level is None:
        return False
    values = np.abs(x.detach().astype("float32").numpy())
    clipped = np.square(np.maximum(values - level, 0), dtype=np.float64).sum()
    energy = np.square(values, dtype=np.float64).sum()
    if clipped <= CLIPPED * energy:
        return False
    histogram = AbsHistogram()
    histogram.update(values)
    best = float(mse_threshold(histogram, quantizer._quant_bits))
    if best <= level:
        return False
    preprocess.parameters()[0].set_value(np.full(preprocess.parameters()[0].shape, best, np.float32))
    _logger.info(
        "%s: alpha starts at %.4g; %g would clip away %.0f %% of its first batch's energy",
        preprocess.full_name(), best, level, 100 * clipped / energy,
    )  # fmt: skip
    return True
