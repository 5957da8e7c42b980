"""Quantized convolutions and linear layers, and the wrapper that stands in their place in a network.

``network.conv`` becomes a ``QuantizedLayer`` whose ``_layer`` is a ``QuantizedConv2D``: the structure, and so the
checkpoint keys, of Paddle 2's quantization-aware layers. The wrapper passes on the attributes of the layer it stands
for, ``weight`` and ``bias`` among them, since networks that re-parameterize read them.
"""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Tuple, Type

import paddle
from paddle import nn
from paddle.nn import functional

from slimkit.quant.layers.config import LayerQuantConfig
from slimkit.quant.layers.fake_quant import (
    FakeQuantAbsMax,
    FakeQuantChannelWiseAbsMax,
    FakeQuantMovingAverageAbsMax,
    FakeQuantRangeAbsMax,
)
from slimkit.quant.layers.pact import PACT, pact_quantize
from slimkit.quant.layers.users_pact import clip_and_quantize, is_clip

__all__ = [
    "QUANTIZED",
    "QuantizedConv2D",
    "QuantizedConv2DTranspose",
    "QuantizedLayer",
    "QuantizedLinear",
    "Quantizers",
]

Factory = Callable[[], nn.Layer]


@dataclass(frozen=True)
class Quantizers:
    """How the tensors of a layer are quantized: the config, and the user's classes where given."""

    config: LayerQuantConfig
    weight_preprocess: Optional[Factory] = None
    act_preprocess: Optional[Factory] = None
    weight_quantize: Optional[Factory] = None
    act_quantize: Optional[Factory] = None

    def of_weight(self, channels: int, axis: int) -> nn.Layer:
        """The quantizer of a weight with so many channels along ``axis``."""
        if self.weight_quantize is not None:
            return self.weight_quantize()
        if self.config.weight_quantize_type == "abs_max":
            return FakeQuantAbsMax(self.config.weight_bits, 1)
        return FakeQuantChannelWiseAbsMax(self.config.weight_bits, channels, axis)

    def of_activation(self) -> nn.Layer:
        """The quantizer of a layer's input."""
        if self.act_quantize is not None:
            return self.act_quantize()
        bits, kind = self.config.activation_bits, self.config.activation_quantize_type
        if kind == "abs_max":
            return FakeQuantAbsMax(bits)
        if kind == "range_abs_max":
            return FakeQuantRangeAbsMax(bits, self.config.window_size)
        return FakeQuantMovingAverageAbsMax(bits, self.config.moving_rate)


class _QuantizedBase(nn.Layer):
    """Computes what ``float_type`` computes, from a quantized input and a quantized weight.

    Args:
        layer: the float layer; its parameters are shared, not copied.
        quantizers: how to quantize.
    """

    float_type: Type[nn.Layer]
    #: Axis of the weight along which its channels lie.
    weight_axis: int

    def __init__(self, layer: nn.Layer, quantizers: Quantizers) -> None:
        super().__init__()
        own = set(vars(self))
        self.__dict__.update({name: value for name, value in vars(layer).items() if name not in own})  # _stride, ...
        self.weight = layer.weight
        self.bias = layer.bias
        self.training = layer.training
        channels = int(self.weight.shape[self.weight_axis])
        self._fake_quant_weight = quantizers.of_weight(channels, self.weight_axis)
        self._fake_quant_input = quantizers.of_activation()
        make = quantizers.act_preprocess
        self._act_preprocess = make() if make is not None else None
        make = quantizers.weight_preprocess
        self._weight_preprocess = make() if make is not None else None
        #: Set while the layer is exported: what stands for the activation's preprocess and quantizer.
        self._exported_input: Optional[Callable[[Any], Any]] = None

    def forward(self, x: Any, output_size: Any = None) -> Any:
        kind = x.dtype
        if kind != paddle.float32:  # Paddle's quantizing kernels are float32's
            x = x.astype("float32")
        x = self._quantize_input(x)
        weight = self.weight if kind == paddle.float32 else self.weight.astype("float32")
        if self._weight_preprocess is not None:
            weight = self._weight_preprocess(weight)
        weight = self._fake_quant_weight(weight)
        if kind != paddle.float32:
            x, weight = x.astype(kind), weight.astype(kind)
        return self._compute(x, weight, output_size)

    def _compute(self, x: Any, weight: Any, output_size: Any) -> Any:
        """What the float layer computes, of quantized tensors."""
        raise NotImplementedError

    def _quantize_input(self, x: Any) -> Any:
        if self._exported_input is not None:
            return self._exported_input(x)
        if paddle.in_dynamic_mode() and 0 in x.shape:  # Paddle's kernels crash on a tensor without elements
            return x
        preprocess, quantizer = self._act_preprocess, self._fake_quant_input
        if type(preprocess) is PACT and isinstance(quantizer, FakeQuantMovingAverageAbsMax):
            return pact_quantize(x, preprocess, quantizer)
        if preprocess is not None:
            in_training = type(quantizer) is FakeQuantMovingAverageAbsMax and quantizer.training
            if in_training and paddle.in_dynamic_mode() and is_clip(preprocess, x):
                return clip_and_quantize(x, preprocess, quantizer)
            x = preprocess(x)
        return quantizer(x)


class QuantizedConv2D(_QuantizedBase):
    """A convolution of quantized tensors."""

    float_type, weight_axis = nn.Conv2D, 0

    def _compute(self, x: Any, weight: Any, output_size: Any) -> Any:
        padding = self._padding
        if self._padding_mode != "zeros":
            twice = self._reversed_padding_repeated_twice
            x, padding = functional.pad(x, twice, self._padding_mode, data_format=self._data_format), 0
        return functional.conv2d(
            x, weight, self.bias, self._stride, padding, self._dilation, self._groups, self._data_format
        )


class QuantizedConv2DTranspose(_QuantizedBase):
    """A transposed convolution of quantized tensors."""

    float_type, weight_axis = nn.Conv2DTranspose, 1

    def _compute(self, x: Any, weight: Any, output_size: Any) -> Any:
        return functional.conv2d_transpose(
            x, weight, self.bias, self._stride, self._padding, self.output_padding if output_size is None else 0,
            self._dilation, self._groups, output_size, self._data_format,
        )  # fmt: skip


class QuantizedLinear(_QuantizedBase):
    """A matrix product of quantized tensors."""

    float_type, weight_axis = nn.Linear, 1

    def _compute(self, x: Any, weight: Any, output_size: Any) -> Any:
        return functional.linear(x, weight, self.bias)


#: Name in ``quantizable_layer_type`` -> the quantized layer.
QUANTIZED: Dict[str, Type[_QuantizedBase]] = {
    "Conv2D": QuantizedConv2D,
    "Conv2DTranspose": QuantizedConv2DTranspose,
    "Linear": QuantizedLinear,
}

#: Attributes that a wrapper hands on for writing too.
_SHARED: Tuple[str, ...] = ("weight", "bias")


class QuantizedLayer(nn.Layer):
    """Stands in a network where a float layer stood.

    Args:
        layer: the quantized layer.
    """

    def __init__(self, layer: _QuantizedBase) -> None:
        super().__init__()
        self._layer = layer
        for part in self.sublayers(include_self=True):  # new layers start in train mode, the network may be in eval
            part.training = layer.training

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self._layer(*inputs, **named)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            inner = self.__dict__.get("_sub_layers", {}).get("_layer")
            if inner is None or name.startswith("__"):
                raise
            return getattr(inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _SHARED and "_layer" in self.__dict__.get("_sub_layers", {}):
            setattr(self._layer, name, value)
        else:
            super().__setattr__(name, value)
