"""Ops that a network's code appends to a program by name, while it is traced into PIR.

PaddleDetection and others write post-processing twice: a call for dygraph mode, and ``LayerHelper.append_op`` for
static programs, which Paddle's PIR refuses. Here the appended op is made by its PIR function: the variable that the
code created for the result is a stand-in that takes the result's type at once, and gives way to it when the trace is
done.
"""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import paddle
from paddle.base.layer_helper import LayerHelper

__all__ = ["OPS", "Appended", "appended_ops"]


@dataclass(frozen=True)
class Appended:
    """How an op by its legacy slots is called in PIR (``paddle/phi/ops/yaml/ops.yaml``).

    Attributes:
        inputs: slots, in the order of the function's tensors.
        attrs: attribute and its default, in the order of the function's other arguments.
        outputs: slots, in the order of the function's results.
    """

    inputs: Tuple[str, ...]
    attrs: Mapping[str, Any]
    outputs: Tuple[str, ...]


OPS: Dict[str, Appended] = {
    "multiclass_nms3": Appended(
        ("BBoxes", "Scores", "RoisNum"),
        {
            "score_threshold": 0.0, "nms_top_k": -1, "keep_top_k": -1, "nms_threshold": 0.3, "normalized": True,
            "nms_eta": 1.0, "background_label": 0,
        },
        ("Out", "Index", "NmsRoisNum"),
    ),
    "matrix_nms": Appended(
        ("BBoxes", "Scores"),
        {
            "score_threshold": 0.0, "nms_top_k": -1, "keep_top_k": -1, "post_threshold": 0.0, "use_gaussian": False,
            "gaussian_sigma": 2.0, "background_label": 0, "normalized": True,
        },
        ("Out", "Index", "RoisNum"),
    ),
    "prior_box": Appended(
        ("Input", "Image"),
        {
            "min_sizes": [], "max_sizes": [], "aspect_ratios": [], "variances": [], "flip": True, "clip": True,
            "step_w": 0.0, "step_h": 0.0, "offset": 0.5, "min_max_aspect_ratios_order": False,
        },
        ("Boxes", "Variances"),
    ),
    "box_coder": Appended(
        ("PriorBox", "PriorBoxVar", "TargetBox"),
        {"code_type": "encode_center_size", "box_normalized": True, "axis": 0, "variance": []},
        ("OutputBox",),
    ),
}  # fmt: skip


@contextmanager
def appended_ops() -> Iterator[Dict[int, Any]]:
    """While a layer is traced into PIR, lets it append the ops of :data:`OPS`.

    Yields:
        Id of a stand-in -> the result it stood for. The program's own uses are replaced on leaving; the caller looks
        up its list of results here.
    """
    stands: List[Tuple[Any, Any]] = []
    results: Dict[int, Any] = {}
    create, append = LayerHelper.create_variable_for_type_inference, LayerHelper.append_op
    own = {name: vars(LayerHelper).get(name) for name in ("create_variable_for_type_inference", "append_op")}

    @paddle.jit.not_to_static
    def make(helper: Any, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        if helper.layer_type in OPS and paddle.framework.in_pir_mode():
            return paddle.full([1], 0, dtype)
        return create(helper, dtype, *args, **kwargs)

    @paddle.jit.not_to_static
    def call(helper: Any, *args: Any, **kwargs: Any) -> Any:
        kind = kwargs.get("type")
        if kind not in OPS or args or not paddle.framework.in_pir_mode():
            return append(helper, *args, **kwargs)
        for stand, result in _call(kind, kwargs):
            stand.set_type(result.type())
            stands.append((stand, result))
            results[stand.id] = result
        return None

    LayerHelper.create_variable_for_type_inference, LayerHelper.append_op = make, call
    try:
        yield results
        for stand, result in stands:
            stand.replace_all_uses_with(result)
    finally:
        for name, before in own.items():
            if before is None:  # inherited
                delattr(LayerHelper, name)
            else:
                setattr(LayerHelper, name, before)


def _call(kind: str, given: Mapping[str, Any]) -> Iterator[Tuple[Any, Any]]:
    """Makes the op; yields each stand-in with the result it stands for."""
    row = OPS[kind]
    attrs, outputs = given.get("attrs") or {}, given["outputs"]
    tensors = [_first((given.get("inputs") or {}).get(slot)) for slot in row.inputs]
    values = [attrs.get(name, default) for name, default in row.attrs.items()]
    results = getattr(paddle._C_ops, kind)(*tensors, *values)
    for slot, result in zip(row.outputs, results if isinstance(results, (list, tuple)) else [results]):
        if slot in outputs:
            yield _first(outputs[slot]), result


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) else value
