"""`slimkit verify`: forms, exit codes, what it prints, and one sentence for what is wrong."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from deploy.programs import Builder, random
from rich.console import Console
from test_ptq_html import report as _report

from slimkit.cli import main
from slimkit.errors import ConfigError, ModelError, SlimkitError
from slimkit.recipe.ptq_report import PtqRunReport
from slimkit.recipe.verify_command import exit_code
from slimkit.recipe.verify_models import default_runtimes, for_runtimes, signature_of
from slimkit.recipe.verify_show import show_verification

report = _report  # the fixture of a report with every kind of row
SHAPE = [-1, 4, 6, 6]
IMAGES, WEIGHT = random(1, 6, 4, 6, 6).clip(-3, 3), random(2, 3, 4, 6, 6, size=0.2)


def classifier(quantize: bool):
    """A convolution over the whole image: three class scores."""
    builder = Builder()
    x = builder.qdq("x", 3.0, "a") if quantize else "x"
    weight = builder.weight(WEIGHT, "w") if quantize else builder.param("w", WEIGHT)
    y = builder.conv(x, weight, "y", paddings=[0, 0])
    builder.op("reshape2", {"X": y}, {"Out": "out", "XShape": "shape"}, shape=[-1, 3])
    return builder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``float`` and ``int8`` models, and ``data.npz`` with the float model's classes as labels."""
    made = tmp_path_factory.mktemp("verify")
    for name in ("float", "int8"):
        (made / name).mkdir()
        classifier(name == "int8").save(made / name / "model", SHAPE, "out")
    scores = np.einsum("nchw,kchw->nk", IMAGES, WEIGHT)
    np.savez(made / "data.npz", x=IMAGES, label=scores.argmax(1))
    np.save(made / "plain.npy", IMAGES)
    return made


def verify(folder, *more, model="int8", data="data.npz"):
    words = [folder / model, "--against", folder / "float", "--data", folder / data, "--latency-seconds", 0, *more]
    return main(["verify", *map(str, words)])


def test_both_runtimes_from_one_paddle_model(folder, capsys, tmp_path):
    page = tmp_path / "page.html"
    assert verify(folder, "--on", "paddle,onnx", "--json", "--report", page, "--fail-below", 40) == 0
    found = PtqRunReport.model_validate_json(capsys.readouterr().out)
    assert [(r.runtime, r.model) for r in found.results] == [
        ("paddle", "float"), ("paddle", "simulated"), ("paddle", "int8"), ("onnx", "float"), ("onnx", "int8"),
    ]  # fmt: skip
    assert found.headline == "top1" and [r.metrics["top1"] for r in found.results if r.model == "float"] == [1, 1]
    assert all(r.status == "ok" and r.samples == 6 for r in found.results)
    assert all(r.against_float.sqnr_db > 25 for r in found.results if r.model == "int8")
    assert found.results[2].int8_ops == 1 and "verification report" in page.read_text(encoding="utf-8")


def test_data_without_labels_and_a_limit(folder, capsys):
    assert verify(folder, "--limit", 2, data="plain.npy") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "outputs agree with float's to" in printed and "Top-1" not in printed


@pytest.mark.parametrize(
    ("more", "changes", "says"),
    [
        (["--on", "padle"], {}, "did you mean 'paddle'"),
        (["--fail-below", 1], {"data": "plain.npy"}, "--fail-below needs labels"),
        (["--option", "sise=3"], {}, "The task array has no option sise"),
        (["--option", "size"], {}, "--option size is not KEY=VALUE"),
        (["--option", "mean=[1"], {}, "--option mean=[1 is not KEY=VALUE"),
        ([], {"data": "none.npz"}, "does not exist"),
        ([], {"model": "nowhere"}, "No model is at"),
        ([], {"model": "corrupt"}, "corrupt/model.pdmodel"),
        ([], {"data": "wrong.npy"}, "has shape (6, 5, 6, 6), but the model takes (any, 4, 6, 6)"),
        ([], {"data": "empty.npy"}, "empty.npy has no sample"),
        ([], {"data": "nan.npy"}, "Batch 0 of the data holds NaN in input 'x'"),
        (["--report", "/proc/none/page.html"], {}, "--report /proc/none/page.html cannot be written: "),
    ],
)
def test_one_sentence(folder, capsys, more, changes, says):
    (folder / "corrupt").mkdir(exist_ok=True)
    (folder / "corrupt" / "model.pdmodel").write_bytes((folder / "int8" / "model.pdmodel").read_bytes()[:200])
    (folder / "corrupt" / "model.pdiparams").write_bytes(b"12")
    np.save(folder / "wrong.npy", np.zeros((6, 5, 6, 6), "float32"))
    np.save(folder / "empty.npy", np.zeros((0, 4, 6, 6), "float32"))
    np.save(folder / "nan.npy", np.full_like(IMAGES, np.nan))
    assert verify(folder, *more, **changes) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("slimkit: ") and says in error


