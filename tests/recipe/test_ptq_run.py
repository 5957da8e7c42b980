"""`slimkit ptq` from the command line to the report; what is wrong is one sentence, and nothing is half-written."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import numpy as np
import paddle
import pytest

from slimkit.cli import main
from slimkit.deploy.onnx_convert import can_convert
from slimkit.ir import Model
from slimkit.quant import QuantTable
from slimkit.recipe.config_docs import PAGES
from slimkit.recipe.config_file import load_as
from slimkit.recipe.ptq_report import PtqRunReport
from slimkit.recipe.ptq_schema import PtqRecipe

ROOT = Path(__file__).resolve().parents[2]


class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, 8, 3, padding=1)
        self.depthwise = paddle.nn.Conv2D(8, 8, 3, padding=1, groups=8)
        self.fc = paddle.nn.Linear(8, 3)

    def forward(self, x):
        x = paddle.nn.functional.relu(self.conv(x))
        x = paddle.nn.functional.relu(self.depthwise(x))
        return paddle.nn.functional.softmax(self.fc(x.mean([2, 3])))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``model``, and ``data.npz`` with the float model's classes as labels, ``plain.npy`` without."""
    made = tmp_path_factory.mktemp("ptq")
    paddle.seed(3)
    net = Net()
    net.eval()
    model = Model.from_layer(net, [paddle.static.InputSpec([None, 3, 16, 16], "float32", "x")])
    model.save(made / "model")
    images = np.random.RandomState(0).randn(24, 3, 16, 16).astype("float32")
    np.savez(made / "data.npz", x=images, label=model.run([images])[0].argmax(1))
    np.save(made / "plain.npy", images)
    np.save(made / "wrong.npy", images[:, :2])
    broken = images.copy()
    broken[3, 0, 0, 0] = np.nan
    np.save(made / "nan.npy", broken)
    (made / "empty").mkdir()
    return made


def _ptq(folder, out, *more, data="data.npz", model="model"):
    words = [str(folder / model), str(out), "--data", str(folder / data), *more]
    return main(["ptq", *words, "-o", "verify.latency_seconds=0"])


def test_from_model_and_data_to_a_verified_export(folder, tmp_path):
    runtimes = ["paddle"] if can_convert() else ["paddle", "onnx"]
    assert _ptq(folder, tmp_path / "out", "--to", ",".join(runtimes), "--algo", "kl", "--batch-size", "4") == 0
    report = PtqRunReport.model_validate_json((tmp_path / "out" / "report.json").read_text())
    assert (report.config["algo"], report.task, report.headline) == ("KL", "array", "top1")
    assert report.calibration == {"batches": 6, "samples": 24}
    ran = {(r.runtime, r.model): r for r in report.results}
    for runtime in runtimes:
        assert ran[runtime, "float"].metrics["top1"] == 1.0
        assert ran[runtime, "int8"].metrics["top1"] >= 0.8
        assert ran[runtime, "int8"].status == "ok" and ran[runtime, "int8"].against_float.sqnr_db > 15
        table = QuantTable.load(tmp_path / "out" / runtime / "quant_table.json")
        assert {op.type for op in table.ops} >= {"conv2d", "depthwise_conv2d"}
    for name in report.files.values():
        assert (tmp_path / "out" / name).is_file()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Measured per runtime" in page and "conv2d" in page


def test_without_labels_outputs_are_compared(folder, tmp_path, capsys):
    assert _ptq(folder, tmp_path / "out", data="plain.npy") == 0
    report = PtqRunReport.model_validate_json((tmp_path / "out" / "report.json").read_text())
    assert report.headline is None
    int8 = next(r for r in report.results if r.model == "int8")
    assert not int8.metrics and int8.against_float.sqnr_db > 15
    assert "no labels" in capsys.readouterr().out


