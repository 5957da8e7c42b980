"""Repairs of PaddleDetection on Paddle 3 and new numpy and setuptools; see :mod:`slimkit.plugins.repairs`.

For its repository (release/2.8, develop) and for the package ``paddledet`` 2.6.0.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, Iterator, List, Optional, Set, Tuple

from slimkit.plugins.hooks import Undo
from slimkit.plugins.repairs import Repair, with_attribute

__all__ = ["REPAIRS"]


def _pkg_resources(workspace: ModuleType) -> Optional[Undo]:
    """``ppdet.model_zoo`` finds its list of models by ``pkg_resources.resource_filename``, at its import or later."""
    if importlib.util.find_spec("pkg_resources") is not None:
        return None

    def resource_filename(package: str, name: str) -> str:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return os.path.join(os.path.dirname(spec.origin), *name.split("/"))

    module = ModuleType("pkg_resources", "slimkit's stand-in: only what ppdet.model_zoo calls.")
    module.resource_filename = resource_filename  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = module

    def undo() -> None:
        if sys.modules.get("pkg_resources") is module:
            del sys.modules["pkg_resources"]

    return undo


def _gt_score(operators: ModuleType) -> Optional[Undo]:
    """``Gt2YoloTarget`` writes ``gt_score[b]``, an array of one element, where one number goes."""
    import numpy as np

    own = operators.Gt2YoloTarget.__call__

    def call(self: Any, samples: Any, context: Any = None) -> Any:
        for sample in samples:
            score = sample.get("gt_score")
            count = len(sample["gt_bbox"])
            sample["gt_score"] = np.ones(count, np.float32) if score is None else np.ravel(score)
        return own(self, samples, context)

    return with_attribute(operators.Gt2YoloTarget, "__call__", call)


def _prune_input_spec(export_utils: ModuleType) -> Optional[Undo]:
    """Which inputs the outputs need, of a program that Paddle 3 traced; the function knows Paddle 2's programs."""
    import paddle

    own = export_utils._prune_input_spec

    def prune(input_spec: List[Any], program: Any, targets: Any) -> List[Any]:
        if not isinstance(program, paddle.pir.Program):
            return own(input_spec, program, targets)
        needed = _inputs_of(paddle.utils.flatten(targets))
        return [{name: spec for name, spec in input_spec[0].items() if name in needed}]

    return with_attribute(export_utils, "_prune_input_spec", prune)


def _inputs_of(values: List[Any]) -> Set[str]:
    """Names of the ``data`` ops that PIR values depend on."""
    names: Set[str] = set()
    seen: Set[int] = set()
    pending = [value.get_defining_op() for value in values if hasattr(value, "get_defining_op")]
    while pending:
        op = pending.pop()
        if op is None or op.id() in seen:
            continue
        seen.add(op.id())
        if op.name() == "pd_op.data":
            names.add(op.attrs()["name"])
        pending += [value.get_defining_op() for inner in _with_blocks(op) for value in inner.operands_source()]
    return names


def _with_blocks(op: Any) -> Iterator[Any]:
    yield op
    for block in op.blocks():
        for inner in block.ops:
            yield from _with_blocks(inner)


REPAIRS: Tuple[Repair, ...] = (
    Repair(
        "ppdet.core.workspace",
        _pkg_resources,
        "ModuleNotFoundError: No module named 'pkg_resources' from import ppdet, with setuptools 82 and later",
        "pypa/setuptools#5174",
    ),
    Repair(
        "ppdet.data.transform.batch_operators",
        _gt_score,
        "ValueError: setting an array element with a sequence, from Gt2YoloTarget (every YOLOv3), with numpy 2.4 and "
        "later; the data loader's thread dies of it and the training hangs",
        "QuantEcon/QuantEcon.py#839 (the change in numpy); PaddleDetection has no report",
    ),
    Repair(
        "ppdet.engine.export_utils",
        _prune_input_spec,
        "AttributeError: 'set' object has no attribute 'insert' (release 2.8), or 'Program' object has no attribute "
        "'_prune' (2.6), from tools/export_model.py",
        "PaddlePaddle/PaddleDetection#9163, mended by PaddlePaddle/PaddleDetection#9255",
    ),
)
