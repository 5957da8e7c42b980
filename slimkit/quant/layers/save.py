"""A quantized dygraph network -> a file to deploy: trace in PIR, translate, take the grids out, freeze, write."""

from __future__ import annotations

import inspect
import logging
import os
import zlib  # noqa: F401  (must precede paddle)
from pathlib import Path
from typing import Any, List, Optional, Sequence, Union

import paddle
from paddle import nn

from slimkit.errors import ConfigError
from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.quant.export import export_program
from slimkit.quant.passes.extract_table import ExtractTable
from slimkit.quant.passes.read_observers import grid_key
from slimkit.quant.quantized import Quantized
from slimkit.quant.table import QuantParams, QuantTable

__all__ = ["given_spec", "layer_of", "save_quantized", "trace_quantized"]

_logger = logging.getLogger("slimkit")


def layer_of(model: Any) -> nn.Layer:
    """The network itself, out of a ``DataParallel`` or another of Paddle's wrappers, which hold it as ``_layers``.

    Raises:
        ConfigError: not a layer, or Paddle is in static mode.
    """
    if not isinstance(model, nn.Layer):
        raise ConfigError(f"the model is a {type(model).__name__}; give a paddle.nn.Layer.")
    if not paddle.in_dynamic_mode():
        raise ConfigError(
            f"{type(model).__name__} is a dygraph network and Paddle is in static mode; call paddle.disable_static() "
            "first."
        )
    while type(model).__module__.startswith("paddle.") and isinstance(getattr(model, "_layers", None), nn.Layer):
        model = model._layers  # a network of the user's may have an attribute of this name among others
    return model


def given_spec(layer: nn.Layer, input_spec: Optional[Sequence[Any]]) -> List[Any]:
    """The input spec: the one given, or that of a forward that ``to_static`` has wrapped.

    Raises:
        ConfigError: there is neither.
    """
    if input_spec is not None:
        specs = list(input_spec) if isinstance(input_spec, (list, tuple)) else [input_spec]
        if not any(isinstance(leaf, (paddle.static.InputSpec, paddle.Tensor)) for leaf in paddle.utils.flatten(specs)):
            kinds = ", ".join(type(leaf).__name__ for leaf in specs[:3]) or "nothing"
            raise ConfigError(
                f"input_spec holds no input, it is made of {kinds}; give a list with one paddle.static.InputSpec or "
                "tensor (or a nest of them) for each argument of forward."
            )
        return _named(layer, specs)
    found = getattr(layer.forward, "_input_spec", None)
    if found is None:
        found = getattr(getattr(layer.forward, "_function_spec", None), "_input_spec", None)
    if not found:
        raise ConfigError(
            f"{type(layer).__name__} was given no input_spec; pass input_spec=[paddle.static.InputSpec(shape=[None, 3, "
            "224, 224], dtype='float32')], one for each argument of forward, or wrap the model by paddle.jit.to_static "
            "with one."
        )
    return _named(layer, list(found))


def _named(layer: nn.Layer, specs: List[Any]) -> List[Any]:
    """Feeds without a name get that of forward's argument, as ``paddle.jit.save`` names them."""
    forward = getattr(layer.forward, "dygraph_function", layer.forward)
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [name for name, argument in inspect.signature(forward).parameters.items() if argument.kind in kinds]

    def convert(name: str, item: Any) -> Any:
        if isinstance(item, paddle.Tensor):
            item = paddle.static.InputSpec(item.shape, item.dtype)
        if isinstance(item, paddle.static.InputSpec):
            return paddle.static.InputSpec(item.shape, item.dtype, item.name or name)
        if isinstance(item, dict):
            return {key: convert(str(key), value) for key, value in item.items()}
        if isinstance(item, (list, tuple)):
            return type(item)([convert(f"{name}_{place}", value) for place, value in enumerate(item)])
        return item

    return [convert(name, spec) for name, spec in zip(names, specs)] + specs[len(names) :]


def trace_quantized(layer: nn.Layer, input_spec: Sequence[Any]) -> Quantized:
    """Traces a network whose layers emit fake-quant ops.

    Args:
        layer: the network, in the form that is exported.
        input_spec: one ``InputSpec`` (or a nest of them) per argument of forward.

    Returns:
        The float model and the grids that the fake-quant ops stood for.
    """
    model = Model.from_layer(layer, input_spec)
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        table = _OwnGrids(model.scope).apply(graph)
        model.program = graph.to_program()
    return Quantized(model, table)


class _OwnGrids(ExtractTable):
    """Layers that read one tensor keep each the grid that it was trained with."""

    def _key(self, table: QuantTable, params: QuantParams) -> str:
        return grid_key(table, params)


def save_quantized(quantized: Quantized, path: Union[str, Path], fmt: str) -> Path:
    """Writes ``path.pdmodel`` and ``path.pdiparams``.

    Args:
        quantized: what to write.
        path: prefix, ``dirname/file_prefix``.
        fmt: ``onnx`` or ``old``.

    Raises:
        ConfigError: the path names no file.
    """
    if not isinstance(path, (str, Path)) or os.path.basename(path) in ("", ".", ".."):
        raise ConfigError(f"path = {path!r} names no file; give folder and name in one, such as 'output/model'.")
    written = export_program(quantized.model, quantized.table, fmt).save(path)
    _logger.info(
        "saved %s: %d quantized ops; for a file that a runtime computes in integers: "
        "slimkit export %s OUT --to paddle,onnx,lite-arm", written, len(quantized.table.ops), written.with_suffix(""),
    )  # fmt: skip
    return written
