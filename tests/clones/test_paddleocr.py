"""PaddleOCR's own tools, on a whole clone: quantize with its PACT, prune, export, and the files run.

    SLIMKIT_PADDLEOCR=/path/to/PaddleOCR python -m pytest -m clone tests/clones/test_paddleocr.py

The packages that docs/paddleocr.md lists must be importable. The clone is copied (its code only), as a switch in one of
its scripts is set; float weights are PP-OCR's own. CRNN has none there, and starts from chance.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zlib  # noqa: F401
from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest
import yaml
from ocr_data import options, write_ocr_data

from slimkit.deploy import lite, paddle_inference
from slimkit.ir import Model
from slimkit.recipe.data.real_models import ppocr_model

CLONE = os.environ.get("SLIMKIT_PADDLEOCR", "")
pytestmark = [
    pytest.mark.clone,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not CLONE, reason="SLIMKIT_PADDLEOCR is not set: the folder of a clone of PaddleOCR"),
]

REPOSITORY = Path(__file__).resolve().parents[2]
CLONES = REPOSITORY / "tests" / "clones"
#: Network -> config, part of the data, PP-OCR's inference model, share of products that oneDNN runs in integers.
NETWORKS: Dict[str, tuple] = {
    "cls": ("configs/cls/cls_mv3.yml", "cls", "cls", 1.0),
    "det": ("configs/det/ch_PP-OCRv4/ch_PP-OCRv4_det_student.yml", "det", "det", 0.9),
    "rec": ("configs/rec/PP-OCRv4/ch_PP-OCRv4_rec.yml", "rec", "rec", 0.8),
    "crnn": ("configs/rec/rec_icdar15_train.yml", "digits", "", 0.8),
}
#: Networks that are pruned; of PP-OCRv4's recognizer the one without its second head, CRNN not: it reads nothing yet.
PRUNED = ("cls", "det", "ctc")


class Clone:
    """A copy of a clone's code, data and float weights."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.weights = folder / "PaddleOCR", folder / "data", folder / "weights"
        for part in ("ppocr", "tools", "configs", "deploy/slim"):
            shutil.copytree(Path(CLONE) / part, self.folder / part)
        script = self.folder / "deploy/slim/prune/sensitivity_anal.py"
        text = script.read_text(encoding="utf-8")
        assert "run_sensitive_analysis = False" in text
        script.write_text(
            text.replace("run_sensitive_analysis = False", "run_sensitive_analysis = True"), encoding="utf-8"
        )
        write_ocr_data(self.data, scale=0.0625)
        self.weights.mkdir()

    def run(self, script: str, *arguments: str) -> str:
        """``slimkit run`` in the copy; returns what it printed."""
        path = [str(REPOSITORY), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SLIMKIT_PADDLEOCR": str(self.folder),
        }
        command = [sys.executable, "-m", "slimkit.cli", "run", script, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-4000:]
        return done.stdout + done.stderr

    def config(self, name: str) -> str:
        """The network's config: its own, a detector's with small pages, a recognizer's with one head."""
        path = NETWORKS["rec" if name == "ctc" else name][0]
        if name not in ("det", "ctc"):
            return path
        settings = yaml.safe_load((self.folder / path).read_text(encoding="utf-8"))
        if name == "ctc":
            without_second_head(settings)
        else:
            small_pages(settings)
        written = self.folder / f"{name}.yml"
        written.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return str(written)

    def options(self, name: str) -> List[str]:
        """``-c`` and ``-o``: the config, the data, small batches, float weights."""
        part = NETWORKS["rec" if name == "ctc" else name][1]
        batch = 2 if part in ("det", "rec") else 8
        rows = [
            *options(self.data, part), "Global.use_gpu=False", "Global.distributed=False", "Global.epoch_num=1",
            "Global.eval_batch_step=[0,1000]", "Global.print_batch_step=1", "Optimizer.lr.learning_rate=0.00005",
            *(f"{section}.loader.{key}" for section in ("Train", "Eval") for key in ("num_workers=0",)),
            f"Train.loader.batch_size_per_card={batch}", f"Eval.loader.batch_size_per_card={1 if name == 'det' else 4}",
        ]  # fmt: skip
        if part == "rec":
            rows += [f"Train.sampler.first_bs={batch}", "Optimizer.lr.warmup_epoch=0"]
        if part == "det":
            rows += ["Optimizer.lr.warmup_epoch=0"]
        return ["-c", self.config(name), "-o", *rows, *self.float_weights(name)]

    def float_weights(self, name: str) -> List[str]:
        """``-o`` of PP-OCR's weights; nothing for CRNN."""
        _, part, model, _ = NETWORKS["rec" if name == "ctc" else name]
        out = self.weights / name
        if not model:
            return []
        if not out.with_suffix(".pdparams").exists():
            inference = ppocr_model(model)
            place = str(self.data / f"{part}_train")
            said = self.run(str(CLONES / "ocr_weights.py"), self.config(name), str(inference), place, str(out))
            difference = re.search(r"^difference (\S+)$", said, re.M)
            assert difference and float(difference[1]) < 1e-4, said[-2000:]
        return [f"Global.pretrained_model={out}"]


