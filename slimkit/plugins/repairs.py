"""The smallest repairs of third-party code that Paddle 3 or numpy 2 broke.

A row is applied right after its module is imported, under ``slimkit run`` and ``SLIMKIT_AS_PADDLESLIM=1`` only, and
undone by ``startup.uninstall``. Rows of one project are in the file of its name beside this one.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any, Iterator, NamedTuple, Optional, Tuple

from slimkit.plugins.hooks import Action, Undo
from slimkit.plugins.layer_flops import count_quantized

__all__ = ["REPAIRS", "Repair", "all_repairs", "together", "with_attribute"]

#: Files beside this one that have ``REPAIRS`` of their own.
PROJECTS: Tuple[str, ...] = ("paddleocr", "paddledetection", "paddleclas")

_ABSENT = object()


class Repair(NamedTuple):
    """One repair.

    Attributes:
        module: the module it concerns, which is waited for.
        apply: called with that module; changes it if it is broken, and returns how to undo that (None: nothing done).
        symptom: what breaks without it.
        upstream: where it is reported or mended.
    """

    module: str
    apply: Action
    symptom: str
    upstream: str


def with_attribute(owner: Any, name: str, value: Any) -> Undo:
    """Sets an attribute and returns what puts the old one back."""
    before = vars(owner).get(name, _ABSENT)
    setattr(owner, name, value)

    def undo() -> None:
        if before is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, before)

    return undo


def together(*undos: Optional[Undo]) -> Undo:
    """One undo for several, the last first."""

    def undo() -> None:
        for one in reversed([one for one in undos if one is not None]):
            one()

    return undo


def _sctypes(numpy: ModuleType) -> Optional[Undo]:
    if hasattr(numpy, "sctypes"):
        return None
    kinds = {
        "int": [numpy.int8, numpy.int16, numpy.int32, numpy.int64],
        "uint": [numpy.uint8, numpy.uint16, numpy.uint32, numpy.uint64],
        "float": [numpy.float16, numpy.float32, numpy.float64, numpy.longdouble],
        "complex": [numpy.complex64, numpy.complex128, numpy.clongdouble],
        "others": [bool, object, bytes, str, numpy.void],
    }
    return with_attribute(numpy, "sctypes", kinds)


def _numbers(paddle: ModuleType) -> Optional[Undo]:
    """Tensors of one element as numbers, whatever their rank."""
    import numpy as np

    tensor = paddle.Tensor
    if tuple(map(int, np.__version__.split(".")[:2])) < (2, 4):
        return None  # it still converts

    def converting(kind: type) -> Any:
        def convert(self: Any) -> Any:
            if self.size != 1:
                raise TypeError(
                    f"only a tensor of one element is a {kind.__name__}, not one of shape {list(self.shape)}"
                )
            value = self.astype("float32") if self.dtype == paddle.bfloat16 else self
            return kind(value.item())

        return convert

    names = {"__int__": int, "__long__": int, "__index__": int, "__float__": float, "__complex__": complex}
    return together(*(with_attribute(tensor, name, converting(kind)) for name, kind in names.items()))


def _guard(base: Any) -> Optional[Undo]:
    old, new = "_to_static_mode_guard_", "to_static_mode_guard"
    if hasattr(base, old) or not hasattr(base, new):
        return None
    return with_attribute(base, old, getattr(base, new))


REPAIRS: Tuple[Repair, ...] = (
    Repair(
        "numpy",
        _sctypes,
        "AttributeError: `np.sctypes` was removed in the NumPy 2.0 release (imgaug, which PaddleOCR imports)",
        "aleju/imgaug#859",
    ),
    Repair(
        "paddle",
        _numbers,
        "TypeError: only 0-dimensional arrays can be converted to Python scalars, from float(tensor), int(tensor) of a "
        "tensor of shape [1], and so from paddle.flops, on numpy 2.4 and later",
        "PaddlePaddle/Paddle#77010",
    ),
    Repair(
        "paddle.base.dygraph.base",
        _guard,
        "AttributeError: no attribute '_to_static_mode_guard_', from code that traces as PaddleSlim's flops does",
        "PaddlePaddle/PaddleDetection#9430",
    ),
    Repair(
        "paddle.hapi.dynamic_flops",
        count_quantized,
        "paddle.flops counts no quantized layer: 5 % of the float network's figure for MobileNetV3-small",
        "the function knows the types of Paddle's own layers only",
    ),
)


def all_repairs() -> Iterator[Repair]:
    """The rows above, and those of the projects' files."""
    yield from REPAIRS
    for project in PROJECTS:
        name = f"slimkit.plugins.{project}"
        if importlib.util.find_spec(name) is not None:
            yield from importlib.import_module(name).REPAIRS
