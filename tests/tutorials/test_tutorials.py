"""PaddleSlim's static tutorials, typed as its documents have them, run by the launcher; what they export is right.

CI runs them on 32 images, where a MobileNet learns nothing: what is compared is the exported model with the program
it came from. ``pytest -m slow`` runs the quick start on 5,000 images and looks at accuracies.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator

import numpy as np
import paddle
import pytest
from paddle.base import framework

import slimkit
from slimkit.deploy import paddle_inference
from slimkit.plugins import launcher

SCRIPTS = Path(__file__).parent / "scripts"
RUN = [sys.executable, "-c", "import sys; from slimkit.cli import main; sys.exit(main())", "run"]


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    """One Paddle Inference process for all models."""
    with paddle_inference.open_session(pin=False) as opened:
        yield opened


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script in this process as a fresh one would, in an empty folder; gives its global names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLIMKIT_TUTORIAL_IMAGES", "32")
    monkeypatch.setenv("SLIMKIT_TUTORIAL_BATCH", "32")
    monkeypatch.setenv("SLIMKIT_TUTORIAL_PARAMS", "1")
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])

    def call(name: str, scope: Any = None) -> Dict[str, Any]:
        paddle.seed(7)
        np.random.seed(7)
        with launcher.as_paddleslim():
            paddle.enable_static()  # leaving dynamic mode brings back the programs from before it
            try:
                with framework.program_guard(framework.Program(), framework.Program()):
                    with paddle.utils.unique_name.guard(), paddle.static.scope_guard(scope or paddle.static.Scope()):
                        return runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
            finally:
                paddle.disable_static()

    yield call
    assert paddle.in_dynamic_mode()
    assert paddle.static.Program is paddle.pir.Program


def _images(count: int = 32) -> np.ndarray:
    from slimkit.recipe.data.fashion_mnist import ASSET

    with np.load(ASSET) as arrays:
        return arrays["test_images"][:count].reshape(-1, 1, 28, 28).astype("float32") / 127.5 - 1


def _deployed(session: Any, prefix: Any, feed: Any, mode: str = "plain") -> np.ndarray:
    paddle_inference.load(session, "model", prefix, mode)
    return session.run("model", feed)[0]


def _program_says(program: Any, scope: Any, fetch: str) -> np.ndarray:
    images = _images()
    feed = {"image": images, "label": np.zeros((len(images), 1), "int64")}
    with slimkit.legacy_ir(), paddle.static.scope_guard(scope):
        return paddle.static.Executor(paddle.CPUPlace()).run(program, feed=feed, fetch_list=[fetch])[0]


def _check_quantized(session: Any, prefix: Any, want: np.ndarray) -> None:
    """The model as it stands says what its program says; integer kernels, which round otherwise, take it."""
    assert np.isfinite(want).all()
    np.testing.assert_allclose(_deployed(session, prefix, _images()), want, rtol=1e-4, atol=1e-5)
    assert np.isfinite(_deployed(session, prefix, _images(), "int8")).all()


def test_quant_aware(run, session):
    scope = paddle.static.Scope()
    names = run("quant_aware", scope)
    kinds = {op.type for op in names["quant_infer_program"].global_block().ops}
    assert "quantize_linear" in kinds or "fake_channel_wise_dequantize_max_abs" in kinds
    want = _program_says(names["quant_infer_program"], scope, names["out"].name)
    _check_quantized(session, "quant_scores", want)
    assert Path("quant_infer_model.pdmodel").stat().st_size > 10_000


def test_pact(run, session):
    scope = paddle.static.Scope()
    names = run("pact_quant_aware", scope)
    assert any(p.name.endswith("_pact") for p in names["compiled_train_prog"].all_parameters())
    want = _program_says(names["float_program"], scope, names["out"].name)
    _check_quantized(session, "quantization_models/MobileNet/act_moving_average_abs_max/model", want)


def test_quantizers_of_the_user(run, session, monkeypatch):
    monkeypatch.setenv("SLIMKIT_TUTORIAL_IMAGES", "2000")
    scope = paddle.static.Scope()
    names = run("user_defined_quant", scope)
    assert names["float_top1"] > 0.7
    assert names["user_top1"] > names["float_top1"] - 0.05
    assert names["quant_top1"] > names["float_top1"] - 0.05
    want = _program_says(names["quant_infer_prog"], scope, names["out"].name)
    _check_quantized(session, "user_defined/model", want)
    integers = _deployed(session, "user_defined/model", _images(), "int8")
    assert np.linalg.norm(integers - want) < 0.05 * np.linalg.norm(want)


def test_quant_post_static(run, session):
    run("quant_post_static")
    feed = {"image": _images(), "label": np.arange(32).reshape(-1, 1) % 10}
    paddle_inference.load(session, "model", "inference_model/fp32", "plain")
    float_loss = session.run("model", feed)[2]
    paddle_inference.load(session, "model", "quant_post_static_model/model", "plain")
    quant_loss = session.run("model", feed)[2]
    np.testing.assert_allclose(quant_loss, float_loss, rtol=0.02)
    assert not np.array_equal(quant_loss, float_loss)


def test_weight_only(run, session):
    run("quant_post_dynamic")
    want = _deployed(session, "model_path/model", _images())
    have = _deployed(session, "save_path/quantized_model/model", _images())
    assert 0 < np.linalg.norm(have - want) < 0.05 * np.linalg.norm(want)
    sizes = [Path(folder, "model.pdiparams").stat().st_size for folder in ("model_path", "save_path/quantized_model")]
    assert sizes[1] < 0.35 * sizes[0]


def test_embedding(run, session):
    scope = paddle.static.Scope()
    run("quant_embedding", scope)
    words = np.arange(100).reshape(-1, 1)
    have = _deployed(session, "embedding/model", words)
    assert have.shape == (100, 1, 128)
    assert 0.004 < np.abs(have).max() <= 0.005 * 1.01
    assert Path("embedding/model.pdiparams").stat().st_size < 100 * 128 * 2


def test_pruning(run):
    names = run("pruning")
    assert names["pruned_FLOPs"] < 0.96 * names["FLOPs"]
    assert np.isfinite(names["loss"]).all()


def test_sensitivity(run):
    names = run("sensitivity")
    assert list(names["s"]) == names["params"]
    assert [sorted(points) for points in names["s"].values()] == [[0.1, 0.2, 0.3, 0.4]]
    assert set(names["ratios"]) <= set(names["params"])
    assert 0 <= names["pruned_top1"] <= 1


def test_fpgm_saved_and_loaded(run, session):
    """The pruned shapes come back in another process, by the command line, and give the same accuracy."""
    scope = paddle.static.Scope()
    names = run("fpgm_prune", scope)
    assert names["flops_after"] < 0.55 * names["flops_before"]
    want = _program_says(names["pruned_val_program"], scope, names["out"].name)
    np.testing.assert_allclose(_deployed(session, "models/infer_models/0", _images()), want, rtol=1e-4, atol=1e-5)
    environment = {**os.environ, "PYTHONPATH": str(Path(slimkit.__file__).parents[1])}
    done = subprocess.run(
        [*RUN, str(SCRIPTS / "prune_eval.py")], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.strip().splitlines()[-1]
    assert float(said.rpartition(" ")[2]) == pytest.approx(float(names["pruned_top1"]), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quant_aware", "quant_post_static"])
def test_accuracy(run, monkeypatch, name):
    monkeypatch.setenv("SLIMKIT_TUTORIAL_IMAGES", "5000")
    monkeypatch.delenv("SLIMKIT_TUTORIAL_BATCH")
    names = run(name)
    assert names["float_top1"] > 0.55
    assert names["quant_top1"] > names["float_top1"] - 0.02
