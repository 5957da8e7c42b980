"""``slimkit analyze`` and the search's problem over a real, small model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_programs import Net, random

from slimkit.cli import main
from slimkit.ir import Model
from slimkit.quant import PtqConfig, Quantized, export_program, post_training_quantize
from slimkit.quant.capabilities import CAPABILITIES, Capability
from slimkit.recipe.accuracy_aware import search
from slimkit.recipe.ptq_problem import PtqProblem, suitable_methods
from slimkit.recipe.svg_bars import paired_bars

IMAGES = random(5, 24, 3, 8, 8)


@pytest.fixture(autouse=True)
def _row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime of these tests' own: real ones change with what they are found to do."""
    monkeypatch.setitem(CAPABILITIES, "paddle", Capability("paddle", weight_ops=("conv2d", "matmul_v2")))


def _model() -> Model:
    """Three convolutions, a pool, a product; one channel between the last two is huge and has tiny weights."""
    net = Net()
    y = net.conv(net.data("x", [-1, 3, 8, 8]), random(0, 4, 3, 3, 3, size=0.3), "c1")
    y = net.relu(net.add(y, net.param("b1", random(1, 4)), "a1", axis=1), "r1")
    wide = random(2, 4, 4, 3, 3, size=0.2)
    wide[1] *= 100
    y = net.relu(net.conv(y, wide, "c2"), "r2")
    narrow = random(3, 6, 4, 3, 3, size=0.3)
    narrow[:, 1] /= 100
    y = net.conv(y, narrow, "c3")
    pool = {"pooling_type": "avg", "ksize": [1, 1], "adaptive": True, "strides": [1, 1], "paddings": [0, 0]}
    y = net.op(
        "reshape2", {"Out": "f", "XShape": "f.x"}, {"shape": [-1, 6]}, X=net.op("pool2d", {"Out": "p"}, pool, X=y)
    )
    return net.model(["x"], [net.linear(y, random(4, 6, 5), "m")])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``float`` and ``int8`` models; ``data.npz`` with the float model's classes as labels."""
    model = _model()
    model.save(tmp_path / "float" / "model")
    quantized = post_training_quantize(model, [{"x": IMAGES}]).quantized["paddle"]
    export_program(quantized.model, quantized.table).save(tmp_path / "int8" / "model")
    np.savez(tmp_path / "data.npz", x=IMAGES, label=model.run([IMAGES])[0].argmax(1))
    np.save(tmp_path / "plain.npy", IMAGES)
    return tmp_path


def _analyze(folder: Path, *more: Any, model: str = "float", data: str = "data.npz") -> int:
    return main(["analyze", *map(str, [folder / model, "--data", folder / data, *more])])


def test_a_float_model_is_quantized_and_analyzed(folder: Path, capsys: pytest.CaptureFixture):
    page = folder / "page" / "layers.html"
    assert _analyze(folder, "--json", "--algo", "mse", "-k", 2, "--eval-images", 24, "--report", page) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["title"] == "float, quantized for paddle by mse" and found["samples"] == 8
    assert found["ranking"][0] == "c3"  # a grid too coarse for the weights of the channel that matters
    worst = next(row for row in found["layers"] if row["output"] == "c3")
    assert (
        worst["own"]["sqnr_db"]
        <= min(worst["own_weight"]["sqnr_db"], 10)
        < min(row["own"]["sqnr_db"] for row in found["layers"] if row is not worst)
    )
    assert [step["count"] for step in found["curve"]] == [0, 1, 2] and found["curve"][1]["op"] == "c3"
    assert all(0 <= step["metrics"]["top1"] <= 1 for step in found["curve"])
    text = page.read_text(encoding="utf-8")
    assert "c3.w" in text and "<script" not in text and not re.search(r"(?:src|href)=.http", text)
    assert text.count("<svg") == 1 + 3 + 2 * len(found["layers"])  # bars, three charts, histograms


def test_what_is_printed(folder: Path, capsys: pytest.CaptureFixture):
    assert _analyze(folder, "--limit", 4) == 0
    out = capsys.readouterr().out
    assert "4 quantized layers, 4 samples" in out and "names: [c3.w]" in out
    assert out.index("c3.w") < out.index("c1.w") and "Leaving 1 layer of 4 float brings the results from" in out


def test_a_quantized_model_beside_its_float_weights(folder: Path, capsys: pytest.CaptureFixture):
    """Alone its weights lie on their grids; with the float model their error is what it was before the export."""
    assert _analyze(folder, "--json", model="int8") == 0
    alone = json.loads(capsys.readouterr().out)
    assert "--against" in alone["notes"][0] and alone["layers"][0]["weight_error"]["sqnr_db"] > 100
    assert _analyze(folder, "--json", "--against", folder / "float", model="int8") == 0
    beside = json.loads(capsys.readouterr().out)
    assert beside["notes"] == [] and 30 < beside["layers"][0]["weight_error"]["sqnr_db"] < 60
    assert beside["layers"][0]["weight"]["tensor"] == "c1.w"