def without_second_head(settings: dict) -> None:
    """docs/paddleocr.md, "The recognizer of PP-OCRv4"."""
    ctc = settings["Architecture"]["Head"]["head_list"][0]["CTCHead"]
    neck = dict(ctc["Neck"])
    kind = neck.pop("name")
    settings["Architecture"]["Neck"] = {"name": "SequenceEncoder", "encoder_type": kind, **neck}
    settings["Architecture"]["Head"] = {"name": "CTCHead", **ctc["Head"]}
    settings["Loss"] = {"name": "CTCLoss"}
    for part in ("Train", "Eval"):
        steps = settings[part]["dataset"]["transforms"]
        steps[:] = [{"CTCLabelEncode": None} if "MultiLabelEncode" in step else step for step in steps]
        steps[-1] = {"KeepKeys": {"keep_keys": ["image", "label", "length"]}}


def small_pages(settings: dict) -> None:
    """Crops and pages of 160 pixels instead of 640 and 736."""
    for step in settings["Train"]["dataset"]["transforms"]:
        if "EastRandomCropData" in step:
            step["EastRandomCropData"]["size"] = [160, 160]
    for step in settings["Eval"]["dataset"]["transforms"]:
        if "DetResizeForTest" in step:
            step["DetResizeForTest"] = {"limit_side_len": 320, "limit_type": "max"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return Clone(tmp_path_factory.mktemp("ocr"))


def outputs(clone: Clone, name: str, kind: str, common: List[str], checkpoint: Path):
    """(x, what the trained network computes of it)"""
    out = checkpoint.parent / "outputs.npz"
    clone.run(str(CLONES / "ocr_outputs.py"), str(out), kind, *common, f"Global.checkpoints={checkpoint}")
    with np.load(out) as arrays:
        return arrays["x"], arrays["y"]


@pytest.fixture(scope="module", params=list(NETWORKS))
def quantized(request, clone, tmp_path_factory):
    """(network, folder of the export, x, the trained network's result, the log of the training)"""
    name, out = request.param, tmp_path_factory.mktemp(request.param)
    common = [*clone.options(name), f"Global.save_model_dir={out}", f"Global.save_inference_dir={out}/int8"]
    log = clone.run("deploy/slim/quantization/quant.py", *common)
    trained = out / "latest"
    clone.run("deploy/slim/quantization/export_model.py", *common, f"Global.checkpoints={trained}")
    x, y = outputs(clone, name, "quant", common, trained)
    return name, out / "int8", x, y, log


def test_the_export_is_the_trained_network(quantized):
    _, folder, x, y, _ = quantized
    model = Model.load(folder)
    assert model.feeds == ["x"]
    np.testing.assert_allclose(model.run([x])[0], y, rtol=1e-5, atol=1e-5)


def test_every_picture_was_trained_on(quantized):
    *_, log = quantized
    assert "Traceback" not in log and "0-dimensional" not in log


def test_paddle_inference_runs_it_in_int8(quantized, tmp_path):
    name, folder, x, y, _ = quantized
    run_command("export", str(folder), str(tmp_path), "--to", "paddle")
    path = str(tmp_path / "paddle" / "model.pdmodel")
    found = paddle_inference.run(path, [[x]])[0][0]
    if name != "crnn":  # which is at chance
        assert np.corrcoef(found.ravel(), y.ravel())[0, 1] > 0.9
    precision = paddle_inference.executed_precision(path, [x])
    share = NETWORKS[name][3]
    assert precision["int8"] >= share * (precision["int8"] + precision["float"]), precision["summary"]


@pytest.mark.lite
def test_paddle_lite_takes_it(quantized, tmp_path):
    _, folder, *_ = quantized
    made = lite.convert(str(folder / "inference.pdmodel"), tmp_path / "model", "arm")
    assert made.int8_kernels > 0
    assert made.size_bytes < 1.2 * sum(file.stat().st_size for file in folder.iterdir())


def run_command(*arguments: str) -> str:
    """A slimkit command."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "slimkit.cli", *arguments], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module", params=PRUNED)
def pruned(request, clone, tmp_path_factory):
    """(network, folder of the export, x, the trained network's result)"""
    name, out = request.param, tmp_path_factory.mktemp(f"{request.param}_pruned")
    common = [*clone.options(name), f"Global.save_model_dir={out}", f"Global.save_inference_dir={out}/pruned"]
    few = NETWORKS["rec" if name == "ctc" else name][1]
    labels = clone.data / f"{few}_test" / "two.txt"
    lines = (clone.data / f"{few}_test" / "label.txt").read_text(encoding="utf-8").splitlines(True)
    labels.write_text("".join(lines[: 1 if name == "det" else 4]), encoding="utf-8")
    common.append(f"Eval.dataset.label_file_list=[{labels}]")
    clone.run("deploy/slim/prune/sensitivity_anal.py", *common)
    shutil.copy(clone.folder / "deploy/slim/prune/sen.pickle", clone.folder / "sen.pickle")
    (clone.folder / "deploy/slim/prune/sen.pickle").unlink()
    clone.run("deploy/slim/prune/export_prune_model.py", *common, f"Global.checkpoints={out}/latest")
    x, y = outputs(clone, name, "prune", common, out / "latest")
    return name, out / "pruned", x, y


def test_the_pruned_export_is_the_trained_network(pruned):
    _, folder, x, y = pruned
    np.testing.assert_allclose(Model.load(folder).run([x])[0], y, rtol=1e-3, atol=1e-4)


def test_the_pruned_network_is_smaller(pruned):
    name, folder, *_ = pruned

    def whole(path):
        return sum(array.size for array in Model.load(path).params.values())

    assert whole(folder) < 0.98 * whole(ppocr_model(NETWORKS["rec" if name == "ctc" else name][2]))


@pytest.mark.lite
def test_paddle_lite_takes_the_pruned_one(pruned, tmp_path):
    _, folder, *_ = pruned
    out = run_command("export", str(folder), str(tmp_path), "--to", "lite-arm")
    assert "model.nb" in out


def test_quant_kl(clone, tmp_path):
    """deploy/slim/quantization/quant_kl.py on what tools/export_model.py writes."""
    common = [*clone.options("cls"), f"Global.save_model_dir={tmp_path}"]
    clone.run("tools/export_model.py", *common, f"Global.save_inference_dir={tmp_path}/float")
    where = [f"Global.inference_model={tmp_path}/float", f"Global.save_inference_dir={tmp_path}/ptq"]
    clone.run("deploy/slim/quantization/quant_kl.py", *common, *where)
    said = json.loads(run_command("inspect", str(tmp_path / "ptq"), "--json"))
    assert "quantized" in json.dumps(said)
