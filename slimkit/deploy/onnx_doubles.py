"""Attributes that Paddle 3.3 holds in doubles, where paddle2onnx 2.1 expects floats.

It refuses some (scales of interpolation) and reads others as numbers near 0, in silence: the slope of ``leaky_relu``,
the bounds of ``hardtanh``, the value of ``pad``.
"""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from typing import Any, Callable, Tuple

import numpy as np

from slimkit.errors import ModelError
from slimkit.ir.model import Model

__all__ = ["REWRITES", "with_slopes"]


def _scales_as_inputs(model: Model) -> None:
    """Interpolation scales as an input."""
    import paddle

    block = model.program.global_block()
    for op in [op for op in block.ops if op.type.endswith("_interp_v2")]:
        scales = op.attr("scale")
        given = [slot for slot in ("OutSize", "SizeTensor", "Scale") if slot in op.input_names and op.input(slot)]
        if not scales or given:
            continue
        name = f"{op.output('Out')[0]}.scale"
        block.create_var(name=name, shape=[len(scales)], dtype="float32", persistable=True, stop_gradient=True)
        model.scope.var(name).get_tensor().set(np.array(scales, np.float32), paddle.CPUPlace())
        op.desc.set_input("Scale", [name])
        op._set_attr("scale", [])


def _hardtanh_as_clip(model: Model) -> None:
    """The same function, of which both know the bounds."""
    for op in [op for op in model.program.global_block().ops if op.type == "brelu"]:
        low, high = op.attr("t_min"), op.attr("t_max")
        op.desc.set_type("clip")
        for name, value in (("min", low), ("max", high)):
            op.desc._set_attr(name, value)
        for name in ("t_min", "t_max"):
            op.desc.remove_attr(name)


def _pad_with_zeros(model: Model) -> None:
    """x - value, padded with 0, + value."""
    block = model.program.global_block()
    for op in [op for op in block.ops if op.type == "pad3d" and op.attr("mode") == "constant" and op.attr("value")]:
        value, source, result = float(op.attr("value")), op.input("X")[0], op.output("Out")[0]
        for name, like in ((f"{result}.shifted", source), (f"{result}.zeros", result)):
            block.create_var(name=name, shape=block.var(like).shape, dtype=block.var(like).dtype)
        shift = {"scale": 1.0, "bias_after_scale": True}
        place = [other.desc for other in block.ops].index(op.desc)
        block._insert_op(
            place, type="scale", inputs={"X": [source]}, outputs={"Out": [f"{result}.shifted"]},
            attrs={**shift, "bias": -value},
        )  # fmt: skip
        op.desc.set_input("X", [f"{result}.shifted"])
        op.desc.set_output("Out", [f"{result}.zeros"])
        op._set_attr("value", 0.0)
        block._insert_op(
            place + 2, type="scale", inputs={"X": [f"{result}.zeros"]}, outputs={"Out": [result]},
            attrs={**shift, "bias": value},
        )  # fmt: skip


#: Each changes a copy of the program; ``onnx_program.prepared`` calls them.
REWRITES: Tuple[Callable[[Model], None], ...] = (_scales_as_inputs, _hardtanh_as_clip, _pad_with_zeros)


def with_slopes(proto: Any, model: Model) -> Any:
    """Gives the ``LeakyRelu`` nodes of a converted model the slopes that its program has; returns it.

    Args:
        proto: ``onnx.ModelProto`` as paddle2onnx wrote it, nodes in the order of the ops.
        model: what it was made of.

    Raises:
        ModelError: there are other numbers of them, and the slopes differ.
    """
    slopes = [op.attr("alpha") for op in model.program.global_block().ops if op.type == "leaky_relu"]
    nodes = [node for node in proto.graph.node if node.op_type == "LeakyRelu"]
    if len(set(slopes)) == 1:
        slopes = slopes[:1] * len(nodes)
    if len(slopes) != len(nodes):
        raise ModelError(
            f"paddle2onnx made {len(nodes)} LeakyRelu of {len(slopes)} leaky_relu with different slopes, and they "
            "cannot be told apart; leave the model in Paddle's format."
        )
    for node, slope in zip(nodes, slopes):
        del node.attribute[:]
        attribute = node.attribute.add()
        attribute.name, attribute.type, attribute.f = "alpha", 1, slope  # AttributeProto.FLOAT
    return proto
