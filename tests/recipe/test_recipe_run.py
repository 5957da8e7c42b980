"""The whole recipe on few images: what it leaves, that a killed run resumes exactly, and each bad input."""

from __future__ import annotations

import importlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from rich.console import Console

from slimkit.cli import main
from slimkit.recipe.run_report import RunReport
from slimkit.recipe.runner import command_line, run_recipe
from slimkit.recipe.screen import STEPS, Screen

ROOT = Path(__file__).resolve().parents[2]
TEXT = """\
network: {name: mobilenet_v1, scale: 0.25, num_classes: 10}
data: {kind: fashion_mnist, image_size: 32, batch_size: 16, train_limit: 160, eval_limit: 64, workers: 0}
quant: {quantize_op_types: [conv2d, depthwise_conv2d, mul, matmul_v2]}
pact: {}
train: {epochs: 2, calibration_batches: 2}
run: {checkpoint_steps: 2}
verify: {paddle_inference: skip, lite: skip}
report: {layers: false}
"""


# Dropout and squeeze-and-excite, and weights to start from; five times the ops.
LARGER = "network={name: mobilenet_v3_small, num_classes: 10, weights: embedded}"


@pytest.fixture
def recipe(config_file):
    return config_file(TEXT, minimal=False)


@pytest.fixture
def fails(recipe, tmp_path, capsys):
    """Returns a function that runs the recipe with overrides and gives the one sentence it ends with."""

    def run(*overrides, resume=False, folder="out"):
        arguments = ["quant", "-c", recipe, "-o", f"run.output={tmp_path / folder}", *overrides]
        code = main(arguments + (["--resume"] if resume else []))
        sentence = capsys.readouterr().err
        assert code == 2 and sentence.count("\n") == 1, sentence
        return sentence

    return run


