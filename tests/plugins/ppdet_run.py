"""PaddleDetection's package, run as its tools run it: ``tools/train.py``, ``export_model.py``, ``post_quant.py``.

The package has neither tools nor configs; here are the steps of the first and, from ``detectors.CONFIGS``, the second.
All takes place in this process, under the alias and the repairs that ``slimkit run`` switches on.
"""

from __future__ import annotations

import copy
import importlib
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import paddle
import pytest
import yaml
from detectors import CONFIGS
from zoo import enliven

from slimkit.ir import Model
from slimkit.plugins.launcher import as_paddleslim

__all__ = ["QUANT", "Package", "comparable", "config_file", "config_options", "feed_of", "imported", "program_outputs"]

#: ``configs/slim/quant/*.yml`` of the repository.
QUANT = {
    "activation_preprocess_type": "PACT", "weight_quantize_type": "channel_wise_abs_max",
    "activation_quantize_type": "moving_average_abs_max", "weight_bits": 8, "activation_bits": 8, "dtype": "int8",
    "window_size": 10000, "moving_rate": 0.9, "quantizable_layer_type": ["Conv2D", "Linear"],
}  # fmt: skip

_NORMALIZE = {
    "NormalizeImage": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "is_scale": True},
}
_ANCHORS = [[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119], [116, 90], [156, 198], [373, 326]]
_MASKS = [[6, 7, 8], [3, 4, 5], [0, 1, 2]]
_SCHEDULE = [{"name": "CosineDecay", "max_epochs": 10}, {"name": "LinearWarmup", "start_factor": 0.5, "steps": 2}]


def _readers(name: str, side: int) -> Dict[str, Dict[str, Any]]:
    resize = {"Resize": {"target_size": [side, side], "keep_ratio": False, "interp": 2}}
    batch: List[Dict[str, Any]] = [
        {"BatchRandomResize": {"target_size": [side], "random_size": True, "keep_ratio": False}},
    ]
    if name == "yolov3":
        targets = {"anchors": _ANCHORS, "anchor_masks": _MASKS, "downsample_ratios": [32, 16, 8]}
        batch += [{"NormalizeBox": {}}, {"PadBox": {"num_max_boxes": 50}}, {"BboxXYXY2XYWH": {}}, _NORMALIZE,
                  {"Permute": {}}, {"Gt2YoloTarget": targets}]  # fmt: skip
    else:
        batch += [_NORMALIZE, {"Permute": {}}, {"PadGT": {}}]
    whole = [{"Decode": {}}, resize, _NORMALIZE, {"Permute": {}}]
    train = {"sample_transforms": [{"Decode": {}}], "batch_transforms": batch, "batch_size": 2, "mixup_epoch": -1}
    return {
        "TrainReader": {**train, "shuffle": True, "drop_last": True},
        "EvalReader": {"sample_transforms": whole, "batch_size": 2},
        "TestReader": {"sample_transforms": whole, "batch_size": 1, "inputs_def": {"image_shape": [1, 3, side, side]}},
    }


def config_options(name: str, data: Path, side: int) -> List[str]:
    """What goes behind ``-o`` to run a config of the repository on a data set of ``coco_data``, small and on a CPU."""
    options: Dict[str, Any] = {
        "use_gpu": False, "norm_type": "bn", "num_classes": 3, "worker_num": 0, "log_iter": 1,
        "eval_size": [side, side],
        "LearningRate": {"base_lr": 0.001, "schedulers": _SCHEDULE},
        **_readers(name, side),
        **{f"{part}Dataset": {"dataset_dir": str(data)} for part in ("Train", "Eval", "Test")},
    }  # fmt: skip
    if name == "picodet":
        options["PicoHeadV2"] = {"static_assigner_epoch": 0}
    flat = []
    for key, value in options.items():
        inner = value if isinstance(value, dict) else {}
        flat += [f"{key}.{part}={json.dumps(content)}" for part, content in inner.items()]
        flat += [] if inner else [f"{key}={json.dumps(value)}"]
    return flat


def config_file(folder: Path, name: str, data: Path, side: int) -> Path:
    """Writes a config as the repository's: a detector of ``CONFIGS``, small, on a data set of ``coco_data``."""
    source = {"name": "COCODataSet", "dataset_dir": str(data)}
    train, val = "annotations/instances_train2017.json", "annotations/instances_val2017.json"
    config = copy.deepcopy(CONFIGS[name])
    if name == "picodet":
        config["LCPAN"]["spatial_scales"] = [0.125, 0.0625, 0.03125]  # LCPAN appends to its default
        config["PicoHeadV2"]["static_assigner_epoch"] = 0  # which needs nine anchors on each level
    config.update(
        use_gpu=False, log_iter=1, save_dir=str(folder / "output"), snapshot_epoch=1, epoch=1, worker_num=0,
        metric="COCO", num_classes=3, profiler_options=None, pretrain_weights="", eval_size=[side, side],
        export={"post_process": True, "nms": True, "benchmark": False, "fuse_conv_bn": False},
        LearningRate={"base_lr": 0.001, "schedulers": _SCHEDULE},
        OptimizerBuilder={"optimizer": {"type": "Momentum", "momentum": 0.9},
                          "regularizer": {"type": "L2", "factor": 4e-5}},
        TrainDataset={**source, "image_dir": "train2017", "anno_path": train,
                      "data_fields": ["image", "gt_bbox", "gt_class", "is_crowd"]},
        EvalDataset={**source, "image_dir": "val2017", "anno_path": val},
        TestDataset={"name": "ImageFolder", "dataset_dir": str(data), "anno_path": val},
        **_readers(name, side),
    )  # fmt: skip
    return _yaml(folder / f"{name}.yml", config)


