"""Which kernels an evaluation on the CPU runs on.

Paddle's plain CPU kernels multiply image by image and lay tensors out anew for each op; handing whole stretches of a
network to oneDNN makes an evaluation three to five times faster (MobileNetV1, ResNet-18), with results that differ in
the last digits. Not every op of every network is taken, so one batch is computed both ways first.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence, Tuple

import numpy as np

from slimkit.errors import ModelError
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.ir.onednn import prefer_onednn

__all__ = ["evaluation_programs", "same_results"]

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
#: Ops that leave a tensor in oneDNN's layout, so that it is not converted between two convolutions.
_BETWEEN = ("batch_norm", "elementwise_add", "hard_swish", "pool2d", "relu", "relu6")

#: Results of the two may differ by this, relative to the largest.
_TOLERANCE = 1e-4


def evaluation_programs(model: Model, place: Any) -> Tuple[Any, Any]:
    """Two programs that compute the same in test mode: on the fast kernels, and on the plain ones.

    Args:
        model: the network; its program is not changed.
        place: where they will run.
    """
    with legacy_ir():
        fast = model.program.clone(for_test=True)
        prefer_onednn(fast, place, _CONVOLUTIONS)
        if any(op.has_attr("use_mkldnn") and op.attr("use_mkldnn") for op in fast.global_block().ops):
            for op in fast.global_block().ops:
                if op.type in _BETWEEN:
                    op._set_attr("use_mkldnn", True)
        plain = model.program.clone(for_test=True)
        prefer_onednn(plain, place)
    return fast, plain


def same_results(fast: Any, plain: Any, tensors: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether two pieces compute the same from the same tensors; False too where the first cannot run.

    Args:
        fast, plain: :class:`~slimkit.prune.sensitivity.pieces.Piece`.
        tensors: what they read.
        names: results.

    Raises:
        ModelError: the second cannot run.
    """
    wanted = plain.run(tensors)
    try:
        found = fast.run(tensors)
    except ModelError:
        return False
    return all(_near(np.array(found[name]), np.array(wanted[name])) for name in names)


def _near(found: np.ndarray, wanted: np.ndarray) -> bool:
    if found.shape != wanted.shape:
        return False
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(found, wanted))
    largest = float(np.abs(wanted).max(initial=0.0))
    return bool(np.isfinite(largest) and np.abs(found - wanted).max(initial=0.0) <= _TOLERANCE * largest)
