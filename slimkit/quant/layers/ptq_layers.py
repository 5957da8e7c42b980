"""The layers of a network that PTQ observes, its copy, and its forwards without ``to_static``."""

from __future__ import annotations

import copy
import zlib  # noqa: F401  (must precede paddle)
from typing import Any, Dict, List, Optional, Sequence, Tuple

from paddle import nn
from paddle.jit.dy2static.program_translator import StaticFunction

from slimkit.errors import ConfigError, nearest
from slimkit.quant.layers.ptq_observer import OBSERVED, OBSERVED_TYPES
from slimkit.quant.layers.save import given_spec
from slimkit.quant.layers.wrapping import named_places

__all__ = ["copied", "keep_dynamic", "layers_to_observe", "paired_norms", "static_spec"]

_FORWARDS = tuple(kind.forward for kind in OBSERVED)
_NORMS = (nn.BatchNorm, nn.layer.norm._BatchNormBase)


def layers_to_observe(model: nn.Layer, types: Tuple[Any, ...]) -> Tuple[Dict[str, nn.Layer], Dict[str, str]]:
    """The layers to observe by path, and those that stay float with the reason."""
    found: Dict[str, nn.Layer] = {}
    skipped: Dict[str, str] = {}
    off = {id(model)} if getattr(model, "skip_quant", False) is True else set()
    known = set()
    for path, parent, _, layer in [("", model, "", model), *named_places(model)]:
        if getattr(layer, "skip_quant", False) is True or id(parent) in off:
            off.add(id(layer))
        if not isinstance(layer, types) or id(layer) in known:
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


def paired_norms(model: nn.Layer, pairs: Sequence[Sequence[str]]) -> Dict[int, nn.Layer]:
    """id of a layer -> the batch norm behind it, of a ``fuse_list``.

    Raises:
        ConfigError: a pair that is none.
    """
    layers: Dict[str, Any] = {path: layer for path, _, _, layer in named_places(model)}
    found: Dict[int, nn.Layer] = {}
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
        found[id(first)] = second
    return found


def static_spec(model: nn.Layer) -> Optional[List[Any]]:
    """The input spec of a wrapped forward, if there is one."""
    if not isinstance(model.forward, StaticFunction):
        return None
    try:
        return given_spec(model, None)
    except ConfigError:
        return None


def keep_dynamic(model: nn.Layer) -> None:
    """Undoes ``to_static`` on a network's forwards: a compiled forward runs no hooks."""
    for layer in model.sublayers(include_self=True):
        forward = layer.forward
        if isinstance(forward, StaticFunction):
            vars(layer)["forward"] = forward.dygraph_function


def copied(model: nn.Layer) -> nn.Layer:
    """A deep copy, without the compiled forwards, which Paddle would bind to the copy."""
    held = [(layer, vars(layer)["forward"]) for layer in model.sublayers(include_self=True) if "forward" in vars(layer)]
    held = [(layer, forward) for layer, forward in held if isinstance(forward, StaticFunction)]
    for layer, _ in held:
        del vars(layer)["forward"]
    try:
        return copy.deepcopy(model)
    finally:
        for layer, forward in held:
            vars(layer)["forward"] = forward