def test_a_search_without_labels_keeps_the_outputs(folder, tmp_path):
    assert _ptq(folder, tmp_path / "out", "--max-drop", "1", "--time-budget", "30s", data="plain.npy") == 0
    report = PtqRunReport.model_validate_json((tmp_path / "out" / "report.json").read_text())
    assert "search" in report.seconds and report.headline is None


def test_a_search_ends_with_the_accuracy_or_the_best(folder, tmp_path):
    assert _ptq(folder, tmp_path / "out", "--max-drop", "5", "--time-budget", "60s") == 0
    report = PtqRunReport.model_validate_json((tmp_path / "out" / "report.json").read_text())
    int8 = next(r for r in report.results if r.model == "int8")
    assert int8.metrics["top1"] >= 0.95
    assert "search" in report.seconds


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "nothing"}, "there is no model at"),
        ({"data": "nothing.npy"}, "does not exist"),
        ({"data": "empty"}, "empty"),
        ({"data": "wrong.npy"}, "x"),
        ({"data": "nan.npy"}, "NaN"),
        ({"more": ["--algo", "kll"]}, "did you mean 'KL'"),
        ({"more": ["--to", "padle"]}, "did you mean 'paddle'"),
        ({"more": ["--task", "clasification"]}, "did you mean classification"),
        ({"more": ["-o", "ptq.algos=KL"]}, "did you mean ptq.algo"),
        ({"more": ["--max-drop", "1", "--time-budget", "soon"]}, "time budget"),
    ],
)
def test_what_is_wrong_is_one_sentence(folder, tmp_path, capsys, arguments, said):
    more = arguments.pop("more", [])
    assert _ptq(folder, tmp_path / "out", *more, **arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("slimkit: ") and said in error and "\n" not in error
    assert not list((tmp_path / "out").glob("**/*.pd*"))


def test_a_damaged_model_is_named(folder, tmp_path, capsys):
    for suffix in (".pdmodel", ".pdiparams"):
        (tmp_path / f"bad{suffix}").write_bytes((folder / f"model{suffix}").read_bytes()[:-100])
    assert _ptq(tmp_path, tmp_path / "out", model="bad", data=str(folder / "data.npz")) == 2
    error = capsys.readouterr().err.strip()
    assert "bad.pd" in error and "\n" not in error


def test_a_full_disk_leaves_nothing_half_written(folder, tmp_path, capsys):
    """A limit on the size of files stands for the full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        assert _ptq(folder, tmp_path / "out") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    error = capsys.readouterr().err.strip()
    assert "could not be written" in error and "\n" not in error
    assert not [p for p in (tmp_path / "out").glob("**/*") if p.is_file()]


def test_a_missing_argument_is_named(capsys):
    assert main(["ptq", "model", "out"]) == 2
    assert "--data is missing" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ppocr_rec_ptq", "ppocr_det_ptq", "ppocr_cls_ptq"])
def test_shipped_configs_are_valid(name):
    recipe = load_as(PtqRecipe, str(ROOT / "configs" / f"{name}.yml"))
    assert recipe.output == f"output/{name}"
    assert recipe.data.path != recipe.eval.path


def test_every_key_has_a_place_in_the_docs():
    text = PAGES["ptq_config.md"]()
    for name, field in PtqRecipe.model_fields.items():
        assert f"`{name}`" in text
        inner = getattr(field.annotation, "model_fields", {})
        for key in inner:
            assert f"| `{key}` |" in text, f"{name}.{key}"


def test_the_table_of_a_run_can_be_read_by_export(folder, tmp_path):
    assert _ptq(folder, tmp_path / "out", "--no-verify") == 0
    exported = str(tmp_path / "out" / "paddle" / "model")
    assert main(["export", exported, str(tmp_path / "again"), "--to", "paddle-old"]) == 0
    x = np.load(folder / "plain.npy")
    one = Model.load(tmp_path / "out" / "paddle" / "model").run([x])[0]
    other = Model.load(tmp_path / "again" / "paddle-old" / "model").run([x])[0]
    np.testing.assert_allclose(other, one, atol=1e-4)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["results"] == []
