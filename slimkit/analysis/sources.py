"""Whatever holds a network -> a ``Model`` to count."""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import paddle
from paddle import nn
from paddle.base import core
from paddle.base.framework import Program
from paddle.static import InputSpec

from slimkit.analysis.op_view import forward_ops, sub_block
from slimkit.errors import ConfigError, ModelError
from slimkit.ir import Model, from_pir, legacy_ir
from slimkit.ir.params import new_scope

__all__ = ["layer_model", "model_of", "numpy_type", "parameter_shapes", "stripped"]


def model_of(network: Any) -> Model:
    """Returns the model in ``network``: a Model, a program of either format, or the path of a saved model.

    Raises:
        ModelError: it is something else, or a PIR program with an op slimkit does not know.
    """
    if isinstance(network, Model):
        return network
    if isinstance(network, (str, Path)):
        return Model.load(network)
    program = getattr(network, "_program", network)  # a CompiledProgram
    if isinstance(program, Program):
        return Model(program, paddle.static.global_scope(), _feeds(program), [])
    if isinstance(program, paddle.pir.Program):
        return _from_pir(program)
    raise ModelError(
        f"A {type(network).__name__} is no network that can be counted; give a Model, a program, the path of a saved "
        "model, or a Layer with its input shapes."
    )


def _feeds(program: Program) -> List[str]:
    """What the forward pass reads and nothing of it computes, but parameters."""
    desc, made = program.desc, set()
    feeds: Dict[str, None] = {}
    for number, op in forward_ops(desc):
        block = desc.block(number)
        if sub_block(op) < 0:
            for name in op.input_arg_names():
                var = block.find_var_recursive(name.encode())
                if name not in made and _is_tensor(var) and not var.persistable():
                    feeds.setdefault(name)
        made.update(op.output_arg_names())
    inner = {name for i in range(1, desc.num_blocks()) for name in _names(desc.block(i))}
    return [name for name in feeds if name not in inner]


def _is_tensor(var: Any) -> bool:
    return var is not None and var.type() == core.VarDesc.VarType.DENSE_TENSOR


def _names(block: Any) -> List[str]:
    return [var.name() for var in block.all_vars()]


def _from_pir(program: Any) -> Model:
    """The forward pass of a PIR program; its results are what it fetches, or else what nothing of it reads."""
    ops = program.global_block().ops
    length = next((i for i, op in enumerate(ops) if op.name().rstrip("_").endswith("_grad")), len(ops))
    if length < len(ops):
        program = program.clone()
        for op in reversed(program.global_block().ops[length:]):
            program.global_block().remove_op(op)
        ops = program.global_block().ops
    outputs = None
    if not any(op.name() in ("pd_op.fetch", "builtin.shadow_output") for op in ops):
        read = {value.id for op in ops for value in op.operands_source() if value.initialized()}
        sources = ("builtin.parameter", "builtin.set_parameter", "pd_op.data", "pd_op.feed")
        results = [v for op in ops if op.name() not in sources for v in op.results() if v.initialized()]
        outputs = [value for value in results if value.id not in read]
    return from_pir(program, _values(paddle.static.global_scope(), _pir_parameters(ops)), outputs)


def _pir_parameters(ops: Sequence[Any]) -> List[str]:
    return [op.attrs()["parameter_name"] for op in ops if op.name() == "builtin.parameter"]


def _values(scope: Any, names: Sequence[str]) -> Dict[str, np.ndarray]:
    found = {}
    for name in names:
        var = scope.find_var(name)
        if var is not None and var.get_tensor()._is_initialized():
            found[name] = np.array(var.get_tensor())
    return found


def parameter_shapes(program: Any, exclude: Optional[Mapping[str, Tuple[str, ...]]] = None) -> Dict[str, List[int]]:
    """Parameters the forward pass reads, batch norms' statistics too, in program order: name -> shape.

    Args:
        program: ``core.ProgramDesc``.
        exclude: op type -> its only input slots that count.
    """
    found: Dict[str, List[int]] = {}
    for number, op in forward_ops(program):
        block = program.block(number)
        slots = (exclude or {}).get(op.type(), op.input_names())
        for name in (name for slot in slots if slot in op.input_names() for name in op.input(slot)):
            var = block.find_var_recursive(name.encode())
            if _is_tensor(var) and var.persistable():
                found.setdefault(name, list(var.shape()))
    return found


