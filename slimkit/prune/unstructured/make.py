"""The unstructured pruner for what one has: a layer or a program, with a schedule or without."""

from __future__ import annotations

from typing import Any, Mapping, Optional

import paddle

from slimkit.errors import ConfigError
from slimkit.prune.unstructured import dygraph, static

__all__ = ["make_unstructured_pruner"]


def make_unstructured_pruner(
    model: Any,
    mode: str = "ratio",
    configs: Optional[Mapping[str, Any]] = None,
    *,
    ratio: float = 0.55,
    threshold: float = 0.01,
    **more: Any,
) -> Any:
    """Makes the pruner of a ``paddle.nn.Layer`` or a legacy ``paddle.static.Program``.

    Args:
        model: what to prune.
        mode: ``ratio`` or ``threshold``; with ``configs`` only ``ratio``.
        configs: those of a gradual pruner; None: the masks are computed anew at each step, at the full ratio.
        ratio: fraction of the weights to prune, in mode ``ratio``.
        threshold: weights of a smaller magnitude go, in mode ``threshold``.
        more: ``prune_params_type``, ``skip_params_func``, ``local_sparsity``, ``sparse_block``; for a program also
            ``scope`` and ``place``.

    Returns:
        An ``UnstructuredPruner``, or with ``configs`` a ``GMPUnstructuredPruner``.

    Raises:
        ConfigError, ModelError: see those classes.
    """
    family: Any = dygraph if isinstance(model, paddle.nn.Layer) else static
    if configs is None:
        return family.UnstructuredPruner(model, mode, ratio=ratio, threshold=threshold, **more)
    if mode != "ratio":
        raise ConfigError(f"mode = {mode!r} does not go with configs: gradual pruning is by ratio; drop one of them.")
    return family.GMPUnstructuredPruner(model, ratio=ratio, configs=configs, **more)
