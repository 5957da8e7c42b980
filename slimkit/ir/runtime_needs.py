"""What Paddle 3 drops from a program it saves and Paddle-Lite or Paddle Inference needs, put back.

Found by comparing op protos of models before and after a save by paddlepaddle 3.3.1, and by running Paddle-Lite's
opt (2.13rc0) on them. One row an op.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Tuple

from paddle.base.proto import framework_pb2

__all__ = ["NEEDS", "Need", "restore"]

_Attr = framework_pb2.AttrType


@dataclass(frozen=True)
class Need:
    """What an op must have.

    Attributes:
        floats: attribute -> value to give it when it is absent.
        xshape: whether output ``XShape`` (the input's shape behind a leading 0) must exist.
    """

    floats: Dict[str, float] = field(default_factory=dict)
    xshape: bool = False


NEEDS: Dict[str, Need] = {
    "swish": Need(floats={"beta": 1.0}),
    "relu6": Need(floats={"threshold": 6.0}),
    "hard_swish": Need(floats={"threshold": 6.0, "scale": 6.0, "offset": 3.0}),
    "flatten_contiguous_range": Need(xshape=True),
    "flatten2": Need(xshape=True),
    "reshape2": Need(xshape=True),
    "squeeze2": Need(xshape=True),
    "transpose2": Need(xshape=True),
    "unsqueeze2": Need(xshape=True),
}


def restore(block: Any) -> None:
    """Puts back what the ops of a block (``BlockDesc`` message) lack, in place."""
    shapes: Dict[str, Tuple[int, ...]] = {}
    types: Dict[str, int] = {}
    for var in block.vars:
        if var.type.HasField("dense_tensor"):
            shapes[var.name] = tuple(var.type.dense_tensor.tensor.dims)
            types[var.name] = var.type.dense_tensor.tensor.data_type
    for op in block.ops:
        need = NEEDS.get(op.type)
        if need is None:
            continue
        present = {attr.name for attr in op.attrs}
        for name, value in need.floats.items():
            if name not in present:
                op.attrs.add(name=name, type=_Attr.FLOAT, f=value)
        if need.xshape and not any(slot.parameter == "XShape" and slot.arguments for slot in op.outputs):
            _add_xshape(block, op, shapes, types)


def _add_xshape(block: Any, op: Any, shapes: Dict[str, Tuple[int, ...]], types: Dict[str, int]) -> None:
    source = next(slot.arguments[0] for slot in op.inputs if slot.parameter == "X")
    result = next(slot.arguments[0] for slot in op.outputs if slot.parameter == "Out")
    name = f"{result}.xshape"
    var = block.vars.add(name=name, persistable=False)
    var.type.type = framework_pb2.VarType.DENSE_TENSOR
    var.type.dense_tensor.tensor.data_type = types.get(source, framework_pb2.VarType.FP32)
    var.type.dense_tensor.tensor.dims.extend([0, *shapes.get(source, ())])
    slot = next((slot for slot in op.outputs if slot.parameter == "XShape"), None) or op.outputs.add(parameter="XShape")
    slot.arguments.append(name)