# ------------------------------------------------------------------ layers


def layer_model(
    layer: nn.Layer, inputs: Any, dtypes: Optional[Union[str, Sequence[str]]] = None
) -> Tuple[Model, Dict[str, np.ndarray]]:
    """Traces a layer in eval mode with dummy inputs; the layer is left as it was.

    Args:
        layer: it.
        inputs: a shape (``[1, 3, 224, 224]``), a list of shapes, or the list of forward's arguments: tensors, arrays,
            ``InputSpec``, dicts and lists of them, other values as they are. What is no list is the only argument.
        dtypes: of shapes; one for all or one each; None: float32.

    Returns:
        The model, and the values of its feeds that were given, by name.

    Raises:
        ConfigError: the inputs are no shapes and no arguments, or dtypes do not match them.
        ModelError: the layer cannot be traced with them.
    """
    arrays: List[Optional[np.ndarray]] = []

    def spec(value: Any) -> Any:
        if isinstance(value, paddle.Tensor):
            value = value.detach().numpy()
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return InputSpec(list(value.shape), str(value.dtype), f"x{len(arrays) - 1}")
        if isinstance(value, InputSpec):
            arrays.append(None)
            return InputSpec(value.shape, value.dtype, f"x{len(arrays) - 1}")
        return value

    given = _shapes(inputs, dtypes)
    if given is None:
        given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    specs = [_map(spec, argument) for argument in given]
    if not arrays:
        raise ConfigError(
            f"inputs={inputs!r} holds no tensor and no shape to run {type(layer).__name__} on; give a shape such as "
            "[1, 3, 224, 224], a list of shapes, or the list of forward's arguments."
        )
    model = Model.from_layer(layer, specs)
    values = {f"x{i}": array for i, array in enumerate(arrays) if array is not None}
    return model, {name: values[name] for name in model.feeds if name in values}


def _map(function: Any, value: Any) -> Any:
    """Applies a function to the leaves of dicts, lists and tuples; dicts keep their keys' order."""
    if isinstance(value, dict):
        return {key: _map(function, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_map(function, item) for item in value])
    return function(value)


def _shapes(inputs: Any, dtypes: Optional[Union[str, Sequence[str]]]) -> Optional[List[InputSpec]]:
    """The specs of a shape or a list of shapes, None when ``inputs`` is neither."""
    shapes = [inputs] if _is_shape(inputs) else inputs
    if not isinstance(shapes, (list, tuple)) or not shapes or not all(_is_shape(shape) for shape in shapes):
        return None
    names = [dtypes or "float32"] * len(shapes) if dtypes is None or isinstance(dtypes, str) else list(dtypes)
    if len(names) != len(shapes):
        raise ConfigError(f"{len(shapes)} input shapes and {len(names)} dtypes were given; give one dtype each.")
    return [InputSpec(list(shape), dtype) for shape, dtype in zip(shapes, names)]


def _is_shape(value: Any) -> bool:
    whole = (int, np.integer)
    return isinstance(value, (list, tuple)) and bool(value) and all(
        isinstance(side, whole) and not isinstance(side, bool) for side in value
    )  # fmt: skip


def stripped(model: Model) -> Model:
    """A copy of a model to run: forward pass only, in test mode, without feed and fetch ops, its parameters its own.

    Parameters without a value are ones.
    """
    with legacy_ir():
        program = model.program.clone(for_test=True)
        block = program.global_block()
        for index in reversed(range(len(block.ops))):
            if block.ops[index].type in ("feed", "fetch"):
                block._remove_op(index)
    shapes = parameter_shapes(program.desc)
    values = _values(model.scope, list(shapes))
    for name, shape in shapes.items():
        if name not in values:
            values[name] = np.ones([max(side, 1) for side in shape], numpy_type(block.vars[name].dtype))
    return Model(program, new_scope(values), model.feeds, model.fetches)


def numpy_type(dtype: Any) -> str:
    """Returns numpy's name of a variable's type; float32 where numpy has none."""
    from paddle.base.data_feeder import convert_dtype

    name = convert_dtype(dtype)
    return "float32" if name in ("bfloat16", "uint16") else name
