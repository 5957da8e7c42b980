"""PaddleDetection's own tools, on a whole clone: quantize with PACT, after training, prune, export, and the files run.

    SLIMKIT_PADDLEDETECTION=/path/to/PaddleDetection python -m pytest -m clone tests/clones/test_paddledetection.py

The packages that docs/paddledetection.md lists must be importable. Nothing in the clone is written: each run's working
folder is a temporary one. Networks start from random weights, are small, and are trained for a few steps.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zlib  # noqa: F401
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import yaml
from coco_data import make_coco
from ppdet_run import config_options

from slimkit.deploy import lite, paddle_inference
from slimkit.ir import Model

CLONE = os.environ.get("SLIMKIT_PADDLEDETECTION", "")
pytestmark = [
    pytest.mark.clone,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(
        not (Path(CLONE) / "tools" / "train.py").is_file() if CLONE else True,
        reason="SLIMKIT_PADDLEDETECTION is not set to the folder of a whole clone of PaddleDetection, with tools/",
    ),
]

REPOSITORY = Path(__file__).resolve().parents[2]
SIDE = 64
#: Network -> its config, and how many convolutions are quantized.
NETWORKS = {
    "yolov3": ("configs/yolov3/yolov3_mobilenet_v3_large_270e_coco.yml", 82),
    "picodet": ("configs/picodet/picodet_s_320_coco_lcnet.yml", 98),
}
QAT = {
    "yolov3": "configs/slim/quant/yolov3_mobilenet_v3_qat.yml",
    "picodet": "configs/slim/quant/picodet_s_416_lcnet_quant.yml",
}
PTQ = "configs/slim/post_quant/picodet_s_ptq.yml"


class Clone:
    """A clone's tools, run in a folder of their own on a tiny data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = make_coco(folder / "coco", train=8, val=4, side=SIDE)
        self.floats: Dict[str, Path] = {}

    def run(self, tool: str, name: str, *arguments: str, slim: str = "", **options: Any) -> str:
        """``slimkit run tools/TOOL.py`` with a network's config; returns what it printed."""
        command = [sys.executable, "-m", "slimkit.cli", "run", f"{CLONE}/tools/{tool}.py"]
        command += ["-c", f"{CLONE}/{NETWORKS[name][0]}", *arguments]
        if slim:
            command += ["--slim_config", slim]
        command += ["-o", *config_options(name, self.data, SIDE)]
        command += [f"{key}={value}" for key, value in options.items()]
        return self.call(command)

    def call(self, command: List[str]) -> str:
        path = [str(REPOSITORY), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-4000:]
        return done.stdout

    def trained(self, name: str) -> Path:
        """Float weights: an epoch from random ones."""
        if name not in self.floats:
            out = self.folder / "float" / name
            self.run("train", name, pretrain_weights="null", epoch=1, save_dir=out)
            (self.floats[name],) = out.glob("model_final.pdparams")
        return self.floats[name]

    def slim(self, base: str, **changed: Any) -> str:
        """A config on top of one of the clone's, as its users write them; with other weights than those of the web."""
        (kind,) = re.findall(r"^slim: *(\w+)", (Path(CLONE) / base).read_text(), re.M)
        file = self.folder / Path(base).name
        file.write_text(yaml.safe_dump({"_BASE_": [f"{CLONE}/{base}"], "slim": kind, **changed}))
        return str(file)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: Any) -> Clone:
    return Clone(tmp_path_factory.mktemp("clone"))


