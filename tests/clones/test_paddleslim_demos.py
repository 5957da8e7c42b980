"""The demos of PaddleSlim's own repository, unchanged, under ``slimkit run``; their data is random.

SLIMKIT_PADDLESLIM is a clone of PaddleSlim (develop); it is copied, not written to. They need six and tqdm.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict

import numpy as np
import paddle
import pytest

import slimkit

CLONE = os.environ.get("SLIMKIT_PADDLESLIM", "")

pytestmark = [
    pytest.mark.clone,
    pytest.mark.skipif(not Path(CLONE, "demo").is_dir() or not CLONE, reason="SLIMKIT_PADDLESLIM is no clone"),
]

CPU = "--use_gpu False --batch_size 16 --num_epochs {epochs} --log_period 1"
GMP = "--batch_size_for_validation 16 --pruning_strategy gmp --pruning_epochs 1 --tunning_epochs 1 --pruning_steps 2"

#: Script -> its arguments, and a line it must print.
DEMOS: Dict[str, tuple] = {
    "prune/train.py": (
        CPU.format(epochs=1) + " --data cifar10 --pruned_ratio 0.31 --model MobileNet --test_period 1",
        r"Final eval epoch\[0\] - acc_top1: [\d.]+",
    ),
    "prune/train.py ": (
        CPU.format(epochs=1)
        + " --data cifar10 --pruned_ratio 0.31 --model ResNet34 --criterion geometry_median --test_period 1",
        r"Final eval epoch\[0\] - acc_top1: [\d.]+",
    ),
    "quant/quant_aware/train.py": (
        CPU.format(epochs=1) + " --data mnist --pretrained_model {weights}",
        r"eval best_model after convert",
    ),
    "quant/pact_quant_aware/train.py": (
        CPU.format(epochs=1) + " --data mnist --model MobileNet --pretrained_model {weights}",
        r"final acc:[\d.]+",
    ),
    "unstructured_prune/train.py": (
        CPU.format(epochs=2) + f" --data mnist --test_period 1 {GMP}",
        r"sparsity of the inference model is 5[45]\.",
    ),
    "dygraph/unstructured_pruning/train.py": (
        CPU.format(epochs=2) + f" --data cifar10 --test_period 1 --num_workers 0 {GMP}",
        r"sparsity of the pruned model is: 5[45]\.",
    ),
    "dygraph/quant/train.py": (
        CPU.format(epochs=1) + " --data cifar10 --use_pact True --total_images 64",
        r"saved .*qat_model\.pdmodel: 65 quantized ops",
    ),
    "dygraph/pruning/train.py": (
        CPU.format(epochs=1) + " --data cifar10 --pruned_ratio 0.25 --model resnet34 --criterion fpgm --test_period 1",
        r"save checkpoint at .*models/final",
    ),
    "dygraph/post_quant/ptq.py": (
        "--data {images} --model mobilenet_v3 --quant_batch_num 2 --quant_batch_size 2 --output_dir {out}",
        r"saved .*int8_infer/model\.pdmodel: 49 quantized ops",
    ),
}


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demos."""
    folder = tmp_path_factory.mktemp("paddleslim")
    shutil.copytree(Path(CLONE, "demo"), folder / "demo", ignore=shutil.ignore_patterns("*.png", "*.jpg", ".git"))
    return folder / "demo"


def _run(folder: Path, *arguments: str) -> str:
    root = Path(slimkit.__file__).parents[1]
    command = [sys.executable, "-c", "import sys; from slimkit.cli import main; sys.exit(main())", "run", *arguments]
    search = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def weights(demos: Path) -> Path:
    """What paddle.static.save wrote of MobileNet after training; the demos look for a file of the bare name too."""
    code = """
import sys, paddle, models
paddle.enable_static()
image = paddle.static.data("image", [None, 1, 28, 28])
label = paddle.static.data("label", [None, 1], "int64")
scores = models.MobileNet().net(input=image, class_dim=10)
paddle.optimizer.Momentum(0.1, 0.9).minimize(paddle.mean(paddle.nn.functional.cross_entropy(scores, label)))
paddle.static.Executor().run(paddle.static.default_startup_program())
paddle.static.save(paddle.static.default_main_program(), sys.argv[1])
"""
    (demos / "weights.py").write_text(code)
    _run(demos, "weights.py", str(demos / "mobilenet"))
    (demos / "mobilenet").touch()
    return demos / "mobilenet"


@pytest.fixture(scope="module")
def images(demos: Path) -> Path:
    """Eight pictures as ImageNet's validation set is laid out, where the demos look for it."""
    from PIL import Image

    folder = demos / "data" / "ILSVRC2012"
    (folder / "val").mkdir(parents=True)
    for number in range(8):
        pixels = np.random.RandomState(number).randint(0, 255, (240, 250, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / "val" / f"{number}.jpg")
    lines = [f"val/{number}.jpg {number}" for number in range(8)]
    (folder / "val_list.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("demo", DEMOS)
def test_a_demo_runs_unchanged(demos: Path, weights: Path, images: Path, tmp_path: Path, demo: str) -> None:
    arguments, says = DEMOS[demo]
    given = arguments.format(weights=weights, images=images, out=tmp_path / "out").split()
    driver = Path(__file__).with_name("slim_demo.py")
    said = _run(demos, str(driver), str(demos / demo.strip()), *given)
    assert re.search(says, said), said[-2000:]


def test_post_training_quantization_of_a_model_that_paddle_3_saved(demos: Path, images: Path, tmp_path: Path) -> None:
    network = paddle.vision.models.mobilenet_v1(scale=0.25)
    network.eval()
    spec = [paddle.static.InputSpec([None, 3, 224, 224], "float32", "x")]
    traced = paddle.jit.to_static(network, input_spec=spec, full_graph=True)
    paddle.jit.save(traced, str(tmp_path / "float" / "inference"))
    assert not (tmp_path / "float" / "inference.pdmodel").exists()
    folder, files = demos / "quant" / "quant_post", "--model_filename inference.pdmodel --params_filename"
    given = f"--use_gpu False --input_name x --batch_size 2 --batch_num 2 --algo hist {files} inference.pdiparams"
    paths = ["--model_path", str(tmp_path / "float"), "--save_path", str(tmp_path / "int8")]
    _run(folder, "quant_post.py", *given.split(), *paths)
    said = _run(folder, "eval.py", "--use_gpu", "False", "--model_path", str(tmp_path / "int8"))
    assert re.search(r"acc_top1: [\d.]+; acc_top5: [\d.]+", said)
