"""Dygraph layer -> PIR program, leaving the layer as it was.

``paddle.jit.to_static`` replaces ``layer.forward`` by a StaticFunction for good. Here Paddle's tracer is called
below that, on a throw-away wrapper, so the user's layer keeps its forward, its mode and its place.
"""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Union

import numpy as np
import paddle
from paddle import nn
from paddle.jit.dy2static import program_translator
from paddle.jit.dy2static.function_spec import FunctionSpec
from paddle.jit.dy2static.program_translator import ConcreteProgram, StaticFunction
from paddle.jit.dy2static.utils import Backend
from paddle.static import InputSpec

from slimkit.errors import ModelError
from slimkit.ir.appended_ops import appended_ops

__all__ = ["Trace", "converted_once", "mode", "trace"]


@dataclass(frozen=True)
class Trace:
    """A PIR program with what it needs to run.

    Attributes:
        program: ``paddle.pir.Program``.
        inputs: PIR values of the feeds, in the order of the input spec.
        outputs: PIR values of the results, flattened, in order.
        params: name -> array, of parameters and buffers.
        trainable: names that an optimizer may change.
    """

    program: Any
    inputs: List[Any]
    outputs: List[Any]
    params: Dict[str, np.ndarray]
    trainable: frozenset


class _Root(nn.Layer):
    """Calls the traced layer through ``__call__``, so its hooks run and its first argument may have any name."""

    def __init__(self, target: Callable) -> None:
        super().__init__()
        self.target = target

    def forward(self, *inputs: Any) -> Any:
        return self.target(*inputs)


def trace(target: Union[nn.Layer, Callable], input_spec: Sequence[Any], *, train: bool) -> Trace:
    """Traces ``target`` into a PIR program.

    Args:
        target: a Layer (also one whose forward is a StaticFunction already), or a function.
        input_spec: one ``InputSpec`` (or a nest of them, or a Tensor to take shape and dtype from) per argument.
        train: whether to trace in train mode. The layer's own mode is restored afterwards.

    Raises:
        ModelError: the layer's Python code cannot be traced with this spec.
    """
    specs = _normalise(input_spec)
    root = _Root(target)
    with mode(root, train), _clean_forwards(root), converted_once():
        function = type(root).forward
        try:
            with paddle.pir_utils.DygraphPirGuard(), appended_ops() as appended:
                program = ConcreteProgram.pir_from_func_spec(
                    FunctionSpec(function, specs), specs, {}, root, backend=Backend.PHI
                )
        except Exception as error:
            name = type(target).__name__ if isinstance(target, nn.Layer) else getattr(target, "__name__", "function")
            raise ModelError(
                f"{name} cannot be traced with {_describe(specs)}: {_last_line(error)}; "
                "give one InputSpec per argument of forward, with the shapes the layer accepts."
            ) from error
    return _collect(program, appended)


def _collect(concrete: ConcreteProgram, appended: Mapping[int, Any]) -> Trace:
    tensors, values = concrete.parameters
    params, trainable = {}, set()
    for tensor, value in zip(tensors, values):
        name = value.name
        params[name] = tensor.numpy()
        if not tensor.stop_gradient and getattr(tensor, "trainable", True):
            trainable.add(name)
    is_value = paddle.pir.Value
    inputs = [v for v in paddle.utils.flatten(list(concrete.inputs)[1:]) if isinstance(v, is_value)]
    outputs = [appended.get(v.id, v) for v in paddle.utils.flatten(concrete.outputs) if isinstance(v, is_value)]
    return Trace(concrete.main_program, inputs, outputs, params, frozenset(trainable))


def _normalise(input_spec: Sequence[Any]) -> List[Any]:
    """Names every spec and marks feeds as needing no gradient.

    Raises:
        ModelError: two have one name.
    """
    if isinstance(input_spec, (InputSpec, paddle.Tensor)):
        input_spec = [input_spec]
    names: List[str] = []

    def convert(item: Any) -> Any:
        if isinstance(item, paddle.Tensor):
            item = InputSpec.from_tensor(item)
        if not isinstance(item, InputSpec):
            return item
        names.append(item.name or f"x{len(names)}")
        shape = [-1 if side is None else side for side in item.shape]
        return InputSpec(shape, item.dtype, names[-1], stop_gradient=True)

    specs = list(paddle.utils.map_structure(convert, list(input_spec)))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ModelError(f"Two inputs of the spec are named '{twice}'; feeds are found by name, so give each its own.")
    return specs


@contextmanager
def mode(root: nn.Layer, train: bool) -> Iterator[None]:
    """Sets train or eval mode on every sublayer and restores each one's own."""
    before = [(layer, layer.training) for layer in root.sublayers(include_self=True)]
    for layer, _ in before:
        layer.training = train
    try:
        yield
    finally:
        for layer, training in before:
            layer.training = training


@contextmanager
def _clean_forwards(root: nn.Layer) -> Iterator[None]:
    """Undoes what tracing leaves in layers' attributes: a ``forward``, and what the layers' code keeps of its inputs.

    A forward that ``to_static`` has replaced, and which runs in dynamic mode only, is the original one meanwhile.
    """
    layers = root.sublayers(include_self=True)
    had = [dict(vars(layer)) for layer in layers]
    dynamic = paddle.in_dynamic_mode()
    try:
        for layer in layers:
            if isinstance(layer.forward, StaticFunction):
                vars(layer)["forward"] = layer.forward.dygraph_function
        yield
    finally:
        for layer, before in zip(layers, had):
            own = vars(layer)
            for name in [name for name in own if name not in before]:
                del own[name]
            own.update(before)
        if dynamic and not paddle.in_dynamic_mode():
            paddle.disable_static()


@contextmanager
def converted_once() -> Iterator[None]:
    """Converts each forward's source once while its body runs.

    Paddle keeps converted code under the bound method it was called by, which is a new object at every call, so that
    each call of each layer is converted anew: three quarters of the time a quantized detector takes to trace.
    """
    cache = getattr(program_translator, "_FUNCTION_CACHE", None)
    if cache is None or not hasattr(cache, "convert_with_cache") or "convert_with_cache" in vars(cache):
        yield  # another Paddle, or done already around this
        return
    own = cache.convert_with_cache
    cache.convert_with_cache = lambda function: own(getattr(function, "__func__", function))
    try:
        yield
    finally:
        del cache.convert_with_cache


def _describe(specs: Sequence[Any]) -> str:
    flat = [spec for spec in paddle.utils.flatten(list(specs)) if isinstance(spec, InputSpec)]
    return "inputs " + ", ".join(f"{spec.name} {list(spec.shape)}" for spec in flat)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line]
    return (named or lines or ["no message"])[-1].rstrip(".")
