"""The repairs of PaddleClas, on modules of the shape that its own have."""

import logging
import types
import zlib  # noqa: F401

import numpy as np
import paddle
import pytest

from slimkit.errors import TranslationError
from slimkit.ir import Model
from slimkit.plugins.paddleclas import REPAIRS

BY_MODULE = {repair.module: repair.apply for repair in REPAIRS}


@pytest.fixture
def logger():
    """The parts of ppcls.utils.logger that matter."""
    module = types.ModuleType("ppcls.utils.logger")

    class LoggerHook:
        def __init__(self, log):
            self.log = log

        def __call__(self, *args):
            self.log(*args)

    def init_logger(name="a name of the test's"):
        module._logger = logging.getLogger(name)

    module._logger, module.LoggerHook, module.init_logger = None, LoggerHook, init_logger
    module.warning = LoggerHook(lambda text: module._logger.warning(text))
    return module


def test_a_logger_is_there_at_its_first_message(logger, caplog):
    undo = BY_MODULE["ppcls.utils.logger"](logger)
    logger.warning("built")
    assert caplog.messages == ["built"]
    undo()
    logger._logger = None
    with pytest.raises(AttributeError):
        logger.warning("built")


def test_a_logger_that_was_initialized_stays(logger, caplog):
    BY_MODULE["ppcls.utils.logger"](logger)
    logger.init_logger("the user's")
    logger.warning("built")
    assert caplog.record_tuples == [("the user's", logging.WARNING, "built")]


class Config(dict):
    def __getattr__(self, name):
        return self[name]


@pytest.fixture
def engine():
    """The parts of ppcls.engine.engine that matter."""
    module = types.ModuleType("ppcls.engine.engine")

    class Engine:
        def __init__(self, config, mode="train"):
            self.config = config

        def export(self, save_path=None, uniform_output_enabled=False):
            net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.Hardswish())
            net.eval()
            spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32")]
            paddle.jit.save(net, f"{save_path or self.config['Global']['save_inference_dir']}/inference", spec)
            self.net = net

    module.Engine = Engine
    return module


@pytest.mark.parametrize("explicit", [False, True])
def test_an_export_has_the_format_that_the_deploy_scripts_ask_for(engine, tmp_path, explicit):
    undo = BY_MODULE["ppcls.engine.engine"](engine)
    made = engine.Engine(Config(Global={"save_inference_dir": str(tmp_path)}), mode="export")
    made.export(save_path=str(tmp_path)) if explicit else made.export()
    assert {path.name for path in tmp_path.iterdir()} == {
        "inference.json", "inference.pdmodel", "inference.pdiparams"
    }  # fmt: skip
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    expected = made.net(paddle.to_tensor(x)).numpy()
    for suffix in ("json", "pdmodel"):  # both read the one parameter file
        found = Model.load(tmp_path / f"inference.{suffix}").run([x])[0]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    undo()
    (tmp_path / "inference.pdmodel").unlink()
    made.export()
    assert not (tmp_path / "inference.pdmodel").exists()


def test_an_export_that_has_no_legacy_form_is_an_export_still(engine, tmp_path, monkeypatch):
    def refuse(path):
        raise TranslationError("slimkit knows no such op.")

    BY_MODULE["ppcls.engine.engine"](engine)
    monkeypatch.setattr(Model, "load", refuse)
    with pytest.warns(UserWarning, match=r"no \.pdmodel was written: slimkit knows no such op\."):
        engine.Engine(Config(Global={"save_inference_dir": str(tmp_path)})).export()
    assert (tmp_path / "inference.json").exists()


def test_an_engine_of_ones_own_needs_no_profiler_options(engine):
    BY_MODULE["ppcls.engine.engine"](engine)
    assert engine.Engine(Config()).config["profiler_options"] is None
    assert engine.Engine(Config(profiler_options="a=1")).config["profiler_options"] == "a=1"
