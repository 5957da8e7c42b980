"""Ops appended by name are traced like any other."""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from typing import Any, Iterator

import numpy as np
import paddle
import pytest
from detectors import build, import_ppdet, input_spec
from paddle import nn
from paddle.base.layer_helper import LayerHelper
from paddle.static import InputSpec

from slimkit.errors import ModelError
from slimkit.ir import Model
from slimkit.ir.appended_ops import OPS, appended_ops

NMS = {"score_threshold": 0.05, "nms_top_k": 50, "keep_top_k": 20, "nms_threshold": 0.5, "normalized": False}
BOXES = np.random.RandomState(0).rand(1, 30, 4).astype("float32") * 20 + np.float32([0, 0, 20, 20])
SCORES = np.random.RandomState(1).rand(1, 3, 30).astype("float32")


class Detections(nn.Layer):
    """Non-maximum suppression as code for static programs writes it; doubled, so that something reads it."""

    def forward(self, boxes: Any, scores: Any) -> Any:
        helper = LayerHelper("multiclass_nms3")
        names = ("Out", "Index", "NmsRoisNum")
        found = {slot: helper.create_variable_for_type_inference("float32") for slot in names}
        inputs = {"BBoxes": boxes, "Scores": scores}
        attrs = {**NMS, "nms_eta": 1.0, "background_label": -1}
        helper.append_op(type="multiclass_nms3", inputs=inputs, outputs=found, attrs=attrs)
        return found["Out"] * 2.0, found["NmsRoisNum"]


SPECS = [InputSpec([-1, 30, 4], "float32", "boxes"), InputSpec([-1, 3, 30], "float32", "scores")]


def _expected() -> Any:
    return paddle._C_ops.multiclass_nms3(
        *(paddle.to_tensor(a) for a in (BOXES, SCORES)), None, 0.05, 50, 20, 0.5, False, 1.0, -1
    )


def test_the_op_is_in_the_program_with_its_attributes() -> None:
    model = Model.from_layer(Detections(), SPECS)
    assert model.op_counts() == {"multiclass_nms3": 1, "scale": 1}
    found, count = model.run([BOXES, SCORES])
    boxes, _, number = _expected()
    np.testing.assert_allclose(found, 2 * boxes.numpy(), rtol=1e-6)
    np.testing.assert_array_equal(count, number.numpy())
    assert 0 < found.shape[0] < 60


def test_nothing_is_left_behind() -> None:
    before = dict(vars(LayerHelper))
    Model.from_layer(Detections(), SPECS)
    with pytest.raises(RuntimeError), appended_ops():
        raise RuntimeError
    assert dict(vars(LayerHelper)) == before


def test_an_op_without_a_row_fails_as_before() -> None:
    class Other(nn.Layer):
        def forward(self, x: Any) -> Any:
            helper = LayerHelper("relu")
            out = helper.create_variable_for_type_inference("float32")
            helper.append_op(type="relu", inputs={"X": x}, outputs={"Out": out}, attrs={})
            return out

    with pytest.raises(ModelError, match="Other cannot be traced"):
        Model.from_layer(Other(), [InputSpec([1, 3])])


@pytest.mark.parametrize("kind", OPS)
def test_rows_name_what_paddle_has(kind: str) -> None:
    from paddle.base.framework import OpProtoHolder

    proto = OpProtoHolder.instance().get_op_proto(kind)
    row = OPS[kind]
    assert set(row.inputs) <= {slot.name for slot in proto.inputs}
    assert set(row.outputs) <= {slot.name for slot in proto.outputs}
    assert set(row.attrs) <= {attr.name for attr in proto.attrs}


@pytest.fixture(scope="module")
def picodet(paddledet_package: Any) -> Iterator[nn.Layer]:
    workspace = import_ppdet(paddledet_package)
    paddle.seed(0)
    yield build(next(workspace), "picodet")
    next(workspace, None)


def test_a_whole_detector_with_its_post_processing(picodet: nn.Layer) -> None:
    rng = np.random.RandomState(0)
    feeds = {
        "image": rng.rand(1, 3, 64, 64).astype("float32"),
        "im_shape": np.full((1, 2), 64, "float32"),
        "scale_factor": np.ones((1, 2), "float32"),
    }
    model = Model.from_layer(picodet, input_spec(64))
    assert model.op_counts()["multiclass_nms3"] == 1
    found = model.run({name: feeds[name] for name in model.feeds})
    assert found[0].shape[1] == 6 and found[0].shape[0] == found[1].sum() > 0
    expected = picodet({name: paddle.to_tensor(array) for name, array in feeds.items()})["bbox"].numpy()
    np.testing.assert_allclose(np.sort(found[0], 0), np.sort(expected, 0), atol=1e-3)
