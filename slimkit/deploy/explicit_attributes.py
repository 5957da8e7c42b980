"""Attributes left at their default, as slimkit's files for oneDNN leave them, written out for readers that insist."""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from pathlib import Path

__all__ = ["explicit_attributes"]

_WINDOWED = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "depthwise_conv2d_transpose", "pool2d")
#: Op types, attribute, its type, the type's field and the default.
_DEFAULTS = (
    ((*_WINDOWED, "conv3d", "pool3d"), "padding_algorithm", "STRING", "s", "EXPLICIT"),
    (_WINDOWED, "data_format", "STRING", "s", "NCHW"),
    (("elementwise_add", "elementwise_mul"), "axis", "INT", "i", -1),
)


def explicit_attributes(program: Path) -> None:
    """Rewrites a ``.pdmodel`` file in place: paddle2onnx and Paddle-Lite's opt abort on a missing attribute."""
    from paddle.base.proto import framework_pb2

    desc = framework_pb2.ProgramDesc()
    desc.ParseFromString(program.read_bytes())
    for op in (op for block in desc.blocks for op in block.ops):
        for types, name, kind, field, value in _DEFAULTS:
            if op.type in types and all(attr.name != name for attr in op.attrs):
                op.attrs.add(name=name, type=framework_pb2.AttrType.Value(kind), **{field: value})
    program.write_bytes(desc.SerializeToString())
