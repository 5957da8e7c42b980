"""Small names that scripts take from ``paddleslim.dygraph.prune.filter_pruner``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional, Union

from paddle import nn

from slimkit.prune import Sensitivities

__all__ = ["CONV_OP_TYPE", "CONV_WEIGHT_NAME", "FILTER_DIM", "SKIP_LAYERS", "Status"]

#: The axis of a convolution's weight along which its filters lie.
FILTER_DIM = 0
CONV_OP_TYPE = nn.Conv2D
CONV_WEIGHT_NAME = "weight"
SKIP_LAYERS = (nn.Conv2DTranspose,)


class Status:
    """The sensitivities in a file of ``FilterPruner.sensitive``.

    Args:
        src: the file, PaddleSlim's or slimkit's; None: no sensitivities.

    Attributes:
        sensitivies: (PaddleSlim's spelling) parameter -> ratio -> loss.
        accumulates: always {}, for PaddleSlim's sake.
        is_ckp: always True, for PaddleSlim's sake.

    Raises:
        SlimkitError: the file cannot be read.
    """

    def __init__(self, src: Optional[Union[str, Path]] = None) -> None:
        self.sensitivies: Dict[str, Any] = {}
        self.accumulates: Dict[str, Any] = {}
        self.is_ckp = True
        if src is not None:
            self.load(src)

    def save(self, dst: Union[str, Path]) -> None:
        """Writes them in slimkit's format, which every reader of sensitivities here takes."""
        Sensitivities.merge([self.sensitivies]).save(dst)

    def load(self, src: Union[str, Path]) -> None:
        """Reads them."""
        self.sensitivies = Sensitivities.load(src).as_dict()