def test_the_table_beside_an_export_names_the_float_layers(folder: Path, capsys: pytest.CaptureFixture):
    """An export for a runtime may have other names; its table has those of the float model."""
    quantized = post_training_quantize(_model(), [{"x": IMAGES}]).quantized["paddle"]
    export_program(quantized.model, quantized.table, runtime="onednn").save(folder / "onednn" / "model")
    quantized.table.save(folder / "onednn" / "quant_table.json")
    assert _analyze(folder, "--json", "--against", folder / "float", model="onednn") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["output"] for row in found["layers"]] == ["c1", "c2", "c3", "m"]
    assert 30 < found["layers"][0]["weight_error"]["sqnr_db"] < 60


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        (["--against", "float"], {}, "--against is for a quantized MODEL"),
        (["--algo", "KL"], {"model": "int8"}, "--algo and --runtime are for a float MODEL"),
        (["--eval-images", 4], {"data": "plain.npy"}, "--eval-images needs labels"),
        (["--runtime", "padle"], {}, "did you mean 'paddle'"),
        ([], {"model": "none"}, "none"),
        ([], {"data": "none.npy"}, "does not exist"),
    ],
)
def test_one_sentence_for_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture, words, more, message):
    assert _analyze(folder, *words, **more) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_float_model_with_other_layers_is_refused(folder: Path, capsys: pytest.CaptureFixture):
    net = Net()
    net.model(["x"], [net.conv(net.data("x", [-1, 3, 8, 8]), random(0, 4, 3, 3, 3), "c1")]).save(folder / "other" / "m")
    assert _analyze(folder, "--against", folder / "other", model="int8") == 2
    assert "is not the float model of this one" in capsys.readouterr().err


def test_bars_show_every_pair_and_survive_odd_values():
    svg = paired_bars([("a", 30.0, 20.0), ("b", None, -5.0), ("c", 200.0, float("nan"))], title="t", y_label="dB",
                      marked=["b"])  # fmt: skip
    assert svg.count("<rect") == 4 and svg.count("<circle") == 1 and "nan" not in svg.split("<title>")[0]
    assert "b: nothing to compare alone, -5.0 with everything quantized" in svg
    assert paired_bars([], title="t", y_label="dB").endswith("</svg>")


# -------------------------------------------------------------------------------- the search over a real model


def _problem(labels: bool, config: Any = None, about: Any = None) -> PtqProblem:
    model = _model()
    classes = model.run([IMAGES])[0].argmax(1)
    feeds = [{"x": IMAGES[:12]}, {"x": IMAGES[12:]}]
    batches = [(feed, list(classes[i * 12 : i * 12 + 12])) for i, feed in enumerate(feeds)]

    class Metric:
        def __init__(self) -> None:
            self.right = self.total = 0

        def update(self, outputs: Any, labels: Any) -> None:
            self.right += int((outputs[0].argmax(1) == np.asarray(labels)).sum())
            self.total += len(labels)

        def result(self) -> dict:
            return {"top1": self.right / self.total}

    result = post_training_quantize(model, feeds, config=config)
    return PtqProblem(result, feeds, batches, Metric if labels else None, "top1", about=about)


def test_settings_and_float_layers_become_tables():
    problem = _problem(True)
    assert problem.reference() == {"top1": 1.0}
    plain = problem.quantize(problem.config, [])
    assert problem.rank(plain, 60.0)[0] == "c3"
    mixed = problem.quantize(problem.config.model_copy(update={"algo": "KL"}), ["c3", "c1"])
    assert [op.output for op in mixed.quantized["paddle"].table.ops] == ["c2", "m"]
    assert mixed.config.algo == "KL"
    again = post_training_quantize(_model(), [{"x": IMAGES[:12]}, {"x": IMAGES[12:]}], config=mixed.config)
    assert again.quantized["paddle"].table.to_dict() == mixed.quantized["paddle"].table.to_dict()


def test_without_labels_the_noise_of_the_outputs_is_what_may_drop(tmp_path: Path):
    """0.5 points lost are an SQNR of 23 dB; the layer that hurts is left float for it."""
    problem = _problem(False, PtqConfig(algo="abs_max"))
    best = search(problem, 0.02, "5m", tmp_path / "state.json", methods=())
    assert best.within and best.trial.float_ops == ["c3"]
    metrics = best.trial.metrics
    assert 100 * (1 - metrics["fidelity"]) == pytest.approx(100 * 10 ** (-metrics["sqnr_db"] / 10))
    exported = export_program(*_parts(best.quantized.quantized["paddle"]))
    noise = exported.run([IMAGES])[0] - _model().run([IMAGES])[0]
    assert metrics["sqnr_db"] == pytest.approx(10 * np.log10((_model().run([IMAGES])[0] ** 2).sum() / (noise**2).sum()))


def _parts(quantized: Quantized) -> tuple:
    return quantized.model, quantized.table


def test_zero_points_are_tried_only_where_they_change_something(monkeypatch: pytest.MonkeyPatch):
    def names(**config: Any) -> set:
        result = post_training_quantize(_model(), [{"x": IMAGES}], config=PtqConfig(**config))
        return {"symmetric", "affine"} & {method.name for method in suitable_methods(result)}

    assert names() == set()
    row = Capability("paddle", weight_ops=("conv2d",), affine_activations=True)
    monkeypatch.setitem(CAPABILITIES, "paddle", row)
    assert names() == {"symmetric"} and names(affine=False) == {"affine"}


def test_the_key_is_that_of_model_settings_and_data():
    keys = {
        _problem(True).key,
        _problem(False).key,
        _problem(True, PtqConfig(algo="KL")).key,
        _problem(True, about="other data").key,
    }
    assert len(keys) == 4 and _problem(True).key in keys
