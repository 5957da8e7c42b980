"""The repairs of PaddleDetection on stand-ins of its modules; tests of the package itself use the rest of them."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.static import InputSpec

from slimkit.plugins import paddledetection

ROWS = {row.module: row for row in paddledetection.REPAIRS}


class Net(nn.Layer):
    """One input counts, one only inside a branch, one not at all."""

    def forward(self, inputs: Any) -> Any:
        x = inputs["image"] * 2
        if x.sum() > 0:
            x = x + inputs["scale"]
        return x


def test_the_inputs_that_outputs_need() -> None:
    names = ("image", "scale", "unused")
    spec = [{name: InputSpec([1, 4], "float32", name) for name in names}]
    net = paddle.jit.to_static(Net(), input_spec=spec, full_graph=True)
    module = ModuleType("ppdet.engine.export_utils")
    module._prune_input_spec = None  # type: ignore[attr-defined]
    undo = ROWS[module.__name__].apply(module)
    (found,) = module._prune_input_spec(spec, net.forward.main_program, net.forward.outputs)
    assert found == {name: spec[0][name] for name in ("image", "scale")}
    assert undo is not None
    undo()
    assert module._prune_input_spec is None and paddle.in_dynamic_mode()


def test_scores_are_numbers() -> None:
    class Gt2YoloTarget:
        def __call__(self, samples: Any, context: Any = None) -> Any:
            target = np.zeros(2)
            for sample in samples:
                for place, score in enumerate(sample["gt_score"]):
                    target[place] = score
            return target

    module = ModuleType("ppdet.data.transform.batch_operators")
    module.Gt2YoloTarget = Gt2YoloTarget  # type: ignore[attr-defined]
    ROWS[module.__name__].apply(module)
    boxes = np.zeros([2, 4])
    mixed = [{"gt_bbox": boxes, "gt_score": np.array([[0.25], [0.5]])}]
    assert Gt2YoloTarget()(mixed).tolist() == [0.25, 0.5]
    assert Gt2YoloTarget()([{"gt_bbox": boxes}]).tolist() == [1, 1]


def test_pkg_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in where setuptools has none, gone afterwards; where there is one, it stays."""
    monkeypatch.delitem(sys.modules, "pkg_resources", raising=False)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "pkg_resources" else find(name, *a)
    )
    undo = ROWS["ppdet.core.workspace"].apply(ModuleType("ppdet.core.workspace"))
    found = sys.modules["pkg_resources"].resource_filename("slimkit.plugins", "child/sitecustomize.py")
    assert found.endswith("slimkit/plugins/child/sitecustomize.py")
    assert undo is not None
    undo()
    assert "pkg_resources" not in sys.modules
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: object())
    assert ROWS["ppdet.core.workspace"].apply(ModuleType("ppdet.core.workspace")) is None
