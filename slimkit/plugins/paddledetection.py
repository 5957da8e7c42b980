"""Repairs of PaddleDetection on Paddle 3 and new numpy and setuptools; see :mod:`slimkit.plugins.repairs`.

For its repository (release/2.8, develop) and for the package ``paddledet`` 2.6.0.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import sys
from types import ModuleType
from typing import Any, Iterator, List, Optional, Set, Tuple

from slimkit.plugins.both_formats import beside_json
from slimkit.plugins.hooks import Undo
from slimkit.plugins.repairs import Repair, together, with_attribute

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


def _assigner(module: ModuleType) -> Optional[Undo]:
    """Assigners add indices of int64 and of the labels' type, which Paddle 3 does for one type only."""
    if "astype(assigned_gt_index.dtype)" in inspect.getsource(module):
        return None  # mended
    classes: List[Any] = [
        value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__
    ]
    return together(*(with_attribute(one, "forward", _with_long_labels(one.forward)) for one in classes))


def _with_long_labels(forward: Any) -> Any:
    signature = inspect.signature(forward)

    @functools.wraps(forward)
    def repaired(*arguments: Any, **named: Any) -> Any:
        given = signature.bind(*arguments, **named)
        given.arguments["gt_labels"] = given.arguments["gt_labels"].astype("int64")
        return forward(*given.args, **given.kwargs)

    return repaired


def _suppression(ops: ModuleType) -> Optional[Undo]:
    """Non-maximum suppression in PIR programs; 2.6, and 2.8 for one kind, know dygraph and Paddle 2's programs only."""
    undos = [
        with_attribute(ops, name, _in_pir_too(getattr(ops, name), kind))
        for name, kind in (("multiclass_nms", "multiclass_nms3"), ("matrix_nms", "matrix_nms"))
        if hasattr(ops, name) and "in_dynamic_or_pir_mode" not in inspect.getsource(getattr(ops, name))
    ]
    return together(*undos)


def _in_pir_too(function: Any, kind: str) -> Any:
    import paddle

    from slimkit.ir.appended_ops import OPS

    signature = inspect.signature(function)
    tensors = {"BBoxes": "bboxes", "Scores": "scores", "RoisNum": "rois_num"}

    @paddle.jit.not_to_static
    def suppressed(*arguments: Any, **named: Any) -> Any:
        if not paddle.framework.in_pir_mode():
            return function(*arguments, **named)
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        given, row = bound.arguments, OPS[kind]
        values = [given.get(name, default) for name, default in row.attrs.items()]
        boxes, index, count = getattr(paddle._C_ops, kind)(*(given[tensors[slot]] for slot in row.inputs), *values)
        return boxes, count if given["return_rois_num"] else None, index if given["return_index"] else None

    return suppressed


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


def _trainer(module: ModuleType) -> Optional[Undo]:
    """Exports trace whole networks (2.6 asks for nothing, which Paddle 3 takes for parts), in both of its formats."""
    kind = module.Trainer
    export, described = kind.export, kind._get_infer_cfg_and_input_spec

    @functools.wraps(export)
    def exported(self: Any, output_dir: str = "output_inference", *arguments: Any, **named: Any) -> Any:
        from slimkit.ir.tracing import converted_once

        with converted_once():
            result = export(self, output_dir, *arguments, **named)
        if "slim" not in self.cfg or "QAT" not in self.cfg["slim_type"]:  # else slimkit has written it
            name = os.path.splitext(os.path.split(self.cfg.filename)[-1])[0]
            for prefix in (os.path.join(output_dir, name, "model"), os.path.join(output_dir, "inference")):
                beside_json(prefix)
        return result

    @functools.wraps(described)
    def whole(self: Any, *arguments: Any, **named: Any) -> Any:
        from paddle.jit.dy2static.utils import ENV_ENABLE_SOT
        from paddle.utils.environments import EnvironmentVariableGuard

        with EnvironmentVariableGuard(ENV_ENABLE_SOT, False):
            return described(self, *arguments, **named)

    return together(
        with_attribute(kind, "export", exported), with_attribute(kind, "_get_infer_cfg_and_input_spec", whole)
    )


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
    *(
        Repair(
            f"ppdet.modeling.assigners.{name}",
            _assigner,
            "TypeError: (InvalidType) Type promotion only support calculations between floating-point numbers, from "
            "the label assigners of PicoDet and PP-YOLOE in paddledet 2.6",
            "PaddlePaddle/PaddleDetection#9058, mended by PaddlePaddle/PaddleDetection#8909",
        )
        for name in ("atss_assigner", "task_aligned_assigner", "task_aligned_assigner_cr")
    ),
    Repair(
        "ppdet.modeling.ops",
        _suppression,
        "TypeError: The type of '%BBoxes' in operator multiclass_nms3 should be one of [str, bytes, Variable], from "
        "exporting with paddledet 2.6; of operator matrix_nms (PP-YOLO), also with later versions",
        "PaddlePaddle/PaddleDetection#9163",
    ),
    Repair(
        "ppdet.engine.export_utils",
        _prune_input_spec,
        "AttributeError: 'set' object has no attribute 'insert' (release 2.8), or 'Program' object has no attribute "
        "'_prune' (2.6), from tools/export_model.py",
        "PaddlePaddle/PaddleDetection#9163, mended by PaddlePaddle/PaddleDetection#9255",
    ),
    Repair(
        "ppdet.engine.trainer",
        _trainer,
        "RuntimeError: Can't call main_program when full_graph=False, from exporting with paddledet 2.6; "
        "model.json, but no model.pdmodel, from tools/export_model.py of a float or pruned model",
        "PaddlePaddle/PaddleDetection#8941",
    ),
)
