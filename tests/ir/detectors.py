"""PaddleDetection's networks for tests, without the two dozen packages its data pipeline imports.

``ppdet.modeling`` needs none of them to build and trace a network, so those that are missing are replaced by
empty stand-ins while it is imported.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional
from unittest.mock import MagicMock

import pytest
from paddle import nn
from paddle.static import InputSpec

__all__ = ["CONFIGS", "Head", "build", "import_ppdet", "input_spec"]

#: What ppdet imports for data, metrics and tracking.
OPTIONAL = frozenset(
    (
        "cython_bbox", "imgaug", "lap", "motmetrics", "numba", "pandas", "pycocotools", "requests", "scipy",
        "shapely", "six", "skimage", "sklearn", "terminaltables", "tqdm", "typeguard", "visualdl",
    )
)  # fmt: skip


class _Loader(importlib.abc.Loader):
    def create_module(self, spec: Any) -> Any:
        stand_in = MagicMock(name=spec.name)
        stand_in.__path__, stand_in.__spec__, stand_in.__name__ = [], spec, spec.name
        stand_in.__loader__, stand_in.__file__ = self, "stand-in"
        return stand_in

    def exec_module(self, module: Any) -> None:
        pass


class _Finder(importlib.abc.MetaPathFinder):
    """Comes last, so a package that is installed is used."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[Any]:
        if name.split(".")[0] in OPTIONAL:
            return importlib.machinery.ModuleSpec(name, _Loader(), is_package=True)
        return None


def import_ppdet(root: Path) -> Iterator[Any]:
    """Yields ``ppdet.core.workspace`` of the ``ppdet`` in ``root``; afterwards nothing of it is left."""
    before = set(sys.modules)
    finder = _Finder()
    sys.meta_path.append(finder)
    package = types.ModuleType("ppdet")  # its own __init__ would import the data pipeline
    package.__path__ = [str(root / "ppdet")]
    sys.modules["ppdet"] = package
    try:
        importlib.import_module("ppdet.modeling")  # registers the networks
        yield importlib.import_module("ppdet.core.workspace")
    except SyntaxError as error:
        pytest.skip(f"ppdet cannot be imported: {error}")
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            if name.split(".")[0] in OPTIONAL | {"ppdet"}:
                del sys.modules[name]


#: The published architectures of PicoDet-S (LCNet 0.75) and YOLOv3-MobileNetV3-large, in ppdet's own terms.
CONFIGS: Dict[str, Dict[str, Any]] = {
    "picodet": {
        "architecture": "PicoDet",
        "num_classes": 80,
        "PicoDet": {"backbone": "LCNet", "neck": "LCPAN", "head": "PicoHeadV2"},
        "LCNet": {"scale": 0.75, "feature_maps": [3, 4, 5]},
        "LCPAN": {"out_channels": 96, "use_depthwise": True, "num_features": 4},
        "PicoHeadV2": {
            "conv_feat": {
                "name": "PicoFeat", "feat_in": 96, "feat_out": 96, "num_convs": 2, "num_fpn_stride": 4,
                "norm_type": "bn", "share_cls_reg": True, "use_se": True,
            },
            "feat_in_chan": 96, "fpn_stride": [8, 16, 32, 64], "reg_max": 7, "use_align_head": True,
            "cell_offset": 0.5, "grid_cell_scale": 5.0,
            "static_assigner": {"name": "ATSSAssigner", "topk": 9},
            "assigner": {"name": "TaskAlignedAssigner", "topk": 13},
            "loss_class": {"name": "VarifocalLoss"},
            "loss_dfl": {"name": "DistributionFocalLoss"},
            "loss_bbox": {"name": "GIoULoss"},
            "nms": {
                "name": "MultiClassNMS", "nms_top_k": 1000, "keep_top_k": 100, "score_threshold": 0.025,
                "nms_threshold": 0.6,
            },
        },
    },
    "yolov3": {
        "architecture": "YOLOv3",
        "num_classes": 80,
        "norm_type": "bn",
        "YOLOv3": {
            "backbone": "MobileNetV3", "neck": "YOLOv3FPN", "yolo_head": "YOLOv3Head",
            "post_process": "BBoxPostProcess",
        },
        "MobileNetV3": {
            "model_name": "large", "scale": 1.0, "with_extra_blocks": False, "extra_block_filters": [],
            "feature_maps": [7, 13, 16],
        },
        "YOLOv3Head": {"loss": "YOLOv3Loss"},
        "BBoxPostProcess": {
            "decode": {"name": "YOLOBox", "conf_thresh": 0.005, "downsample_ratio": 32, "clip_bbox": True},
            "nms": {
                "name": "MultiClassNMS", "keep_top_k": 100, "score_threshold": 0.01, "nms_threshold": 0.45,
                "nms_top_k": 1000,
            },
        },
    },
}  # fmt: skip


def build(workspace: Any, name: str) -> nn.Layer:
    """Makes a detector of :data:`CONFIGS` with random weights, in eval mode."""
    workspace.merge_config(CONFIGS[name])
    net = workspace.create(CONFIGS[name]["architecture"])
    net.eval()
    return net


class Head(nn.Layer):
    """A detector up to its head's outputs."""

    def __init__(self, detector: nn.Layer) -> None:
        super().__init__()
        self.detector = detector
        self.head = getattr(detector, "yolo_head", None) or detector.head

    def forward(self, inputs: Any) -> Any:
        return self.head(self.detector.neck(self.detector.backbone(inputs)))


def input_spec(side: int) -> List[Dict[str, InputSpec]]:
    return [
        {
            "image": InputSpec([-1, 3, side, side], "float32", "image"),
            "im_shape": InputSpec([-1, 2], "float32", "im_shape"),
            "scale_factor": InputSpec([-1, 2], "float32", "scale_factor"),
        }
    ]
