"""PP-OCRv4's backbone, quantized in the form in which it is exported.

In training a layer of PPLCNetV3 has up to six branches, each a convolution and a batch norm; the export merges them
into one convolution. ``deploy/slim`` quantizes the branches, so that what it exports was never trained, and every step
quantizes six weights where one is needed. Under ``slimkit run`` the branches are merged before they are quantized (or,
where a pruned network is exported, before it is saved): the export is the trained network.

A checkpoint whose branches were trained quantized is exported as such.
"""

from __future__ import annotations

import functools
import logging
import os
from types import ModuleType
from typing import Any, Dict

from slimkit.plugins.hooks import Undo
from slimkit.plugins.repairs import with_attribute

__all__ = ["merge_branches", "merged_first", "note_checkpoint"]

_logger = logging.getLogger("slimkit")

#: Whether the checkpoint to go on from has quantized branches.
_STATE = {"branches": False}


def note_checkpoint(config: Dict[str, Any]) -> None:
    """Looks whether ``Global.checkpoints`` is of a network whose branches were quantized."""
    path = str((config.get("Global") or {}).get("checkpoints") or "")
    path = path if path.endswith(".pdparams") else f"{path}.pdparams"
    _STATE["branches"] = False
    if os.path.isfile(path):
        import paddle

        _STATE["branches"] = any(".conv_kxk." in key and "._layer." in key for key in paddle.load(path))


def merged_first(qat: ModuleType) -> Undo:
    """Lets ``QAT.quantize`` merge branches before it wraps layers."""
    original = qat.QAT.quantize

    @functools.wraps(original)
    def quantize(self: Any, model: Any, inplace: bool = True) -> Any:
        if inplace and not _STATE["branches"]:
            merge_branches(model)
        return original(self, model, inplace)

    return with_attribute(qat.QAT, "quantize", quantize)


def merge_branches(model: Any) -> int:
    """Merges the branches of every re-parameterizable layer of PPLCNetV3, in place, also of one that was pruned.

    Args:
        model: of PaddleOCR; batch norms are taken as in eval mode.

    Returns:
        How many layers had branches.
    """
    from paddle import nn

    layers = [layer for layer in model.sublayers() if _has_branches(layer)]
    for layer in layers:
        convolution = layer.conv_kxk[0].conv
        channels, inside = (int(side) for side in convolution.weight.shape[:2])
        layer.groups = int(convolution._groups)
        layer.out_channels, layer.in_channels = channels, inside * layer.groups
        layer.rep()
        layer.reparam_conv.training = layer.training
        layer.conv_kxk, layer.conv_1x1, layer.identity = nn.LayerList(), None, None
    if layers:
        _logger.info("%d layers of branches were merged, each into one convolution", len(layers))
    return len(layers)


def _has_branches(layer: Any) -> bool:
    own = type(layer).__module__.startswith("ppocr.") and type(layer).__name__ == "LearnableRepLayer"
    return own and not layer.is_repped and len(layer.conv_kxk) > 0
