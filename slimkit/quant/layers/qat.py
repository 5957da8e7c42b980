"""``QAT``: quantization-aware training of dygraph networks, with PaddleSlim's names and arguments."""

from __future__ import annotations

import copy
import logging
import zlib  # noqa: F401  (must precede paddle)
from typing import Any, List, Mapping, Optional, Sequence, Union

import paddle
from paddle import nn

from slimkit.errors import ConfigError
from slimkit.quant.layers.config import LayerQuantConfig
from slimkit.quant.layers.exporting import exporting
from slimkit.quant.layers.fuse import fuse_conv_bn
from slimkit.quant.layers.pact import PACT
from slimkit.quant.layers.ptq_observer import observers
from slimkit.quant.layers.save import given_spec, layer_of, save_quantized, trace_quantized
from slimkit.quant.layers.wrappers import QUANTIZED, QuantizedLayer, Quantizers
from slimkit.quant.layers.wrapping import layer_types, mark_float, quantizable, replace_layers, wrapped_layers
from slimkit.quant.quantized import Quantized

__all__ = ["QAT"]

_logger = logging.getLogger("slimkit")


class QAT:
    """Puts fake quantization into a network, in place, and exports it after training.

    Args:
        config: see :class:`LayerQuantConfig`; None: its defaults.
        weight_preprocess: Layer class; what it computes of a weight is quantized; None: by ``weight_preprocess_type``.
        act_preprocess: Layer class; what it computes of an activation is quantized, as a PACT of one's own; None:
            by ``activation_preprocess_type``, whose ``PACT`` clips and quantizes in one op.
        weight_quantize: a Layer class that quantizes and dequantizes a weight. None: by ``weight_quantize_type``.
        act_quantize: a Layer class that does so for activations. None: by ``activation_quantize_type``.

    Raises:
        ConfigError: an unknown key, a value or a layer type that is not allowed, or something that makes no layers.
    """

    def __init__(
        self,
        config: Union[Mapping[str, Any], LayerQuantConfig, None] = None,
        weight_preprocess: Any = None,
        act_preprocess: Any = None,
        weight_quantize: Any = None,
        act_quantize: Any = None,
    ) -> None:
        self.config = LayerQuantConfig.read(config)
        self._types = layer_types(self.config.quantizable_layer_type)
        given = {
            "weight_preprocess": weight_preprocess,
            "act_preprocess": act_preprocess,
            "weight_quantize": weight_quantize,
            "act_quantize": act_quantize,
        }
        for name, value in given.items():
            if value is not None and not (isinstance(value, type) and issubclass(value, nn.Layer)):
                raise ConfigError(f"{name} is {value!r}; give a subclass of paddle.nn.Layer (the class), or None.")
        if weight_preprocess is None and self.config.weight_preprocess_type == "PACT":
            given["weight_preprocess"] = PACT
        if act_preprocess is None and self.config.activation_preprocess_type == "PACT":
            given["act_preprocess"] = PACT
        self._quantizers = Quantizers(self.config, **given)

    def quantize(self, model: nn.Layer, inplace: bool = True) -> nn.Layer:
        """Wraps every layer of the types to quantize.

        Parameters stay the same objects with the same names. A layer with ``skip_quant = True`` stays float.

        Args:
            model: the network.
            inplace: change ``model``; else a copy.

        Returns:
            The quantized network.

        Raises:
            ConfigError: no layer can be quantized, or the network is quantized already.
        """
        target = layer_of(model)
        if observers(target) or any(True for _ in wrapped_layers(target)):
            raise ConfigError(f"{type(target).__name__} is quantized already; call quantize() once, on a float model.")
        if not inplace:
            model = copy.deepcopy(target if isinstance(model, paddle.DataParallel) else model)  # which has no copy
            target = layer_of(model)
        if self.config.fuse_conv_bn:
            fuse_conv_bn(target)
        layers, refused = quantizable(target, self._types)
        if not layers:
            names = ", ".join(kind.__name__ for kind in self._types)
            reason = next((f"; {path}: {reason}" for path, reason in refused.items()), "")
            raise ConfigError(
                f"{type(target).__name__} has no layer to quantize in it; quantizable_layer_type is {names}{reason}."
            )
        mark_float(dict(target.named_sublayers()), refused)
        replace_layers(target, self._wrap, layers.values())
        _logger.info("quantized %d layers, %d stay float", len(layers), len(refused))
        return model

    def _wrap(self, layer: nn.Layer) -> QuantizedLayer:
        kind = next(quantized for quantized in QUANTIZED.values() if isinstance(layer, quantized.float_type))
        wrapper = QuantizedLayer(kind(layer, self._quantizers))
        wrapper._forward_post_hooks.update(layer._forward_post_hooks)  # of who looks at the layer's results
        return wrapper

    def save_quantized_model(
        self, model: nn.Layer, path: str, input_spec: Optional[Sequence[Any]] = None, **config: Any
    ) -> None:
        """Exports the quantized inference model as ``path.pdmodel`` and ``path.pdiparams``.

        The network is traced in PIR and translated by slimkit; it stays usable, trainable and in dynamic mode.

        Args:
            model: the quantized network, or a layer that contains it: a wrapper, a ``DataParallel``, one whose forward
                ``paddle.jit.to_static`` has wrapped.
            path: prefix, ``dirname/file_prefix``.
            input_spec: one ``paddle.static.InputSpec`` (or tensor, or nest) per argument of forward; None: that of the
                forward that ``to_static`` has wrapped.

        Raises:
            ConfigError: no input spec, or a model that was not quantized.
            ModelError: the network cannot be traced.
        """
        if config:
            raise ConfigError(
                f"save_quantized_model does not know '{next(iter(config))}'; it takes model, path and input_spec."
            )
        quantized = self.quantized(model, input_spec)
        save_quantized(quantized, path, "onnx" if self.config.onnx_format else "old")

    def quantized(self, model: nn.Layer, input_spec: Optional[Sequence[Any]] = None) -> Quantized:
        """The trained float model and its grids, for ``slimkit.quant.export_program`` and the exporters.

        Args:
            model: as for :meth:`save_quantized_model`.
            input_spec: the same.
        """
        target = layer_of(model)
        if not any(True for _ in wrapped_layers(target)):
            raise ConfigError(f"{type(target).__name__} was not quantized; call quantize(model) before saving it.")
        for path, wrapper in wrapped_layers(target):
            if wrapper.weight.dtype != paddle.float32:
                kind = str(wrapper.weight.dtype).rsplit(".", 1)[-1]
                raise ConfigError(
                    f"The weight of '{path}' is {kind}, and only float32 networks are exported; build the network "
                    "anew, quantize it, load this one's state_dict and save that."
                )
        specs = given_spec(target, input_spec)
        with exporting(target, self._types, self._quantizers) as made:
            found = trace_quantized(target, specs)
        self._tell(target, made)
        return found

    def _tell(self, target: nn.Layer, made: List[str]) -> None:
        unseen = [
            path
            for path, wrapper in wrapped_layers(target)
            if getattr(wrapper._layer._fake_quant_input, "seen", True) is False
        ]
        if unseen:
            _logger.warning(
                "%d quantized layers never saw a batch in train mode (%s, ...); their inputs stay float: train, or "
                "load a checkpoint of the quantized model, before saving.", len(unseen), unseen[0],
            )  # fmt: skip
        if made:
            _logger.warning(
                "%d convolutions were made after quantize() (%s, ...), by a re-parameterization; they take the input "
                "range of the branches they replace, and were not trained quantized.", len(made), made[0],
            )  # fmt: skip