def test_whole_run(recipe, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    text, out = io.StringIO(), tmp_path / "out"
    overrides = [
        f"run.output={out}", LARGER, "train.epochs=1", "verify.paddle_inference=require", "verify.latency_seconds=0.02",
        "verify.batch_sizes=[2]", "report={layers: true, images: 8, bins: 32}",
    ]  # fmt: skip
    report = run_recipe(recipe, overrides, screen=Screen(Console(file=text, width=200)))

    shown = text.getvalue()
    positions = [shown.index(f"{i}/4  {name}") for i, name in enumerate(STEPS, 1)]
    assert positions == sorted(positions)
    assert os.listdir(tmp_path / "cwd") == [] and paddle.in_dynamic_mode()
    assert sorted(os.listdir(out)) == ["checkpoints", "float", "int8", "lite", "report.html", "report.json"]
    assert RunReport.model_validate_json((out / "report.json").read_text(encoding="utf-8")) == report
    assert report.quantized[0].weight in (out / "report.html").read_text(encoding="utf-8")

    assert report.curves.steps == list(range(1, 11)) and report.curves.evaluations[-1]["step"] == 10
    assert report.title == "mobilenet_v3_small, PACT, W8A8" and len(report.quantized) == 54
    assert report.other_ops["hard_swish"] == 19 and "conv2d" not in report.other_ops
    layer = report.quantized[0]
    assert layer.layer == "conv.0" and layer.sqnr_db > 10 and sum(layer.histogram.counts) > 0
    assert all(x.threshold_before > 0 and x.threshold_after > 0 for x in report.quantized)
    int8 = report.result("int8", "paddle")
    assert int8.status == "ok" and int8.samples == 64 and int8.latency_ms["2"] > 0
    assert int8.size_bytes < 0.4 * report.result("float", "paddle").size_bytes
    trained, exported = report.result("simulated", "training"), report.result("simulated", "paddle")
    assert exported.top1 == trained.top1


def command(recipe, out, *more):
    return [sys.executable, "-m", "slimkit.cli", "quant", "-c", recipe, "-o", f"run.output={out}", LARGER, *more]


def test_killed_and_resumed_gives_the_same_parameters(recipe, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(recipe, whole), env=environment, check=True, capture_output=True)
    run = subprocess.Popen(command(recipe, killed), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    last = killed / "checkpoints" / "last.npz"
    deadline = time.monotonic() + 300
    while not last.exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL and not (killed / "report.json").exists()
    done = subprocess.run(command(recipe, killed, "--resume"), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resumed      at step" in done.stdout
    for name in ("last", "best"):
        with np.load(whole / "checkpoints" / f"{name}.npz") as a, np.load(killed / "checkpoints" / f"{name}.npz") as b:
            assert a.files == b.files
            for key in a.files:
                assert key == "__slimkit_meta__" or np.array_equal(a[key], b[key]), key
    assert (whole / "int8" / "model.pdiparams").read_bytes() == (killed / "int8" / "model.pdiparams").read_bytes()
    resumed = RunReport.model_validate_json((killed / "report.json").read_text(encoding="utf-8"))
    reference = RunReport.model_validate_json((whole / "report.json").read_text(encoding="utf-8"))
    assert resumed.resumed and not reference.resumed
    assert resumed.curves == reference.curves
    assert [x.threshold_before for x in resumed.quantized] == [x.threshold_before for x in reference.quantized]


def test_nan_loss_keeps_the_best_checkpoint(fails, tmp_path):
    sentence = fails("train.lr.base=1e30", "train.max_steps=4", "pact=null")
    assert " became " in sentence and "lower train.lr.base" in sentence
    assert not (tmp_path / "out" / "int8").exists()


def test_resume_with_another_config(fails, recipe, tmp_path):
    small = ["train.max_steps=1", "train.epochs=1"]
    assert main(["quant", "-c", recipe, "-o", f"run.output={tmp_path / 'out'}", *small]) == 0
    sentence = fails(*small, "quant.weight_bits=4", "train.lr.base=0.5", resume=True)
    assert "quant.weight_bits (8 there, 4 here), train.lr.base (0.001 there, 0.5 here)" in sentence


def test_wrong_class_count(fails):
    assert "network.num_classes=10" in fails("network.num_classes=7")


def test_missing_data_root(fails, tmp_path):
    assert f"{tmp_path / 'nowhere'}" in fails(f"data.root={tmp_path / 'nowhere'}")


@pytest.fixture
def folder(tmp_path):
    """An ImageNet-style folder of two classes."""
    import cv2

    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 4)):
        for name in ("cat", "dog"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for i in range(count):
                file = tmp_path / "images" / part / name / f"{i}.png"
                cv2.imwrite(str(file), rng.integers(0, 255, (40, 40, 3), np.uint8))
    return tmp_path / "images"


def test_corrupt_image(fails, folder):
    (folder / "val" / "dog" / "2.png").write_bytes(b"no image")
    sentence = fails(f"data.root={folder}", "network={name: mobilenet_v3_small, num_classes: 2}", "data.batch_size=4")
    assert str(folder / "val" / "dog" / "2.png") in sentence


def test_unknown_network(fails):
    assert "did you mean mobilenet_v3_small?" in fails("network={name: mobilenet_v3_smal, num_classes: 10}")


def test_missing_weights(fails):
    assert "none.npz does not exist" in fails("network.weights=none.npz")


def test_device_that_is_not_there(fails):
    assert "run.place is gpu:0, but paddlepaddle" in fails("run.place=gpu:0")


def test_unwritable_output(fails, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in fails(folder="file/out")


def test_missing_required_runtime(fails, monkeypatch):
    monkeypatch.setattr("slimkit.recipe.verification._missing", lambda name: f"{name} is not here.")
    sentence = fails("verify.lite=require")
    assert "verify.lite is require, but it is missing: lite-x86 is not here." in sentence


def test_failed_required_runtime_is_told_after_the_report_is_written(fails, monkeypatch, tmp_path):
    from slimkit.errors import RuntimeFailedError

    def broken(*arguments, **more):
        raise RuntimeFailedError("Paddle Inference refused the model: no.")

    monkeypatch.setattr(importlib.import_module("slimkit.deploy.verify"), "verify", broken)
    sentence = fails("verify.paddle_inference=require", "train.max_steps=1", "train.epochs=1")
    assert sentence == "slimkit: Paddle Inference refused the model: no.\n"
    report = RunReport.model_validate_json((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [r.status for r in report.results] == ["ok", "ok", "ok", "failed"]


def test_command_line_can_be_typed_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/tools/quant.py"])
    assert command_line("a b.yml", ["x=[1, 2]"], True) == "python tools/quant.py -c 'a b.yml' -o 'x=[1, 2]' --resume"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/slimkit"])
    assert command_line("a.yml", [], False) == "slimkit quant -c a.yml"