def check_deployed(clone: Clone, folder: Path, layers: int) -> None:
    """``slimkit inspect``, ``slimkit export``; int8 on Paddle Inference, and Paddle-Lite's file."""
    slimkit = [sys.executable, "-m", "slimkit.cli"]
    found = json.loads(clone.call([*slimkit, "inspect", str(folder), "--json"]))
    assert len(found["quantized"]) == layers
    targets = "paddle,onnx" if lite.ARM.available() else "paddle,onnx,lite-arm"
    clone.call([*slimkit, "export", str(folder), str(folder / "out"), "--to", targets])
    random = np.random.RandomState(0)
    feed = {
        "image": random.randn(1, 3, SIDE, SIDE).astype("float32"),
        "im_shape": np.full([1, 2], SIDE, "float32"),
        "scale_factor": np.ones([1, 2], "float32"),
    }
    deployed = folder / "out" / "paddle" / "model"
    given = {name: feed[name] for name in Model.load(deployed).feeds}
    (outputs,) = paddle_inference.run(deployed, [given], int8=True)
    assert outputs[0].shape[1] == 6 and len(outputs[0]) == outputs[1].sum()
    assert paddle_inference.executed_precision(deployed, given)["int8"] == layers
    if "lite-arm" in targets:
        (file,) = (folder / "out").rglob("*.nb")
        assert file.stat().st_size < 1.3 * (folder / "model.pdiparams").stat().st_size


@pytest.mark.parametrize("name", NETWORKS)
def test_qat_with_pact(clone: Clone, name: str) -> None:
    slim = clone.slim(QAT[name], pretrain_weights=str(clone.trained(name)))
    out = clone.folder / "qat" / name
    clone.run("train", name, slim=slim, epoch=1, save_dir=out)
    weights = out / "model_final.pdparams"
    clone.run("eval", name, slim=slim, weights=weights)
    clone.run("export_model", name, "--output_dir", str(out / "inference"), slim=slim, weights=weights)
    check_deployed(clone, out / "inference" / Path(slim).stem, NETWORKS[name][1])


@pytest.mark.parametrize("name", NETWORKS)
def test_ptq(clone: Clone, name: str) -> None:
    slim = clone.slim(PTQ, weights=str(clone.trained(name)))
    out = clone.folder / "ptq" / name
    clone.run("post_quant", name, "--output_dir", str(out), slim=slim)
    check_deployed(clone, out / Path(slim).stem, NETWORKS[name][1])


def test_prune(clone: Clone) -> None:
    """YOLOv3's neck by FPGM: configs/slim/prune/yolov3_prune_fpgm.yml, with MobileNetV3's parameter names."""
    names = [f"conv2d_{number}.w_0" for number in (62, 63, 64, 67, 68, 69)]
    settings = {"criterion": "fpgm", "pruned_params": names, "pruned_ratios": [0.3] * 6, "print_params": False}
    weights = str(clone.trained("yolov3"))
    slim = clone.slim("configs/slim/prune/yolov3_prune_fpgm.yml", pretrain_weights=weights, Pruner=settings)
    out = clone.folder / "prune"
    clone.run("train", "yolov3", slim=slim, epoch=1, save_dir=out)
    trained = out / "model_final.pdparams"
    assert trained.stat().st_size < 0.95 * Path(weights).stat().st_size
    clone.run("export_model", "yolov3", "--output_dir", str(out / "inference"), slim=slim, weights=trained)
    prefix = out / "inference" / Path(slim).stem / "model"
    assert prefix.with_suffix(".json").is_file() and prefix.with_suffix(".pdmodel").is_file()
    assert Model.load(prefix).feeds == Model.load(f"{prefix}.json").feeds


def test_unstructured(clone: Clone) -> None:
    settings = {"stable_epochs": 0, "pruning_epochs": 1, "tunning_epochs": 1, "pruning_steps": 2, "ratio": 0.75,
                "initial_ratio": 0.15, "prune_params_type": "conv1x1_only"}  # fmt: skip
    base = "configs/slim/prune/picodet_m_unstructured_prune_75.yml"
    weights = str(clone.trained("picodet"))
    slim = clone.slim(base, pretrain_weights=weights, UnstructuredPruner=settings)
    out = clone.folder / "unstructured"
    clone.run("train", "picodet", slim=slim, epoch=2, save_dir=out, pretrain_weights=weights)
    assert (out / "model_final.pdparams").is_file()
