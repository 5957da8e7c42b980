"""What a quantization-aware network is while it is exported: every quantizer fixed, redundant clipping left out."""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Type

import numpy as np
import paddle
from paddle import nn

from slimkit.quant.layers.fake_quant import FakeQuantMovingAverageAbsMax, assign, fixed_scale
from slimkit.quant.layers.pact import PACT
from slimkit.quant.layers.wrappers import QUANTIZED, QuantizedLayer, Quantizers
from slimkit.quant.layers.wrapping import left_float, named_places, replace_layers, wrapped_layers

__all__ = ["clip_level", "exporting"]


@contextmanager
def exporting(model: nn.Layer, types: Tuple[Type[nn.Layer], ...], quantizers: Quantizers) -> Iterator[List[str]]:
    """Puts a network into the form that is traced for export, and back.

    Args:
        model: the network.
        types: float layer types to quantize.
        quantizers: how.

    Yields:
        Paths of convolutions that were made after ``quantize()`` (``rep()`` of re-parameterized networks) and take the
        input range of the branches they replace.
    """
    made = _wrap_new(model, types, quantizers)
    inner = [wrapper._layer for _, wrapper in wrapped_layers(model)]
    try:
        for layer in inner:
            layer._exported_input = _input_of(layer)
        yield list(made)
    finally:
        for layer in inner:
            layer._exported_input = None
        stood_for = {id(wrapper): wrapper._slimkit_stands_for[0] for wrapper in made.values()}
        replace_layers(model, lambda wrapper: stood_for[id(wrapper)], made.values())


def _input_of(layer: Any) -> Optional[Callable[[Any], Any]]:
    """What puts a layer's input on its grid in the exported program; None: what it does in eval mode."""
    preprocess, quantizer = layer._act_preprocess, layer._fake_quant_input
    if not isinstance(quantizer, FakeQuantMovingAverageAbsMax):
        return None
    if not quantizer.seen:
        return lambda x: x
    bits = quantizer._quant_bits
    if preprocess is None or type(preprocess) is PACT:
        return None if preprocess is None else quantizer
    level, scale = clip_level(preprocess), quantizer._scale.item()
    if level is None:
        return None
    steps = 2 ** (bits - 1) - 1
    if round(level / scale * steps) >= steps:
        return quantizer  # whatever is clipped gets the quantizer's outermost level anyway
    return lambda x: fixed_scale(paddle.clip(x, -level, level), quantizer._scale, bits)


def clip_level(preprocess: nn.Layer) -> Optional[float]:
    """alpha, if a preprocess layer computes ``clip(x, -alpha, alpha)`` with the one number that is its parameter.

    The PACT classes of PaddleOCR and of the tutorials do that, each in its own ops; so the layer is asked, not read.
    """
    parameters = preprocess.parameters()
    if len(parameters) != 1 or int(np.prod(parameters[0].shape)) != 1:
        return None
    alpha = abs(parameters[0].item())
    if not np.isfinite(alpha) or alpha == 0:
        return None
    x = (alpha * np.linspace(-3, 3, 121, dtype=np.float32)).astype(np.float32).reshape(1, 1, 11, 11)
    was_training = preprocess.training
    preprocess.eval()
    try:
        with paddle.no_grad():
            found = np.asarray(preprocess(paddle.to_tensor(x)).numpy())
    except Exception:  # a layer of another rank or with other inputs: not one of these
        return None
    finally:
        if was_training:
            preprocess.train()
    same = found.shape == x.shape and np.allclose(found, np.clip(x, -alpha, alpha), rtol=0, atol=2e-6 * alpha)
    return alpha if same else None


def _wrap_new(model: nn.Layer, types: Tuple[Type[nn.Layer], ...], quantizers: Quantizers) -> Dict[str, QuantizedLayer]:
    """Wraps layers that ``quantize()`` never met, where branches beside them say the range of their input."""
    scales: Dict[int, Tuple[str, nn.Layer, float]] = {}
    for path, parent, _, layer in named_places(model):
        if isinstance(layer, types) and not left_float(layer):
            scale = _branch_scale(parent, layer)
            if scale is not None:
                scales[id(layer)] = (path, layer, scale)

    def make(layer: nn.Layer) -> QuantizedLayer:
        plain = Quantizers(quantizers.config)
        quantized = QUANTIZED[next(n for n, q in QUANTIZED.items() if isinstance(layer, q.float_type))](layer, plain)
        scale = scales[id(layer)][2]
        quantizer = FakeQuantMovingAverageAbsMax(quantizers.config.activation_bits)
        assign(paddle.full([1], scale), quantizer._scale)
        quantized._fake_quant_input = quantizer
        wrapper = QuantizedLayer(quantized)
        object.__setattr__(wrapper, "_slimkit_stands_for", (layer,))
        return wrapper

    made = replace_layers(model, make, [layer for _, layer, _ in scales.values()])
    return {scales[key][0]: wrapper for key, wrapper in made.items()}


def _branch_scale(parent: nn.Layer, layer: nn.Layer) -> Optional[float]:
    """The range of the input of the branches that ``rep()`` merged into ``layer``; None: there are none."""
    found = []
    for _, wrapper in wrapped_layers(parent):
        quantizer = wrapper._layer._fake_quant_input
        same = isinstance(wrapper._layer, QUANTIZED["Conv2D"]) and wrapper._in_channels == getattr(
            layer, "_in_channels", None
        )
        if same and isinstance(quantizer, FakeQuantMovingAverageAbsMax) and quantizer.seen:
            found.append(quantizer._scale.item())
    return max(found, default=None)