def test_the_quantized_model_is_not_the_float_one(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"--against takes the float model, and .* is a quantized one"):
        for_runtimes(str(folder / "int8"), ["paddle"], tmp_path, quantized=False)


def test_folder_of_exports(folder, tmp_path):
    shutil.copytree(folder / "int8", tmp_path / "out" / "paddle")
    (tmp_path / "out" / "onnx").mkdir()
    (tmp_path / "out" / "onnx" / "model.onnx").write_bytes(b"onnx")
    assert default_runtimes(str(tmp_path / "out")) == ["paddle", "onnx"]
    forms = for_runtimes(str(tmp_path / "out"), ["onnx", "paddle"], tmp_path, quantized=True)
    assert {name: str(path.relative_to(tmp_path)) for name, path in forms.items()} == {
        "onnx": "out/onnx/model.onnx",
        "paddle": "out/paddle/model.pdmodel",
    }
    shutil.rmtree(tmp_path / "out" / "paddle")
    forms = for_runtimes(str(tmp_path / "out"), ["onnx", "lite-arm"], tmp_path, quantized=True)
    assert "has a model for onnx only" in str(forms["lite-arm"])


def test_a_file_that_another_runtime_cannot_read(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"onnx")
    (tmp_path / "m.nb").write_bytes(b"nb")
    assert default_runtimes(str(tmp_path / "m.onnx")) == ["onnx"]
    assert default_runtimes(str(tmp_path / "m.nb")) == ["lite-x86"]
    forms = for_runtimes(str(tmp_path / "m.onnx"), ["onnx", "paddle"], tmp_path, quantized=True)
    assert forms["onnx"] == tmp_path / "m.onnx" and isinstance(forms["paddle"], SlimkitError)
    assert "m.onnx cannot be read by Paddle Inference (oneDNN); give the Paddle model" in str(forms["paddle"])
    with pytest.raises(ModelError, match=r"A \.nb file does not tell its inputs"):
        signature_of({"lite-x86": tmp_path / "m.nb"})


def codes(report, fail_below):
    said = []
    return exit_code(report, fail_below, said.append), said


def test_exit_codes(report):
    report.results = report.results[:4]
    assert codes(report, None) == (0, []) and codes(report, 1.0) == (0, [])
    code, said = codes(report, 0.7)
    assert code == 1 and said == [
        "Paddle Inference, oneDNN int8: Exact match fell by 1.00 points, more than --fail-below 0.7."
    ]
    report.results[3].status, report.results[3].reason = "failed", "It was killed."
    assert codes(report, 2) == (1, ["ONNX Runtime, int8: It was killed."]) and codes(report, None)[0] == 0
    report.results[1].status = "unavailable"
    assert codes(report, None)[0] == 2


def test_what_is_printed(report):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    show_verification(report, console)
    printed = console.export_text()
    flat = " ".join(printed.split())
    for shown in ("Exact match", "94.00%", "\u22121.00", "26.1 dB", "0.9987", "0.30×", "38 / 13", "12.00 ms 1.70×",
                  "10.80–14.40", "38 of 51 convolutions", "No Paddle-Lite was found.", "note The rule"):  # fmt: skip
        assert shown in flat, shown
    assert max(map(len, printed.splitlines())) <= 100


def test_json_has_every_figure(report):
    assert json.loads(report.model_dump_json())["results"][1]["latency"]["8"]["p90_ms"] == pytest.approx(100.8)
