"""Pass: what Paddle Inference's oneDNN int8 passes get wrong, written so that they get it right.

Each rewrite is a module of :mod:`slimkit.quant.passes.onednn`, keeps the arithmetic of the exported graph, and says
which defect it avoids (measured on Paddle 3.3.1, oneDNN 3.6.2).
"""

from __future__ import annotations

from typing import Any, Collection, Dict, Optional

import paddle

from slimkit.ir.graph import Graph
from slimkit.quant.passes.onednn import (
    fully_connected,
    idle_attributes,
    own_grids,
    own_weights,
    residual_relu,
    shared_zeros,
    short_names,
    stop_scale,
    transpose_bias,
    transpose_weight,
    whole_weights,
)

__all__ = ["LegalizeOnednn"]


class LegalizeOnednn:
    """See the module. Works on graphs of the onnx format; in the old format only scales are stopped. The result is for
    Paddle Inference alone: Paddle-Lite takes the plain export.

    Args:
        scope: holds the constants; weights are rewritten in it.
        place: device of the constants; None: CPU.
        known: names that stay, of weights, inputs and results; others become short. None: all stay.
    """

    def __init__(self, scope: Any, place: Any = None, known: Optional[Collection[str]] = None) -> None:
        self.scope = scope
        self.known = known
        self.place = place or paddle.CPUPlace()

    def apply(self, graph: Graph) -> Dict[str, int]:
        """Edits the graph in place; returns how often each rewrite was made."""
        constants = (self.scope, self.place)
        done = {
            "square weights unshared": own_weights.rewrite(graph, *constants),
            "fully connected as 1x1 convolution": fully_connected.rewrite(graph, *constants),
            "float weight of conv2d_transpose": transpose_weight.rewrite(graph, *constants),
            "bias of depthwise_conv2d_transpose": transpose_bias.rewrite(graph, *constants),
            "float weight of whole numbers": whole_weights.rewrite(graph, self.scope),
            "relu behind a signed residual as leaky_relu": residual_relu.rewrite(graph),
            "zero points shared": shared_zeros.rewrite(graph, *constants),
            "scale stopped by assign": stop_scale.rewrite(graph),
            "grid of its own by assign": own_grids.rewrite(graph),
        }
        if self.known is not None:
            done["attributes left out"] = idle_attributes.rewrite(graph)
            done["names shortened"] = short_names.rewrite(graph, *constants, self.known)
        return done
