"""Making channels go: physically, or by zeros in their place."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from paddle.base import core
from paddle.base.framework import Program

from slimkit.errors import ConfigError, ModelError, suggestion
from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.ir.params import new_scope
from slimkit.prune.channels import Channels
from slimkit.prune.groups import Groups
from slimkit.prune.plan import Plan
from slimkit.prune.rules import RULES
from slimkit.prune.sizes import Sizes

__all__ = [
    "cut",
    "find_groups",
    "mask_arrays",
    "masked_model",
    "prune_channels",
    "prune_model",
    "prune_program",
    "pruned_arrays",
]


def find_groups(
    model: Any,
    fetches: Optional[Sequence[str]] = None,
    *,
    editable: bool = True,
    layer_norm: bool = False,
    from_shapes: bool = False,
) -> Groups:
    """Finds which channels of a network can go, and what goes with them.

    Args:
        model: a :class:`slimkit.ir.Model`, or a legacy program (for inference or training).
        fetches: names of results, which keep their channels; None: the model's, or whatever no op of a program reads.
        editable: ops' attributes may be rewritten; False for the trace of a layer whose code stays.
        layer_norm: also let channels go that a layer_norm takes its mean over; then the network with zeros in their
            place computes something else than the pruned one.
        from_shapes: where ``editable`` is False: take it that the layer's code computes the numbers in its reshapes
            from shapes; :mod:`slimkit.prune.layers` tries whether it does.
    """
    program, fetches = _program_of(model, fetches)
    with legacy_ir():
        return Channels(Graph(program), fetches, editable, layer_norm, from_shapes).groups


def _program_of(model: Any, fetches: Optional[Sequence[str]]) -> Tuple[Any, Optional[Sequence[str]]]:
    program, results = (model.program, model.fetches) if isinstance(model, Model) else (model, None)
    if fetches is not None and isinstance(program, Program):
        fetches = [fetches] if isinstance(fetches, str) else fetches
        names = program.global_block().vars
        unknown = next((name for name in fetches if name not in names), None)
        if unknown is not None:
            raise ConfigError(f"fetches: the network has no tensor '{unknown}'{suggestion(str(unknown), names)}")
    return program, results if fetches is None else fetches


def _checked(model: Any, plan: Any) -> None:
    if not isinstance(model, Model) or not isinstance(plan, Plan):
        raise ConfigError(
            "A slimkit.Model and a slimkit.prune.Plan of its groups are needed, not "
            f"{type(model).__name__} and {type(plan).__name__}; for a Layer take slimkit.dygraph's pruners, for a "
            "program slimkit.prune.Pruner."
        )


def prune_model(model: Model, plan: Plan) -> Model:
    """Removes a plan's channels from a network.

    Args:
        model: the network; it is not changed.
        plan: what goes, made from the groups of this network.

    Returns:
        A smaller model with parameters of its own.

    Raises:
        ModelError: the plan is of another network.
    """
    _checked(model, plan)
    program, slices = prune_program(model.program, plan, model.fetches)
    params = model.params
    smaller = pruned_arrays(params, slices)
    scope = new_scope({name: smaller[name] if name in smaller else params[name] for name in params})
    return Model(program, scope, model.feeds, model.fetches)


def prune_program(
    program: Any, plan: Plan, fetches: Optional[Sequence[str]] = None
) -> Tuple[Any, Dict[str, Dict[int, np.ndarray]]]:
    """Removes a plan's channels from a program: attributes and declared shapes, not values.

    Returns:
        The smaller program, and what goes of each variable that outlives a run (parameters, and the optimizer's
        accumulators): name -> axis -> indices.
    """
    with legacy_ir():
        graph = Graph(program)
        return prune_channels(Channels(graph, fetches, plan.groups.editable, plan.groups.layer_norm), plan)


def prune_channels(channels: Channels, plan: Plan) -> Tuple[Any, Dict[str, Dict[int, np.ndarray]]]:
    """The same as :func:`prune_program` for a program analysed already; its graph is edited, so this is done once."""
    with legacy_ir():
        graph = channels.graph
        sizes = Sizes(channels.flow, channels.removed(plan))
        for op in graph.ops():
            rule = RULES.get(op.type)
            if rule is not None and rule.resize is not None and op.is_forward:
                rule.resize(sizes, op)
        slices = plan.slices()
        _follow_backward(graph, sizes)
        slices.update(_accumulators(graph, slices))
        _declare(graph, sizes, slices)
        return graph.to_program(), slices


def _follow_backward(graph: Graph, sizes: Sizes) -> None:
    """Gradient ops repeat the attributes of their forward ops."""
    edits: Dict[Tuple[str, str], Dict[str, Any]] = {}
    for op, values in sizes.edits:
        for var in op.outputs:
            edits.setdefault((f"{op.type}_grad", f"{var.name}@GRAD"), {}).update(values)
    if not edits:
        return
    for op in graph.ops():
        if not op.is_backward:
            continue
        for name in op.desc.input_arg_names():
            for key, value in edits.get((op.type, name.split("@RENAME@")[0]), {}).items():
                if op.desc.has_attr(key):
                    op.set_attr(key, value)


def _accumulators(graph: Graph, slices: Mapping[str, Dict[int, np.ndarray]]) -> Dict[str, Dict[int, np.ndarray]]:
    """The optimizer's state of a parameter (velocity, moments, master weight) shrinks as the parameter does."""
    found: Dict[str, Dict[int, np.ndarray]] = {}
    for op in graph.ops():
        if "Param" not in op.desc.input_names():
            continue
        name = op.desc.input("Param")[0]
        parameter = op.input_var("Param")
        if name not in slices or parameter is None:
            continue
        for var in op.inputs:
            if var.persistable and var.name != name and var.shape == parameter.shape:
                found[var.name] = slices[name]
    return found


