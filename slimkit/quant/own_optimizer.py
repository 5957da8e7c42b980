"""An optimizer of its own for parameters that passes create (PACT's alpha, hooks' parameters).

The update ops are made by the user's ``paddle.optimizer`` in a small program of their own, all parameters at once,
and grafted into the training graph behind the gradients; their accumulators are initialised in the scope.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional

import paddle

from slimkit.errors import ConfigError
from slimkit.ir.graph import Graph, GraphVar, OpRole, promote_to_parameter
from slimkit.ir.guards import legacy_ir

__all__ = ["attach_optimizer", "graft"]


@legacy_ir()
def attach_optimizer(
    graph: Graph,
    gradients: Mapping[str, GraphVar],
    make_optimizer: Callable[[], Any],
    scope: Any,
    place: Any,
    executor: Optional[Any] = None,
    floor: Optional[float] = None,
) -> List[str]:
    """Adds the update ops for parameters whose gradients are in the graph.

    Args:
        graph: the training graph.
        gradients: parameter name -> gradient variable.
        make_optimizer: returns a ``paddle.optimizer.Optimizer``; its weight decay is the L2 on these parameters.
        scope: gets accumulators and the learning rate.
        place: device of the initialisation.
        executor: runs it; None: a new one.
        floor: parameters are kept at or above this.

    Returns:
        Names of the persistable variables that were added (accumulators, learning rate).

    Raises:
        ConfigError: ``make_optimizer`` does not return an optimizer.
    """
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard("own_optimizer."):
        block = main.global_block()
        pairs = []
        for name, gradient in gradients.items():
            var = graph.var(name)
            block.create_var(name=name, shape=list(var.shape), dtype="float32", persistable=True)
            parameter = promote_to_parameter(block, name, trainable=True)
            pairs.append((parameter, block.create_var(name=gradient.name, shape=list(var.shape), dtype="float32")))
        optimizer = make_optimizer()
        if not isinstance(optimizer, paddle.optimizer.Optimizer):
            raise ConfigError(
                f"optimizer_func must return a paddle.optimizer.Optimizer, it returned {type(optimizer).__name__}."
            )
        optimizer.apply_gradients(pairs)
        names = [v.name for v in block.vars.values() if v.persistable and v.name not in gradients]
        (executor or paddle.static.Executor(place)).run(startup, scope=scope)
    known = {**{n: graph.var(n) for n in gradients}, **{v.name: v for v in gradients.values()}}
    graft(graph, block, known, OpRole.OPTIMIZE)
    if floor is not None:
        for name in gradients:
            last = graph.var(name)
            attrs = {"min": float(floor), "max": 3e38}
            graph.insert_op("clip", {"X": last}, {"Out": graph.new_version(last)}, attrs, OpRole.OPTIMIZE)
    return names


def graft(
    graph: Graph, block: Any, known: Dict[str, GraphVar], role: Optional[int] = None, prefix: str = ""
) -> Dict[str, GraphVar]:
    """Copies the ops of a program's block into a graph.

    Args:
        graph: where to.
        block: the global block of a legacy program.
        known: the block's variables that are the graph's own already.
        role: op role of the copies; None keeps theirs.
        prefix: put before the names of the block's temporaries, which may stand in the graph already.

    Returns:
        Name in the block -> variable in the graph, the last version each.
    """
    here = dict(known)
    for op in block.ops:
        for name in op.input_arg_names:
            if name not in here:
                here[name] = _bring(graph, block, name, prefix)
        inputs = {n: here[n] for n in op.input_arg_names}
        outputs: Dict[str, GraphVar] = {}
        for name in op.output_arg_names:
            held = here.get(name)
            if held is None:
                outputs[name] = _bring(graph, block, name, prefix)
            else:
                outputs[name] = graph.new_version(held)
        added = graph.insert_op_desc(op.desc, inputs, outputs)
        if role is not None:
            added.set_attr("op_role", role)
        here.update(outputs)
    return here


def _bring(graph: Graph, block: Any, name: str, prefix: str) -> GraphVar:
    var = block.vars[name]
    if var.persistable and graph.has_var(name):
        return graph.var(name)
    new_name = name if var.persistable else f"{prefix}{name}"
    return graph.create_var(new_name, var.shape, var.dtype, var.persistable, var.stop_gradient)
