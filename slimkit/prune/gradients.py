"""Gradients of a loss over batches, for the Taylor criteria."""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from typing import Any, Callable, Dict, Iterable

import numpy as np
import paddle

from slimkit.errors import ConfigError, ModelError, suggestion
from slimkit.ir import Model, legacy_ir
from slimkit.ir.graph_nodes import OpRole

__all__ = ["taylor_gradients"]

#: How batches are put together: what is added up, and what is made of the mean.
_STATISTICS: Dict[str, Any] = {
    "rms": (np.square, np.sqrt),
    "abs": (np.abs, lambda mean: mean),
    "mean": (lambda gradient: gradient, lambda mean: mean),
}


def taylor_gradients(model: Model, loss: str, feeds: Iterable[Any], statistic: str = "rms") -> Dict[str, np.ndarray]:
    """Gradients of a loss with respect to every trainable parameter, over batches.

    Molchanov et al. 2019 (arXiv:1906.10771, section 3) average the importance of a weight over batches. As it is
    ``(g w)^2`` with w fixed, that is the importance for the root mean square of g; for ``taylor_abs`` it is the mean
    magnitude. The mean gradient itself vanishes in a trained network.

    Args:
        model: a network with a loss: for training, before or after ``minimize``; see :func:`slimkit.ir.to_training` for
            one without. Neither it nor its parameters are changed, batch norms' statistics included.
        loss: name of the loss.
        feeds: one feed a batch, see ``Model.run``.
        statistic: over batches: ``rms`` for the criterion ``taylor``, ``abs`` for ``taylor_abs``, ``mean`` for the
            gradient of the mean loss.

    Returns:
        Parameter -> float64 of its shape.

    Raises:
        ConfigError: no such statistic, or no batch.
        ModelError: there is no such loss, no parameter it depends on is trainable, or a gradient is not finite.
    """
    if statistic not in _STATISTICS:
        known = ", ".join(_STATISTICS)
        raise ConfigError(f"statistic = {statistic!r} is none of {known}{suggestion(statistic, _STATISTICS)}")
    work = model.clone(copy_params=True)
    names = _append_gradients(work, loss)
    add, finish = _STATISTICS[statistic]
    sums: Dict[str, np.ndarray] = {}
    count = 0
    for feed in feeds:
        count += 1
        for name, gradient in zip(names, work.run(feed, list(names.values()))):
            if not np.isfinite(gradient).all():
                raise ModelError(f"The gradient of '{name}' is not finite in batch {count}; look at the loss there.")
            sums[name] = sums.get(name, 0.0) + add(gradient.astype(np.float64))
    if not count:
        raise ConfigError("Gradients need at least one batch and no feed was given; pass some batches.")
    done: Callable[[np.ndarray], np.ndarray] = finish
    return {name: done(total / count) for name, total in sums.items()}


def _append_gradients(model: Model, loss: str) -> Dict[str, str]:
    """Makes the program forward and backward, without updates; returns parameter -> its gradient's variable."""
    with legacy_ir(), paddle.static.program_guard(model.program):
        block = model.program.global_block()
        if loss not in block.vars:
            raise ModelError(f"The model has no variable '{loss}' to differentiate{suggestion(loss, block.vars)}")
        later = OpRole.BACKWARD | OpRole.OPTIMIZE | OpRole.LR_SCHEDULE
        for index in reversed(range(len(block.ops))):
            if block.ops[index].attr("op_role") & later:
                block._remove_op(index)
        pairs = paddle.static.append_backward(block.var(loss)) if block.all_parameters() else []
    names = {parameter.name: gradient.name for parameter, gradient in pairs if gradient is not None}
    if not names:
        raise ModelError(
            f"The loss '{loss}' depends on no trainable parameter; give the training model, or make one by "
            "slimkit.ir.to_training(model)."
        )
    return names
