"""``PTQ``: post-training quantization of dygraph networks, with PaddleSlim's names and arguments."""

from __future__ import annotations

import copy
import logging
import zlib  # noqa: F401  (must precede paddle)
from typing import Any, Dict, Optional, Sequence

import paddle
from paddle import nn

from slimkit.errors import ConfigError, TrainingError
from slimkit.quant.layers.ptq_export import traced_quantized
from slimkit.quant.layers.ptq_layers import copied, keep_dynamic, layers_to_observe, paired_norms, static_spec
from slimkit.quant.layers.ptq_observer import (
    SIMULATE,
    Calibration,
    InputObserver,
    observe_layer,
    observers,
)
from slimkit.quant.layers.ptq_quantizers import made_quantizer
from slimkit.quant.layers.save import given_spec, layer_of, save_quantized
from slimkit.quant.layers.wrapping import layer_types, wrapped_layers
from slimkit.quant.quantized import Quantized

__all__ = ["PTQ"]

_logger = logging.getLogger("slimkit")


class PTQ:
    """Quantizes a trained network from the activations of some batches.

    ``quantize`` puts observers on a copy of the network, the user runs batches through it, ``save_quantized_model``
    writes the quantized inference model. ``convert`` simulates it in dygraph.

    Args:
        activation_quantizer: how ranges of activations are chosen: ``KLQuantizer``, ``HistQuantizer``,
            ``AbsmaxQuantizer``, ``AvgQuantizer``, ``MseQuantizer`` or ``EmdQuantizer``; the name, the class or a
            quantizer.
        weight_quantizer: ``PerChannelAbsmaxQuantizer`` or ``AbsmaxQuantizer``.
        **kwargs: arguments of the activation quantizer: ``quant_bits``, ``bins``, ``upsample_bins``, ``hist_percent``;
            and ``quantizable_layer_type``, by default ``["Conv2D", "Linear"]`` as in PaddleSlim. ``Conv2DTranspose``
            can be added where the runtime takes it: Paddle Inference's int8 does not in the onnx format.

    Raises:
        ConfigError: an unknown quantizer or argument.
    """

    def __init__(
        self,
        activation_quantizer: Any = "KLQuantizer",
        weight_quantizer: Any = "PerChannelAbsmaxQuantizer",
        **kwargs: Any,
    ) -> None:
        self._types = layer_types(kwargs.pop("quantizable_layer_type", ["Conv2D", "Linear"]))
        self.activation_quantizer = made_quantizer("activation_quantizer", activation_quantizer, kwargs)
        self.weight_quantizer = made_quantizer("weight_quantizer", weight_quantizer)

    def quantize(
        self,
        model: nn.Layer,
        inplace: bool = False,
        fuse: bool = False,
        fuse_list: Optional[Sequence[Sequence[str]]] = None,
    ) -> nn.Layer:
        """Puts an observer at the input of every layer to quantize.

        The network stays what it is: structure, parameters, keys of ``state_dict``. ``skip_quant = True`` on a layer,
        or on one that contains it, leaves it float. A forward that ``to_static`` has wrapped runs in dynamic mode.

        Args:
            model: the trained network.
            inplace: observe ``model`` itself; else a copy.
            fuse: fold batch norms into the convolutions in front of them when the model is saved, where the traced
                program shows that nothing else reads what is between them.
            fuse_list: ``[[path of a convolution, path of its batch norm], ...]``: fold no others.

        Returns:
            The network to run batches through.

        Raises:
            ConfigError: not a layer, quantized already, nothing to quantize, or a ``fuse_list`` that does not fit.
        """
        target = layer_of(model)
        kind = type(target).__name__
        if observers(target) or any(True for _ in wrapped_layers(target)):
            raise ConfigError(f"{kind} is quantized already; call quantize() once, on the float model.")
        pairs = fuse_list if fuse else None
        paired_norms(target, pairs or ())
        layers, skipped = layers_to_observe(target, self._types)
        if not layers:
            names = ", ".join(kind.__name__ for kind in self._types)
            reason = next((f"; {path or 'it'} stays float: {reason}" for path, reason in skipped.items()), "")
            raise ConfigError(f"{kind} has no layer to quantize; quantizable_layer_type is {names}{reason}.")
        spec = static_spec(target)
        if not inplace:
            model = target if isinstance(model, paddle.DataParallel) else model  # which cannot be copied
            model = copied(model)
            target = layer_of(model)
        keep_dynamic(model)
        quantizers = copy.deepcopy((self.activation_quantizer, self.weight_quantizer))
        calibration = Calibration(*quantizers, bool(fuse), pairs is not None, spec)
        norms = paired_norms(target, pairs or ())
        for path, layer in layers_to_observe(target, self._types)[0].items():
            observe_layer(layer, InputObserver(path, calibration, norms.get(id(layer))))
        _logger.info("observing %d layers, %d stay float", len(layers), len(skipped))
        return model

    def convert(self, model: nn.Layer, inplace: bool = False) -> nn.Layer:
        """Ends the calibration: from here on, the network computes what the quantized model will.

        Args:
            model: what ``quantize`` returned, after calibration batches.
            inplace: convert ``model`` itself; else a copy, and ``model`` goes on observing.

        Returns:
            The network with quantization simulated; its parameters are the float ones.

        Raises:
            ConfigError: ``model`` has no observers.
            TrainingError: no batch was run through it.
        """
        if not inplace:
            _calibration(model)
            model = copy.deepcopy(model)
        calibration = self._fixed(model)
        calibration.mode = SIMULATE
        return model

    def save_quantized_model(
        self, model: nn.Layer, path: str, input_spec: Optional[Sequence[Any]] = None, **kwargs: Any
    ) -> None:
        """Exports the quantized inference model as ``path.pdmodel`` and ``path.pdiparams``.

        Afterwards ``model`` is as ``convert`` leaves it: it simulates what was saved.

        Args:
            model: what ``quantize`` returned, after calibration batches, or a layer that contains it.
            path: prefix, ``dirname/file_prefix``.
            input_spec: one ``paddle.static.InputSpec`` (or tensor, or nest) per argument of forward; None: that of the
                forward ``to_static`` had wrapped.
            **kwargs: ``onnx_format=False`` for the old format.

        Raises:
            ConfigError: no input spec, ``model`` has no observers, or an unknown argument.
            TrainingError: no batch was run through it.
            ModelError: the network cannot be traced.
        """
        onnx_format = kwargs.pop("onnx_format", True)
        if kwargs:
            name = next(iter(kwargs))
            raise ConfigError(
                f"save_quantized_model has no argument '{name}'; it takes model, path, input_spec and onnx_format."
            )
        save_quantized(self.quantized(model, input_spec), path, "onnx" if onnx_format else "old")
        _calibration(model).mode = SIMULATE

    def quantized(self, model: nn.Layer, input_spec: Optional[Sequence[Any]] = None) -> Quantized:
        """The float model and its grids, for ``slimkit.quant.export_program`` and the exporters.

        Args:
            model, input_spec: as for :meth:`save_quantized_model`.
        """
        calibration, target = _calibration(model), layer_of(model)
        specs = calibration.input_spec if input_spec is None else None
        specs = given_spec(target, input_spec) if specs is None else specs
        return traced_quantized(target, specs, self._fixed(model))

    def thresholds(self, model: nn.Layer) -> Dict[str, float]:
        """Path of each observed layer -> where its input is clipped; layers that no batch reached are left out."""
        _calibration(model)
        return {hook.path: float(hook.threshold()) for _, hook in observers(layer_of(model)) if hook.seen}

    def _fixed(self, model: nn.Layer) -> Calibration:
        """Takes the thresholds, once."""
        calibration = _calibration(model)
        found = observers(layer_of(model))
        blind = [hook.path for _, hook in found if not hook.seen]
        if len(blind) == len(found):
            raise TrainingError(
                "The quantized network has seen no batch; run some calibration batches through the network that "
                "quantize() returned, in eval mode, before it is converted or saved."
            )
        if calibration.mode != SIMULATE:
            if blind:
                _logger.warning(
                    "%d of %d layers were not reached by the calibration batches (%s%s) and stay float.",
                    len(blind), len(found), ", ".join(blind[:3]), ", ..." if len(blind) > 3 else "",
                )  # fmt: skip
            for _, hook in found:
                hook.fix()
        return calibration


def _calibration(model: nn.Layer) -> Calibration:
    found = observers(layer_of(model))
    if not found:
        raise ConfigError(
            f"{type(model).__name__} has no observers; pass the network that PTQ.quantize returned (with "
            "inplace=False, the default, that is a copy of the one it was given)."
        )
    return found[0][1].calibration
