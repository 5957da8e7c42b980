"""Finding the layers of a network that are to be quantized, and putting wrappers in their place."""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from typing import Any, Callable, Dict, Iterable, Iterator, List, Set, Tuple, Type

from paddle import nn

from slimkit.errors import ConfigError, nearest
from slimkit.quant.layers.wrappers import QUANTIZED, QuantizedLayer

__all__ = ["layer_types", "left_float", "mark_float", "named_places", "quantizable", "replace_layers", "wrapped_layers"]

#: Attribute of a layer that quantize() met and left float: the reason.
_REASON = "_slimkit_left_float"


def layer_types(names: Iterable[Any]) -> Tuple[Type[nn.Layer], ...]:
    """The float layer classes that ``quantizable_layer_type`` names.

    Raises:
        ConfigError: a type slimkit does not quantize.
    """
    types: List[Type[nn.Layer]] = []
    for name in names:
        text = name if isinstance(name, str) else getattr(name, "__name__", repr(name))
        if text not in QUANTIZED:
            close = nearest(text, list(QUANTIZED))
            raise ConfigError(
                f"quantizable_layer_type: '{text}' cannot be quantized; allowed are {', '.join(QUANTIZED)}"
                + (f"; did you mean '{close}'?" if close else ".")
            )
        types.append(QUANTIZED[text].float_type)
    if not types:
        raise ConfigError(f"quantizable_layer_type is empty; name some of {', '.join(QUANTIZED)}.")
    return tuple(dict.fromkeys(types))


def wrapped_layers(model: nn.Layer) -> Iterator[Tuple[str, QuantizedLayer]]:
    """(path, wrapper) of every wrapper in a network."""
    for name, layer in model.named_sublayers(include_self=True):
        if isinstance(layer, QuantizedLayer):
            yield name, layer


def named_places(model: nn.Layer) -> Iterator[Tuple[str, nn.Layer, str, nn.Layer]]:
    """(path, parent, name, layer) of every place where a layer is registered, also a layer's second place.

    What is inside a wrapper is left out.
    """
    seen: Set[int] = set()
    waiting: List[Tuple[str, nn.Layer]] = [("", model)]
    while waiting:
        path, parent = waiting.pop(0)
        if id(parent) in seen or isinstance(parent, QuantizedLayer):
            continue
        seen.add(id(parent))
        for name, layer in parent._sub_layers.items():
            if layer is None:
                continue
            inner = f"{path}.{name}" if path else name
            yield inner, parent, name, layer
            waiting.append((inner, layer))


def quantizable(model: nn.Layer, types: Tuple[Type[nn.Layer], ...]) -> Tuple[Dict[str, nn.Layer], Dict[str, str]]:
    """The layers to quantize by path, and those of the types that stay float with the reason.

    ``skip_quant = True`` on a layer, or on one that contains it, leaves it float.
    """
    found: Dict[str, nn.Layer] = {}
    refused: Dict[str, str] = {}
    skipped: Set[int] = {id(model)} if getattr(model, "skip_quant", False) is True else set()
    known: Set[int] = set()
    for path, parent, _, layer in named_places(model):
        if getattr(layer, "skip_quant", False) is True or id(parent) in skipped:
            skipped.add(id(layer))
        if not isinstance(layer, types) or id(layer) in known:
            continue
        known.add(id(layer))
        reason = "skip_quant is set" if id(layer) in skipped else _reason(layer, types)
        if reason:
            refused[path] = reason
        else:
            found[path] = layer
    return found, refused


def _reason(layer: nn.Layer, types: Tuple[Type[nn.Layer], ...]) -> str:
    """Why a layer of a quantizable type cannot be, or an empty text."""
    base = next(kind for kind in types if isinstance(layer, kind))
    if type(layer).forward is not base.forward:
        return f"its class {type(layer).__name__} has a forward of its own"
    if layer._forward_pre_hooks:
        return "a forward pre-hook (weight norm, spectral norm) computes its weight"
    extra = [name for name in layer._parameters if name not in ("weight", "bias")]
    return f"it has a parameter besides weight and bias: {extra[0]}" if extra else ""


def mark_float(layers: Dict[str, nn.Layer], reasons: Dict[str, str]) -> None:
    """Notes on layers why quantize() left them float."""
    for path, reason in reasons.items():
        object.__setattr__(layers[path], _REASON, reason)


def left_float(layer: nn.Layer) -> str:
    """Why quantize() left a layer float; an empty text if it never met it."""
    return str(layer.__dict__.get(_REASON, ""))


def replace_layers(model: nn.Layer, make: Callable[[nn.Layer], Any], targets: Iterable[nn.Layer]) -> Dict[int, Any]:
    """Replaces layers wherever the network holds them: registered, or in lists, tuples and dicts of its layers.

    Detectors keep their heads in plain Python lists beside registering them; a wrapper the list does not have would
    never be called.

    Args:
        model: the network, changed in place.
        make: gives a layer's replacement; called once a layer.
        targets: the layers to replace.

    Returns:
        id of a replaced layer -> its replacement.
    """
    made = {id(layer): make(layer) for layer in targets}
    for _, parent, name, layer in list(named_places(model)):
        if id(layer) in made:
            parent._sub_layers[name] = made[id(layer)]
    seen: Set[int] = set()
    for layer in model.sublayers(include_self=True):
        if not isinstance(layer, QuantizedLayer):
            for name, value in vars(layer).items():
                if name not in ("_sub_layers", "_parameters", "_buffers") and isinstance(value, (list, tuple, dict)):
                    vars(layer)[name] = _replaced(value, made, seen)
    return made


def _replaced(value: Any, made: Dict[int, Any], seen: Set[int]) -> Any:
    """The container with layers replaced: lists and dicts in place, tuples anew."""
    if isinstance(value, nn.Layer):
        return made.get(id(value), value)
    if not isinstance(value, (list, tuple, dict)) or id(value) in seen:
        return value
    seen.add(id(value))
    if isinstance(value, tuple):
        items = tuple(_replaced(item, made, seen) for item in value)
        changed = type(value) is tuple and any(a is not b for a, b in zip(items, value))
        return items if changed else value
    for key, item in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        new = _replaced(item, made, seen)
        if new is not item:
            value[key] = new
    return value
