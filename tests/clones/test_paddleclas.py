"""PaddleClas's own tools, on a whole clone: a training of few steps, export, quantize, and the files run.

    SLIMKIT_PADDLECLAS=/path/to/PaddleClas python -m pytest -m clone tests/clones/test_paddleclas.py

PaddleClas's requirements (visualdl, scikit-learn, ...) must be importable; docs/paddleclas.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zlib  # noqa: F401
from pathlib import Path

import numpy as np
import pytest
from clas_data import write_images

from slimkit.deploy import lite, paddle_inference
from slimkit.ir import Model
from slimkit.quant.load_quantized import load_quantized
from slimkit.recipe.exporters import export_for

CLONE = os.environ.get("SLIMKIT_PADDLECLAS", "")
pytestmark = [
    pytest.mark.clone,
    pytest.mark.skipif(not CLONE, reason="SLIMKIT_PADDLECLAS is not set: the folder of a clone of PaddleClas"),
]

SIZE = 64
REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
#: Config -> of the int8 model on Paddle Inference: the share of the products that run in integers, and the least
#: correlation with the trained model. None: the config prunes. Two steps leave networks that amplify every rounding
#: (MobileNetV3's float arithmetic in another order: 0.956; measured in int8: 0.44, ResNet50_vd 0.90, PPLCNet 0.99), so
#: MobileNetV3's accuracy in int8 is tests/plugins/test_ppcls_arch.py's and, of a real training, docs/paddleclas.md's.
CONFIGS = {
    "MobileNetV3_large_x1_0_quantization": (1.0, -1.0),
    "PPLCNet_x1_0_quantization": (1.0, 0.98),
    "ResNet50_vd_quantization": (0.95, 0.8),
    "MobileNetV3_large_x1_0_prune": None,
    "ResNet50_vd_prune": None,
}


def run(script: str, *arguments: str) -> str:
    """``slimkit run`` in the clone; returns what it printed."""
    path = [str(REPOSITORY), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-m", "slimkit.cli", "run", script, *arguments]
    done = subprocess.run(command, cwd=CLONE, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), SIZE, train=16, test=2)


def options(data: Path, *more: str):
    """-o arguments: the data, one epoch of two steps, evaluated on what it was trained on."""
    part = "DataLoader.{}.dataset.{}={}"
    values = [
        "Global.device=cpu", "Global.epochs=1", "Arch.class_num=10", f"Global.image_shape=[3,{SIZE},{SIZE}]",
        *(part.format(name, "image_root", data) for name in ("Train", "Eval")),
        *(part.format(name, "cls_label_path", data / "train_list.txt") for name in ("Train", "Eval")),
        "DataLoader.Train.loader.num_workers=0", "DataLoader.Eval.loader.num_workers=0",
        "DataLoader.Train.sampler.batch_size=8", "Optimizer.lr.learning_rate=0.01",
        part.format("Train", "transform_ops.1.RandCropImage.size", SIZE),
        part.format("Eval", "transform_ops.1.ResizeImage.resize_short", SIZE),
        part.format("Eval", "transform_ops.2.CropImage.size", SIZE),
        *more,
    ]  # fmt: skip
    return [word for value in values for word in ("-o", value)]


@pytest.fixture(scope="module", params=list(CONFIGS))
def exported(request, data, tmp_path_factory):
    """(config, file prefix, x, the trained model's probabilities)"""
    out = tmp_path_factory.mktemp(request.param)
    config = ["-c", f"ppcls/configs/slim/{request.param}.yaml"]
    run(str(HERE / "clas_start.py"), str(out / "start"), request.param.rpartition("_")[0], str(SIZE))
    common = [*config, *options(data, f"Arch.pretrained={out / 'start'}", f"Global.output_dir={out}")]
    run("tools/train.py", *common)
    trained = ["-o", f"Global.pretrained_model={out}/latest"]
    run("tools/export_model.py", *common, *trained, "-o", f"Global.save_inference_dir={out}")
    run(str(HERE / "clas_outputs.py"), str(out / "outputs.npz"), *common, *trained)
    with np.load(out / "outputs.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    name = "inference" if CONFIGS[request.param] is None else "inference_int8"
    return request.param, out / name, x, y


def differences(probabilities):
    """What a class's logit differs by between the images."""
    found = np.log(probabilities)
    found -= found.mean(axis=1, keepdims=True)
    return found - found.mean(axis=0, keepdims=True)


def test_the_export_is_the_trained_model(exported):
    _, prefix, x, expected = exported
    assert differences(expected).std() > 1e-3  # of logits: a hundred times what is tolerated
    np.testing.assert_allclose(Model.load(f"{prefix}.pdmodel").run([x])[0], expected, rtol=1e-5, atol=1e-6)


def test_paddle_inference_runs_it(exported, tmp_path):
    config, prefix, x, expected = exported
    marks = CONFIGS[config]
    written = f"{prefix}.pdmodel" if marks is None else export_for("paddle", load_quantized(prefix), tmp_path)
    found = paddle_inference.run(written, [[x]], int8=marks is not None)[0][0]
    if marks is None:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
        return
    agreement = np.corrcoef(differences(found).ravel(), differences(expected).ravel())[0, 1]
    assert agreement > marks[1]
    precision = paddle_inference.executed_precision(written, [x])
    assert precision["int8"] >= marks[0] * (precision["int8"] + precision["float"]), precision["summary"]
    assert precision["hazards"] == []


@pytest.mark.lite
def test_paddle_lite_takes_it(exported, tmp_path):
    config, prefix, *_ = exported
    made = lite.convert(f"{prefix}.pdmodel", tmp_path / "model", "arm")
    model = Model.load(f"{prefix}.pdmodel")
    products = sum(model.op_counts().get(name, 0) for name in ("conv2d", "depthwise_conv2d", "matmul_v2"))
    assert made.int8_kernels == (0 if CONFIGS[config] is None else products)
    assert made.size_bytes < 1.1 * sum(array.nbytes for array in model.params.values())


def test_deploy_slim_quant_post_static(exported, data):
    config, prefix, x, expected = exported
    if config != "MobileNetV3_large_x1_0_prune":
        pytest.skip("one float export is enough")
    run(
        "deploy/slim/quant_post_static.py",
        *("-c", "ppcls/configs/ImageNet/MobileNetV3/MobileNetV3_large_x1_0.yaml"),
        *options(data, f"Global.save_inference_dir={prefix.parent}"),
    )
    found = Model.load(prefix.parent / "quant_post_static_model").run([x])[0]
    assert np.abs(found - expected).max() < 0.05
