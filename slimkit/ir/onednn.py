"""Training on CPU: which ops are handed to oneDNN kernels."""

from __future__ import annotations

from typing import Any, Sequence

import paddle

__all__ = ["CONVOLUTIONS", "ONEDNN_OPS", "prefer_onednn"]

#: Ops whose plain CPU kernels are several times slower than oneDNN's (depthwise convolution runs im2col per channel).
ONEDNN_OPS = ("depthwise_conv2d", "depthwise_conv2d_grad")
#: The same for float training, where dense convolutions of k x k with k > 1 gain as well (a ResNet step: 2.6 times).
CONVOLUTIONS = (*ONEDNN_OPS, "conv2d", "conv2d_grad")


def prefer_onednn(program: Any, place: Any, ops: Sequence[str] = ONEDNN_OPS) -> None:
    """Marks the slow ops of a program for oneDNN when it runs on CPU; elsewhere nothing changes.

    Args:
        program: a legacy program, changed in place.
        place: where it will run.
        ops: types to mark.
    """
    if not isinstance(place, paddle.CPUPlace) and "cpu" not in str(place).lower():
        return
    for block in program.blocks:
        for op in block.ops:
            if op.type in ops:
                op._set_attr("use_mkldnn", True)
                # In test mode oneDNN keeps the reordered weights of the first run, and an evaluation between two
                # training steps would go on with old ones.
                op._set_attr("is_test", False)
