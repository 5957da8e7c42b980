"""``save_model`` and ``load_model``: a pruned program's parameters with their shapes, in PaddleSlim's files.

``DIR.pdparams``, ``DIR.pdopt`` and ``DIR.pdmodel`` are those of ``paddle.static.save``; ``DIR/__shapes__`` (JSON:
parameter -> shape) and ``DIR/__groups__`` (JSON: filter -> groups of its convolution) are PaddleSlim's.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple, Union

import numpy as np

from slimkit.errors import ModelError, nearest
from slimkit.files import atomic_write
from slimkit.ir.guards import legacy_ir
from slimkit.ir.params import Params, persistable_names, set_tensor
from slimkit.prune.apply import cut, find_groups, prune_program
from slimkit.prune.static.pruner import legacy_program
from slimkit.prune.static.shapes import check_shapes, declared_shapes, plan_for_shapes

__all__ = ["load_model", "save_model"]

SHAPES, GROUPS = "__shapes__", "__groups__"
Path_ = Union[str, Path]


def save_model(exe: Any, graph: Any, dirname: Path_) -> None:
    """Saves a pruned program's parameters, optimizer state and shapes; the values are those of the global scope.

    Args:
        exe: an ``Executor``; not needed, for PaddleSlim's sake.
        graph: the pruned legacy program.
        dirname: the folder of the shapes; the files of values are beside it, under its name.

    Raises:
        ModelError: the program is no legacy one, or the global scope lacks one of its parameters.
        SlimkitError: a file cannot be written.
    """
    import paddle
    from paddle.static.io import is_parameter

    program, folder = legacy_program(graph), Path(dirname)
    values = Params(program, paddle.static.global_scope())
    block = program.global_block()
    weights: Dict[str, np.ndarray] = {}
    state: Dict[str, np.ndarray] = {}
    for name in persistable_names(program):
        if name not in values:
            raise ModelError(
                f"The global scope has no value of '{name}'; run inside paddle.static.scope_guard(scope) with the "
                "scope the program was trained in."
            )
        (weights if is_parameter(block.var(name)) else state)[name] = values[name]
    shapes = {name: list(array.shape) for name, array in {**weights, **state}.items()}
    atomic_write(_beside(folder, "pdparams"), pickle.dumps(weights, protocol=4))
    atomic_write(_beside(folder, "pdopt"), pickle.dumps(state, protocol=4))
    atomic_write(_beside(folder, "pdmodel"), program.desc.serialize_to_string())
    atomic_write(folder / GROUPS, json.dumps(_conv_groups(program)).encode())
    atomic_write(folder / SHAPES, json.dumps(shapes).encode())


def load_model(exe: Any, graph: Any, dirname: Path_) -> None:
    """Makes a program of the network's full size the pruned one that was saved, and loads its parameters.

    Shapes and attributes of ``graph`` are changed in place; the values go to the global scope. Optimizer state that is
    not in the files, as when an evaluation program was saved, is cut to size where it has a value.

    Args:
        exe: an ``Executor``, whose place the values are put on.
        graph: the legacy program of the network, as it is built; or one that was loaded into before.
        dirname: as given to :func:`save_model`.

    Raises:
        ModelError: files are missing or damaged, or of another network.
    """
    import paddle

    program, folder = legacy_program(graph), Path(dirname)
    shapes = _read_shapes(folder / SHAPES)
    weights, state = _read(_beside(folder, "pdparams")), {}
    if _beside(folder, "pdopt").is_file():
        state = _read(_beside(folder, "pdopt"))
    block = program.global_block()
    names = [var.name for var in block.all_parameters()]
    missing = next((name for name in names if name not in weights), None)
    if missing is not None:
        close = nearest(missing, weights)
        raise ModelError(
            f"{_beside(folder, 'pdparams')} has no '{missing}', which the program has"
            + (f" (it has '{close}')" if close else "")
            + "; build the network that was saved, under the same names."
        )
    slices = _shrink(program, {name: shape for name, shape in shapes.items() if block.has_var(name)})
    scope, place = paddle.static.global_scope(), getattr(exe, "place", None) or paddle.CPUPlace()
    for name in persistable_names(program):
        value = weights.get(name, state.get(name))
        if value is not None:
            set_tensor(scope, name, value, place)
    held = Params(program, scope)
    for name, axes in slices.items():
        if name not in weights and name not in state and name in held:
            set_tensor(scope, name, cut(held[name], axes), place)


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f"{folder.name}.{suffix}")


def _conv_groups(program: Any) -> Dict[str, int]:
    ops = [op for op in program.global_block().ops if "conv2d" in op.type and "Filter" in op.input_names]
    return {op.input("Filter")[0]: op.attr("groups") for op in ops}


# ------------------------------------------------------------------------------------------------ reading


def _read_shapes(path: Path) -> Dict[str, List[int]]:
    try:
        found = json.loads(path.read_bytes())
        return {str(name): [int(side) for side in shape] for name, shape in found.items()}
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}; give the name that was passed to save_model."
        ) from None
    except (ValueError, TypeError, AttributeError):
        raise ModelError(f"{path} is damaged: it must be JSON, parameter -> shape; save the model again.") from None


def _read(path: Path) -> Dict[str, np.ndarray]:
    import paddle

    if not path.is_file():
        raise ModelError(f"{path} does not exist; give the name that was passed to save_model.")
    try:
        found = paddle.load(str(path), return_numpy=True)
        return {str(name): np.asarray(value) for name, value in found.items() if hasattr(value, "shape")}
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ModelError(
            f"{path} cannot be read as parameters ({type(error).__name__}); save the model again."
        ) from None


# ------------------------------------------------------------------------------------------------ the program


def _shrink(program: Any, shapes: Mapping[str, List[int]]) -> Dict[str, Dict[int, np.ndarray]]:
    """Gives a program the shapes of a pruned one, in place; returns what goes of each variable."""
    declared = declared_shapes(program)
    plan = plan_for_shapes(find_groups(program), declared, shapes)
    smaller, slices = prune_program(program, plan)
    check_shapes(declared, declared_shapes(smaller), shapes)
    with legacy_ir():
        for mine, its in zip(program.blocks, smaller.blocks):
            _copy_shapes(its, mine)
            _copy_attributes(its, mine)
    return slices


def _copy_shapes(source: Any, target: Any) -> None:
    for name, var in source.vars.items():
        if name not in target.vars or not _has_shape(var) or list(var.shape) == list(target.vars[name].shape):
            continue
        target.vars[name].desc.set_shape(list(var.shape))


def _has_shape(var: Any) -> bool:
    from paddle.base import core

    return bool(var.desc.type() == core.VarDesc.VarType.DENSE_TENSOR)


def _copy_attributes(source: Any, target: Any) -> None:
    """Sets attributes that differ; ops are found by what they write."""
    edited: Dict[Tuple[str, ...], List[Any]] = {}
    for op in source.ops:
        edited.setdefault((op.type, *op.output_arg_names), []).append(op)
    for op in target.ops:
        found = edited.get((op.type, *op.output_arg_names))
        if not found:
            continue
        other = found.pop(0)
        for name in other.attr_names:
            if name in ("sub_block", "op_callstack") or not op.has_attr(name):
                continue
            value = other.attr(name)
            if value != op.attr(name):
                op._set_attr(name, value)
