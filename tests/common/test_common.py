"""``slimkit.common``: the small things of ``paddleslim.common``, with its names and arguments."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

import slimkit
from slimkit.common import (
    AvgrageMeter,
    VarCollector,
    cached_reader,
    get_feed_vars,
    get_logger,
    get_model_dir,
    load_config,
    load_inference_model,
    lock,
    save_config,
    unlock,
    wrap_dataloader,
)
from slimkit.common.programs import dygraph2program
from slimkit.errors import ConfigError, DataError, ModelError
from slimkit.ir.guards import legacy_ir


def test_a_logger_prints_a_line_once(capsys: pytest.CaptureFixture) -> None:
    for _ in range(2):
        logger = get_logger("slimkit.tests.once", level=logging.INFO, fmt="%(levelname)s: %(message)s")
    logger.handlers[0].setStream(__import__("sys").stderr)  # type: ignore[attr-defined]
    logger.info("a line")
    logger.debug("not this one")
    assert capsys.readouterr().err == "INFO: a line\n" and len(logger.handlers) == 1
    assert logger.propagate is False and logger is logging.getLogger("slimkit.tests.once")


def test_a_config_goes_out_and_in(tmp_path: Path) -> None:
    config = {"Global": {"model_dir": "模型", "ratios": [0.5, 1]}, "none": None}
    save_config(config, str(tmp_path / "a.yml"))
    assert load_config(str(tmp_path / "a.yml")) == config
    assert load_config(None) is None


def test_what_is_wrong_with_a_config_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'.*nothing\.yml' cannot be read: No such file"):
        load_config(str(tmp_path / "nothing.yml"))
    (tmp_path / "bad.yml").write_text("a: 1\nb: [1\nc: 2\n")
    with pytest.raises(ConfigError, match=r"bad\.yml:3 is not YAML"):
        load_config(str(tmp_path / "bad.yml"))


def test_a_meter_is_the_weighted_mean() -> None:
    meter = AvgrageMeter()
    assert meter.avg == 0
    meter.update(1.0, 3)
    meter.update(np.float32(5.0))
    assert (meter.sum, meter.cnt, meter.avg) == (8.0, 4, 2.0)
    meter.reset()
    assert meter.cnt == 0


def test_batches_become_dicts_by_input_name() -> None:
    loader = wrap_dataloader(lambda: iter([([1, 2], [3])]), ["x", "y"])
    (batch,) = list(loader())
    np.testing.assert_array_equal(batch["x"], [1, 2])
    np.testing.assert_array_equal(batch["y"], [3])
    (single,) = list(wrap_dataloader(lambda: iter([np.ones([2, 3])]), ["x"])())
    assert single["x"].shape == (2, 3)


def test_batches_that_are_dicts_stay_and_wrong_ones_are_named() -> None:
    dicts = lambda: iter([{"x": 1}])  # noqa: E731
    assert wrap_dataloader(dicts, ["x"]) is dicts and wrap_dataloader(None, ["x"]) is None
    with pytest.raises(DataError, match=r"A batch has 1 arrays, the model 2 inputs: x, y\."):
        list(wrap_dataloader(lambda: iter([([1],)]), ["x", "y"])())
    with pytest.raises(DataError, match="no batch"):
        wrap_dataloader(lambda: iter([]), ["x"])


def test_a_cached_reader_gives_the_same_sample_again(tmp_path: Path) -> None:
    read = [0]

    def reader() -> Any:
        for number in range(20):
            read[0] += 1
            yield np.full([2], number)

    first = list(cached_reader(reader, 0.3, tmp_path, 1)())
    again = list(cached_reader(reader, 0.3, tmp_path, 1)())
    np.testing.assert_array_equal(first, again)
    assert read == [20] and 1 <= len(first) < 15 and first[0][0] == 0
    assert len(list(cached_reader(reader, None, tmp_path, 2)())) == 20


def test_a_lock_is_taken_and_given_up(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "w") as file:
        lock(file)
        unlock(file)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of two inputs."""

    def two(x: Any, y: Any) -> Any:
        return paddle.nn.functional.relu(x) + y

    specs = [paddle.static.InputSpec([None, 4], "float32", name) for name in ("first", "second")]
    folder = tmp_path_factory.mktemp("model")
    slimkit.Model.from_layer(two, specs).save(folder / "inference")
    return folder


def test_feed_names_are_read_and_the_mode_stays(saved: Path) -> None:
    names = get_feed_vars(str(saved), "inference.pdmodel", "inference.pdiparams")
    assert names == ["first", "second"] and paddle.in_dynamic_mode()
    with pytest.raises(ModelError, match=r"nothing\.pdmodel"):
        get_feed_vars(str(saved), "nothing.pdmodel", None)


def test_a_loaded_model_runs(saved: Path) -> None:
    with legacy_ir(), paddle.static.scope_guard(paddle.static.Scope()):
        executor = paddle.static.Executor(paddle.CPUPlace())
        program, feeds, fetches = load_inference_model(str(saved / "inference"), executor)
        feed = {feeds[0]: np.array([[-1, 2, -3, 4]], "float32"), feeds[1]: np.ones([1, 4], "float32")}
        (found,) = executor.run(program, feed=feed, fetch_list=fetches)
    np.testing.assert_array_equal(found, [[1, 3, 1, 5]])


def test_defaults_of_a_model_s_files() -> None:
    assert get_model_dir("a/b/", None, None) == ("a/b", "model.pdmodel", "model.pdiparams")
    with pytest.raises(ModelError, match="params_filename is needed"):
        get_model_dir("a", "m.pdmodel", None)


def test_variables_are_averaged() -> None:
    with legacy_ir(), paddle.static.scope_guard(paddle.static.Scope()):
        program = paddle.static.Program()
        with paddle.static.program_guard(program, paddle.static.Program()):
            x = paddle.static.data("x", [None, 2])
            program.global_block().create_var(name="twice", dtype="float32", shape=[-1, 2])
            program.global_block().append_op(
                type="scale", inputs={"X": x}, outputs={"Out": "twice"}, attrs={"scale": 2.0}
            )
        executor = paddle.static.Executor(paddle.CPUPlace())
        feeds = [{"x": np.full([1, 2], value, "float32")} for value in (1, -3, 8)]
        mean = VarCollector(program, ["twice", "not there"]).run(feeds, executor, step=2)
        largest = VarCollector(program, ["twice"], use_ema=True, ema_decay=0.5).abs_max_run(feeds, executor)
        with pytest.raises(DataError, match="no batch"):
            VarCollector(program, ["twice"]).run([], executor)
        with pytest.raises(ModelError, match="no variable of not there"):
            VarCollector(program, ["not there"])
    np.testing.assert_allclose(mean["twice"], [[-2.0, -2.0]])
    assert list(mean) == ["twice"]
    assert float(largest["twice"]) == 0.5 * (0.5 * 2 + 0.5 * 6) + 0.5 * 16


def test_histograms_are_drawn(tmp_path: Path) -> None:
    VarCollector.pdf({"a": np.arange(6).reshape(2, 3), "b": np.ones(1)}, str(tmp_path / "pdf"))
    assert (tmp_path / "pdf" / "result.pdf").read_bytes().startswith(b"%PDF")


def test_a_layer_becomes_a_legacy_program() -> None:
    layer = paddle.nn.Linear(3, 2)
    for inputs in ([1, 3], [[1, 3]], [paddle.ones([1, 3])]):
        program = dygraph2program(layer, inputs)
        assert isinstance(program, paddle.base.framework.Program)
        assert {"matmul_v2", "elementwise_add"} <= {op.type for op in program.global_block().ops}
