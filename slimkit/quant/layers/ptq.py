"""``PTQ``: post-training quantization of dygraph networks, with PaddleSlim's names and arguments."""

from __future__ import annotations

import copy
import logging
import zlib  # noqa: F401  (must precede paddle)
from contextlib import contextmanager
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Sequence, Tuple

import paddle
from paddle import nn
from paddle.jit.dy2static.program_translator import StaticFunction

from slimkit.errors import ConfigError, TrainingError, nearest
from slimkit.quant.layers.ptq_export import traced_quantized
from slimkit.quant.layers.ptq_observer import (
    OBSERVED,
    OBSERVED_TYPES,
    SIMULATE,
    Calibration,
    InputObserver,
    observe_layer,
    observers,
)
from slimkit.quant.layers.ptq_quantizers import made_quantizer
from slimkit.quant.layers.save import given_spec, layer_of, save_quantized
from slimkit.quant.layers.wrapping import named_places, wrapped_layers
from slimkit.quant.quantized import Quantized

__all__ = ["PTQ"]

_FORWARDS = tuple(kind.forward for kind in OBSERVED)
_NORMS = (nn.BatchNorm, nn.layer.norm._BatchNormBase)

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
        **kwargs: arguments of the activation quantizer: ``quant_bits``, ``bins``, ``upsample_bins``, ``hist_percent``.

    Raises:
        ConfigError: an unknown quantizer or argument.
    """

    def __init__(
        self,
        activation_quantizer: Any = "KLQuantizer",
        weight_quantizer: Any = "PerChannelAbsmaxQuantizer",
        **kwargs: Any,
    ) -> None:
        self.activation_quantizer = made_quantizer("activation_quantizer", activation_quantizer, kwargs)
        self.weight_quantizer = made_quantizer("weight_quantizer", weight_quantizer)

    def quantize(
        self,
        model: nn.Layer,
        inplace: bool = False,
        fuse: bool = False,
        fuse_list: Optional[Sequence[Sequence[str]]] = None,
    ) -> nn.Layer:
        """Puts an observer at the input of every Conv2D, Conv2DTranspose and Linear.

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
        folded = _folded(target, pairs)
        layers, skipped = _layers(target)
        if not layers:
            names = ", ".join(kind.__name__ for kind in OBSERVED)
            reason = next((f"; {path}: {reason}" for path, reason in skipped.items()), "")
            raise ConfigError(f"{kind} has no layer to quantize, which are {names}{reason}.")
        spec = _static_spec(target)
        if not inplace:
            model = target if isinstance(model, paddle.DataParallel) else model  # which cannot be copied
            with _dynamic_forwards(model):
                model = copy.deepcopy(model)
            target = layer_of(model)
        _keep_dynamic(model)
        quantizers = copy.deepcopy((self.activation_quantizer, self.weight_quantizer))
        calibration = Calibration(*quantizers, bool(fuse), spec)
        for path, layer in _layers(target)[0].items():
            observe_layer(layer, InputObserver(path, calibration, folded is None or path in folded))
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


def _layers(model: nn.Layer) -> Tuple[Dict[str, nn.Layer], Dict[str, str]]:
    """The layers to observe by path, and those that stay float with the reason."""
    found: Dict[str, nn.Layer] = {}
    skipped: Dict[str, str] = {}
    off = {id(model)} if getattr(model, "skip_quant", False) is True else set()
    known = set()
    for path, parent, _, layer in [("", model, "", model), *named_places(model)]:
        if getattr(layer, "skip_quant", False) is True or id(parent) in off:
            off.add(id(layer))
        if not isinstance(layer, OBSERVED_TYPES) or id(layer) in known:
            continue
        known.add(id(layer))
        if id(layer) in off:
            skipped[path] = "skip_quant is set"
        elif type(layer).forward not in _FORWARDS:
            skipped[path] = f"its class {type(layer).__name__} has a forward of its own"
        elif layer._parameters.get("weight") is None:
            skipped[path] = "its weight is computed (weight norm), not a parameter"
        else:
            found[path] = layer
    return found, skipped


def _folded(model: nn.Layer, pairs: Optional[Sequence[Sequence[str]]]) -> Optional[FrozenSet[str]]:
    """Paths of the layers in front of the batch norms of a ``fuse_list``; None for None.

    Raises:
        ConfigError: a pair that is none.
    """
    if pairs is None:
        return None
    layers: Dict[str, Any] = {path: layer for path, _, _, layer in named_places(model)}
    found = set()
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise ConfigError(f"fuse_list: {pair!r} is no pair; give [[convolution's path, batch norm's path]].")
        for path in pair:
            if path not in layers:
                close = nearest(str(path), layers)
                meant = f"; did you mean '{close}'?" if close else "; take paths of named_sublayers()."
                raise ConfigError(f"fuse_list: the network has no layer '{path}'{meant}")
        first, second = layers[pair[0]], layers[pair[1]]
        if not isinstance(first, OBSERVED_TYPES) or not isinstance(second, _NORMS):
            raise ConfigError(
                f"fuse_list pairs '{pair[0]}' ({type(first).__name__}) with '{pair[1]}' ({type(second).__name__}); a "
                "pair is a convolution and the batch norm behind it."
            )
        found.add(str(pair[0]))
    return frozenset(found)


# ------------------------------------------------------------------------------------- forwards wrapped by to_static


def _static_spec(model: nn.Layer) -> Optional[List[Any]]:
    """The input spec of a wrapped forward, if there is one."""
    if not isinstance(model.forward, StaticFunction):
        return None
    try:
        return given_spec(model, None)
    except ConfigError:
        return None


def _keep_dynamic(model: nn.Layer) -> None:
    """Undoes ``to_static`` on a network's forwards: a compiled forward runs no hooks."""
    for layer in model.sublayers(include_self=True):
        forward = layer.forward
        if isinstance(forward, StaticFunction):
            vars(layer)["forward"] = forward.dygraph_function


@contextmanager
def _dynamic_forwards(model: nn.Layer) -> Iterator[None]:
    """While a network is copied, its compiled forwards are out of sight."""
    held = [(layer, vars(layer)["forward"]) for layer in model.sublayers(include_self=True) if "forward" in vars(layer)]
    held = [(layer, forward) for layer, forward in held if isinstance(forward, StaticFunction)]
    for layer, _ in held:
        del vars(layer)["forward"]
    try:
        yield
    finally:
        for layer, forward in held:
            vars(layer)["forward"] = forward
