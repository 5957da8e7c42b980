"""What a ProgramDesc cannot hold, carried from program to program: Parameter objects, seeds, the LR scheduler."""

from __future__ import annotations

from typing import Any

from paddle.base.framework import Program

__all__ = ["copy_program_info", "hoist_parameters", "promote_to_parameter"]


def copy_program_info(source: Program, target: Program) -> None:
    """Carries over what a ProgramDesc cannot hold: Parameter objects, seeds, the attached LR scheduler.

    Args:
        source: the program the graph was built from.
        target: the program built from the edited description; changed in place.
    """
    block, old = target.global_block(), source.global_block()
    for param in old.all_parameters():
        if param.name in block.vars:
            promote_to_parameter(block, param.name, like=param)
    target.random_seed = source.random_seed
    for name in ("lr_scheduler", "lr_var", "_appending_grad_times"):
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))


def hoist_parameters(program: Program) -> None:
    """Moves what lives across runs out of control-flow blocks, where saving and loading do not look for it."""
    top = program.global_block()
    for block in program.blocks[1:]:
        for name, var in list(block.vars.items()):
            if not var.persistable:
                continue
            if not top.has_var(name):
                kind = {"shape": var.shape, "dtype": var.dtype, "type": var.type}
                top.create_var(name=name, persistable=True, stop_gradient=var.stop_gradient, **kind)
            block._remove_var(name)


def promote_to_parameter(block: Any, name: str, like: Any = None, trainable: bool = True) -> Any:
    """Turns a persistable Variable of a block into a ``Parameter`` in place.

    Args:
        block: the block that holds it.
        name: its name.
        like: a Parameter whose attributes it takes over.
        trainable: used when ``like`` is None.

    Returns:
        The Parameter.
    """
    from paddle.base.framework import Parameter

    var = block.vars[name]
    if isinstance(var, Parameter) and like is None:
        var.trainable = trainable
        var.stop_gradient = not trainable
        return var
    param = Parameter(
        block,
        shape=var.shape,
        dtype=var.dtype,
        type=var.type,
        name=name,
        stop_gradient=like.stop_gradient if like is not None else not trainable,
        trainable=like.trainable if like is not None else trainable,
        optimize_attr=like.optimize_attr if like is not None else {"learning_rate": 1.0},
        regularizer=like.regularizer if like is not None else None,
        error_clip=getattr(like, "error_clip", None),
    )
    if like is not None:
        param.need_clip = getattr(like, "need_clip", True)
        param.is_distributed = getattr(like, "is_distributed", False)
    block.vars[name] = param
    return param
