"""Pruning recipes on few images: what they leave, that a stopped run resumes exactly, and each bad input."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn
from rich.console import Console

from slimkit.cli import main
from slimkit.ir import Model
from slimkit.recipe.config_file import load_as
from slimkit.recipe.prune_report import PruneRunReport
from slimkit.recipe.prune_run import run_prune
from slimkit.recipe.prune_schema import PruneRecipe
from slimkit.recipe.screen import Screen

ROOT = Path(__file__).resolve().parents[2]
TEXT = """\
network: {model: MODEL, num_classes: 10}
data: {kind: fashion_mnist, image_size: 12, batch_size: 16, train_limit: 96, eval_limit: 64, workers: 0}
run: {checkpoint_steps: 2}
prune: {method: uniform, target: {macs: 0.3}, round_to: 2}
sensitivity: {ratios: [0.25, 0.5], images: 64}
train: {epochs: 2, lr: {base: 0.01}}
verify: {run: false}
"""


class _Network(nn.Layer):
    """Two groups that can be pruned: the first convolution, and the two that are added."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2D(3, 8, 3, padding=1), nn.BatchNorm2D(8)
        self.left, self.right = nn.Conv2D(8, 16, 3, stride=2), nn.Conv2D(8, 16, 3, stride=2)
        self.classifier = nn.Linear(16, 10)

    def forward(self, x):
        x = nn.functional.relu(self.norm(self.first(x)))
        return self.classifier(nn.functional.relu(self.left(x) + self.right(x)).mean([2, 3]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with paddle.utils.unique_name.guard():
        paddle.seed(0)
        network = _Network()
    spec = [paddle.static.InputSpec([-1, 3, 12, 12], "float32", "image")]
    return Model.from_layer(network, spec).save(tmp_path_factory.mktemp("model") / "float")


@pytest.fixture
def recipe(config_file, model):
    return config_file(TEXT.replace("MODEL", str(model)), minimal=False)


def _run(path, tmp_path, *overrides, resume=False, folder="out"):
    loaded = load_as(PruneRecipe, path, [f"run.output={tmp_path / folder}", *overrides])
    return run_prune(loaded, resume=resume, screen=Screen(Console(file=io.StringIO(), width=200)))


@pytest.fixture
def fails(recipe, tmp_path, capsys):
    """Returns a function that runs the recipe with overrides and gives the one sentence it ends with."""

    def run(*overrides, command="prune"):
        code = main([command, "-c", recipe, "-o", f"run.output={tmp_path / 'out'}", *overrides])
        sentence = capsys.readouterr().err
        assert code == 2 and sentence.count("\n") == 1, sentence
        return sentence

    return run


def test_whole_run(recipe, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    report = _run(recipe, tmp_path, "prune.method=sensitivity", "verify={latency_seconds: 0.02, batch_sizes: [2]}")
    out = tmp_path / "out"
    assert os.listdir(tmp_path / "cwd") == []
    assert PruneRunReport.model_validate_json((out / "report.json").read_text(encoding="utf-8")) == report
    assert report.title == "float.pdmodel, sensitivity, MACs \u221230%"
    assert [stage.name for stage in report.stages] == ["float", "pruned", "fine-tuned"]
    assert report.costs["macs"].removed >= 0.3 and report.masked_difference < 1e-5
    float_row, pruned_row = report.results
    assert (float_row.model, pruned_row.model) == ("float", "pruned") and pruned_row.size_ratio < 0.95
    assert pruned_row.metrics["top1"] == report.figure("fine-tuned") and pruned_row.speed_ratio["2"] > 0

    saved = Model.load(out / "pruned" / "paddle" / "model")
    shapes = {name: array.shape for name, array in saved.params.items()}
    for group in report.groups:
        assert all(shapes[name][0] == group.after for name in group.parameters), group
        assert group.after % 2 == 0 and set(group.losses) == {"0.25", "0.5"}
    assert "results of the network" in report.stayed[0].reason
    assert [group.parameters for group in report.groups] == [["conv2d_0.w_0"], ["conv2d_1.w_0", "conv2d_2.w_0"]]
    assert report.groups[-1].parameters[1] in (out / "report.html").read_text(encoding="utf-8")


def test_steps_then_quantization(recipe, tmp_path):
    """The target is met in two steps, each from the network before; then the pruned network learns 8 bits."""
    report = _run(
        recipe, tmp_path, "prune.method=iterative", "prune.steps=2", "train.epochs=1",
        "quantize={qat: {pact: {}, train: {epochs: 1, calibration_batches: 2}}}", "verify={latency_seconds: 0}",
    )  # fmt: skip
    names = [stage.name for stage in report.stages]
    assert names == ["float", "pruned", "step 1, fine-tuned", "pruned", "fine-tuned", "quantized"]
    first, second = (stage.macs for stage in report.stages if stage.name == "pruned")
    whole = report.stages[0].macs
    assert second <= 0.7 * whole < first <= 0.85 * whole
    assert (tmp_path / "out" / "sensitivity.json").exists() and (tmp_path / "out" / "sensitivity-2.json").exists()
    assert [row.model for row in report.results] == ["float", "pruned", "int8"]
    assert report.results[2].int8_ops and report.results[2].size_ratio < report.results[1].size_ratio
    plans = json.loads((tmp_path / "out" / "plan.json").read_text(encoding="utf-8"))["steps"]
    kept = {group.name: group.after for group in report.groups}
    for name, went in plans[1]["plan"]["groups"].items():
        assert kept[name] == went["size"] - len(went["removed"])


def test_given_ratios(recipe, tmp_path):
    wanted = "prune={method: ratios, ratios: {conv2d_1.w_0: 0.5}, round_to: 1, criterion: taylor, gradient_batches: 1}"
    report = _run(recipe, tmp_path, wanted, "train.epochs=0")
    went = {group.name: (group.before, group.after) for group in report.groups if group.after != group.before}
    assert went == {"conv2d_1.w_0": (16, 8)} and report.level is None and report.stage("fine-tuned") is None


def test_resume_after_a_kill(recipe, tmp_path):
    """A run that was stopped in the middle of an epoch ends in the same parameters as one that was not."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "slimkit.cli", "prune", "-c", recipe, "-o", f"run.output={tmp_path / 'killed'}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    last = tmp_path / "killed" / "checkpoints" / "last.npz"
    limit = time.monotonic() + 120
    while not last.exists() and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.exists()
    subprocess.run([*command, "--resume"], env=environment, check=True, capture_output=True, timeout=200)
    command[-1] = f"run.output={tmp_path / 'whole'}"
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=200)
    resumed, whole = (Model.load(tmp_path / name / "pruned" / "paddle" / "model") for name in ("killed", "whole"))
    assert json.loads((tmp_path / "killed" / "report.json").read_text())["resumed"] is True
    for name, array in whole.params.items():
        np.testing.assert_array_equal(resumed.params[name], array)


def test_sensitivity_goes_on(recipe, tmp_path, capsys):
    arguments = ["sensitivity", "-c", recipe, "-o", f"run.output={tmp_path / 'out'}"]
    assert main(arguments) == 0
    points = tmp_path / "out" / "sensitivity.json"
    held = json.loads(points.read_text(encoding="utf-8"))
    name = next(iter(held["losses"]))
    held["losses"][name]["0.5"] = 7.0  # kept as it is: known points are not measured again
    del held["losses"][name]["0.25"]
    points.write_text(json.dumps(held), encoding="utf-8")
    assert main(arguments) == 0
    again = json.loads(points.read_text(encoding="utf-8"))["losses"]
    assert again[name]["0.5"] == 7.0 and "0.25" in again[name] and len(again) == 2
    assert (tmp_path / "out" / "sensitivity.svg").read_text(encoding="utf-8").startswith("<svg")
    assert main([*arguments, "sensitivity.images=32"]) == 2
    assert "images 64, this config has 32" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prune.target={macs: 1.5}", "prune.target.macs"),
        ("prune.target={macs: 0.5, latency: 0.5}", "exactly one of macs, flops, parameters, latency"),
        ("prune.target={mac: 0.5}", "did you mean prune.target.macs"),
        ("prune.target=null", "needs prune.target"),
        ("prune.criterion=l1norm", "l1_norm"),
        ("prune={method: ratios, ratios: {conv2d_1.w_0: 1.0}}", "a fraction from 0 to below 1"),
        ("prune={method: ratios, ratios: {conv: 0.5}}", "'conv' is no parameter with filters"),
        ("prune.skip=[conv9*]", "matches no parameter"),
        ("prune.target.macs=0.99", "beyond reach"),
        ("prune.round_to=64", "beyond reach"),
        ("to=[padle]", "did you mean 'paddle'"),
        ("model=ppocr:det", "give exactly one of network and model"),
        ("quantize={}", "give exactly one of quantize.ptq and quantize.qat"),
        ("sensitivity.ratios=[0.5, 1.0]", "above 0 and below 1"),
    ],
)
def test_bad_input(fails, override, message):
    assert message in fails(override)