def _yaml(path: Path, content: Dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


class Package:
    """The imported package, and the tools' steps with it."""

    def __init__(self) -> None:
        self.workspace = importlib.import_module("ppdet.core.workspace")
        self._trainer = importlib.import_module("ppdet.engine").Trainer
        self._slim = importlib.import_module("ppdet.slim").build_slim_model
        self._fresh = _copied(self.workspace.global_config)

    def _make(self, config: Path, slim: Optional[Dict[str, Any]], mode: str, options: Dict[str, Any]) -> Any:
        self.workspace.global_config.clear()
        self.workspace.global_config.update(_copied(self._fresh))
        cfg = self.workspace.load_config(str(config))
        self.workspace.merge_config(options)
        if slim is not None:
            file = _yaml(config.parent / f"{config.stem}_{slim['slim'].lower()}.yml", slim)
            cfg = self._slim(cfg, str(file), mode="train" if mode == "train" else "test")
            self.workspace.merge_config(options)
        return cfg

    def random(self, config: Path, feed: Dict[str, np.ndarray]) -> Any:
        """Makes the network with random weights that keep signals alive, saved as ``random.pdparams``; returns it."""
        paddle.seed(0)
        with paddle.utils.unique_name.guard():
            net = self.workspace.create(self._make(config, None, "train", {}).architecture)
        enliven(net, [{name: paddle.to_tensor(array) for name, array in feed.items()}])
        paddle.save(net.state_dict(), str(config.parent / "random.pdparams"))
        return net

    def train(self, config: Path, slim: Optional[Dict[str, Any]] = None, **options: Any) -> Any:
        """Trains from ``pretrain_weights`` and saves ``model_final``; returns the trainer."""
        with paddle.utils.unique_name.guard():  # names count from 0, as in a process of their own
            cfg = self._make(config, slim, "train", options)
            trainer = self._trainer(cfg, mode="train")
        if cfg.pretrain_weights:
            trainer.load_weights(cfg.pretrain_weights)
        trainer.train(False)
        return trainer

    def export(self, config: Path, out: Path, slim: Optional[Dict[str, Any]] = None, **options: Any) -> Any:
        """Exports to ``out``; returns the trainer, whose ``model`` is the exported one."""
        with paddle.utils.unique_name.guard():
            trainer = self._trainer(self._make(config, slim, "test", options), mode="test")
        trainer.load_weights(trainer.cfg.weights)
        trainer.export(str(out))
        return trainer

    def post_quant(self, config: Path, out: Path, slim: Dict[str, Any], **options: Any) -> Any:
        """Quantizes after training and exports; returns the trainer."""
        with paddle.utils.unique_name.guard():
            trainer = self._trainer(self._make(config, slim, "test", options), mode="eval")
        trainer.load_weights(trainer.cfg.weights)
        trainer.post_quant(str(out))
        return trainer


@contextmanager
def imported(root: Path) -> Iterator[Package]:
    """``ppdet`` out of ``root``, under the alias; nothing of it is left afterwards."""
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(root))
    try:
        with as_paddleslim():
            try:
                package = Package()
            except ImportError as error:
                pytest.skip(f"ppdet needs {error.name or error}: see .ci/run for what it imports")
            yield package
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("ppdet", "paddleslim"):
                del sys.modules[name]


def _copied(config: Any) -> Any:
    return {key: value.copy() if hasattr(value, "copy") else value for key, value in config.items()}


def feed_of(data: Path, side: int, count: int = 1) -> Dict[str, np.ndarray]:
    """The first images of ``val2017`` as a model takes them."""
    from PIL import Image

    files = sorted((data / "val2017").glob("*.jpg"))[:count]
    pixels = [np.asarray(Image.open(file).convert("RGB").resize((side, side))) for file in files]
    scaled = (np.stack(pixels) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return {
        "image": scaled.transpose(0, 3, 1, 2).astype("float32"),
        "im_shape": np.full([count, 2], side, "float32"),
        "scale_factor": np.ones([count, 2], "float32"),
    }


def comparable(net: Any, feed: Dict[str, np.ndarray]) -> List[np.ndarray]:
    """A dygraph detector's outputs: boxes and scores before suppression, then boxes and their number after it."""
    holder = getattr(net, "head", None) or net.post_process
    own, seen = holder.nms, []

    def watched(*arguments: Any, **named: Any) -> Any:
        seen.extend(arguments[:2])
        return own(*arguments, **named)

    holder.nms = watched
    paddle.jit.enable_to_static(False)  # the package exports the model itself, not a copy
    try:
        with paddle.no_grad():
            found = net({name: paddle.to_tensor(array) for name, array in feed.items()})
    finally:
        holder.nms = own
        paddle.jit.enable_to_static(True)
    return [tensor.numpy() for tensor in (*seen, found["bbox"], found["bbox_num"])]


def program_outputs(prefix: Path, feed: Dict[str, np.ndarray]) -> List[np.ndarray]:
    """The same of an exported program, executed by Paddle op by op."""
    model = Model.load(prefix)
    (nms,) = [op for op in model.program.global_block().ops if op.type.startswith("multiclass_nms")]
    wanted = [*nms.input("BBoxes"), *nms.input("Scores"), *model.fetches]
    return model.run({name: feed[name] for name in model.feeds}, fetch=wanted)