def _declare(graph: Graph, sizes: Sizes, slices: Mapping[str, Dict[int, np.ndarray]]) -> None:
    """Writes the new shapes into the variables' descriptions, gradients' too."""
    shapes: Dict[str, List[int]] = {}
    for var in graph.vars():
        if var.name in slices:
            shape = list(var.shape)
            for axis, indices in slices[var.name].items():
                shape[axis] -= len(indices)
            shapes[var.name] = shape
        elif _has_shape(var) and sizes.changed(var):
            declared = list(var.shape)
            new, old = sizes.new_shape(var), sizes.old_shape(var)
            shapes[var.name] = [n if n != o else d for n, o, d in zip(new, old, declared)]
    for var in graph.vars():
        base = var.name.split("@GRAD")[0]
        if base in shapes and (base == var.name or "@GRAD" in var.name) and len(var.shape) == len(shapes[base]):
            var.desc.set_shape(shapes[base])


def _has_shape(var: Any) -> bool:
    return bool(var.desc.type() == core.VarDesc.VarType.DENSE_TENSOR)


def cut(array: np.ndarray, axes: Mapping[int, np.ndarray]) -> np.ndarray:
    """Returns an array without some indices of some axes."""
    for axis, indices in axes.items():
        kept = np.ones(array.shape[axis], bool)
        kept[indices] = False
        array = np.compress(kept, array, axis)
    return np.ascontiguousarray(array)


def pruned_arrays(
    params: Mapping[str, np.ndarray], slices: Mapping[str, Dict[int, np.ndarray]]
) -> Dict[str, np.ndarray]:
    """The arrays that get smaller, smaller: only those that have values.

    Raises:
        ModelError: an array is shorter than the plan says, as after pruning twice.
    """
    found = {}
    for name, axes in slices.items():
        if name not in params:
            continue
        array = params[name]
        for axis, indices in axes.items():
            _check_length(name, array, axis, indices)
        found[name] = cut(array, axes)
    return found


def _check_length(name: str, array: np.ndarray, axis: int, indices: np.ndarray) -> None:
    if indices.size and (axis >= array.ndim or indices[-1] >= array.shape[axis]):
        raise ModelError(
            f"'{name}' of shape {list(array.shape)} has no index {int(indices[-1])} on axis {axis}; it was "
            "pruned already, or is of another network, so make a new plan."
        )


def mask_arrays(params: Mapping[str, np.ndarray], plan: Plan) -> Dict[str, np.ndarray]:
    """What a plan changes, with zeros wherever something would go: in filters, in what reads them, in vectors between.

    A network with these arrays computes the same as the pruned one.

    Args:
        params: the parameters by name.
        plan: what goes.

    Returns:
        Changed copies by name.
    """
    found = {}
    for name, axes in plan.zeros().items():
        if name in params:
            array = np.array(params[name])
            for axis, indices in axes.items():
                _check_length(name, array, axis, indices)
                array[(slice(None),) * axis + (indices,)] = 0
            found[name] = array
    return found


def masked_model(model: Model, plan: Plan) -> Model:
    """A copy of a network with zeros wherever a plan's channels would go.

    Raises:
        ModelError: the plan is of another network.
    """
    _checked(model, plan)
    missing = next((name for name in plan.slices() if name not in model.params), None)
    if missing is not None:
        raise ModelError(
            f"The plan removes channels of '{missing}', which this network does not have; make the plan from the "
            "groups of this network."
        )
    masked = model.clone(copy_params=True)
    for name, array in mask_arrays(model.params, plan).items():
        masked.params[name] = array
    return masked
