"""``save_model`` and ``load_model``: a pruned model comes back into programs built at full size."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import static_networks as networks
from static_programs import Classifier, adam, momentum

from slimkit.errors import ModelError
from slimkit.ir import legacy_ir
from slimkit.prune import Pruner, load_model, save_model

PARAMS, RATIOS = ["conv4_weights", "conv3_weights"], [0.5, 0.25]


def _trained(optimizer: Any = adam, network: Any = networks.residual, params: Any = PARAMS) -> Any:
    """A pruned, trained classifier: (it, train program, test program)."""
    net = Classifier(optimizer, network)
    net.step(net.train)
    test, _, _ = Pruner("bn_scale").prune(net.test, net.scope, params, RATIOS[: len(params)], only_graph=True)
    train, _, _ = Pruner("bn_scale").prune(net.train, net.scope, params, RATIOS[: len(params)])
    net.step(train)
    return net, train, test


def _save(net: Any, program: Any, folder: Path) -> None:
    with paddle.static.scope_guard(net.scope):
        save_model(net.executor, program, str(folder))


def _load(net: Any, program: Any, folder: Path) -> None:
    with paddle.static.scope_guard(net.scope):
        load_model(net.executor, program, str(folder))


@pytest.mark.parametrize("optimizer", [momentum, adam])
def test_round_trip_with_the_optimizer_s_state(tmp_path: Path, optimizer: Any) -> None:
    net, train, test = _trained(optimizer)
    _save(net, train, tmp_path / "model")
    expected = [net.run(test, net.out)[0], [net.step(train) for _ in range(3)]]
    fresh = Classifier(optimizer)
    out = fresh.test.global_block().var(fresh.out)
    _load(fresh, fresh.train, tmp_path / "model")
    _load(fresh, fresh.test, tmp_path / "model")
    assert tuple(fresh.train.global_block().var("conv4_weights").shape) == (4, 6, 3, 3)
    np.testing.assert_array_equal(fresh.run(fresh.test, fresh.out)[0], expected[0])
    assert [fresh.step(fresh.train) for _ in range(3)] == expected[1]
    assert out.shape == (-1, 10)  # variables that the user holds are those of the program still


def test_state_that_was_not_saved_starts_anew(tmp_path: Path) -> None:
    net, _, test = _trained()
    _save(net, test, tmp_path / "model")
    fresh = Classifier(adam)
    _load(fresh, fresh.train, tmp_path / "model")
    moment = next(name for name in fresh.values() if name.startswith("conv4_weights_moment1"))
    assert fresh.get(moment).shape == (4, 6, 3, 3) and not fresh.get(moment).any()
    losses = [fresh.step(fresh.train) for _ in range(3)]
    assert losses[-1] < losses[0]


def test_loading_twice(tmp_path: Path) -> None:
    net, train, test = _trained()
    _save(net, train, tmp_path / "model")
    expected = net.run(test, net.out)[0]
    fresh = Classifier()
    for _ in range(2):
        _load(fresh, fresh.test, tmp_path / "model")
        np.testing.assert_array_equal(fresh.run(fresh.test, fresh.out)[0], expected)


def test_part_of_the_network_is_enough(tmp_path: Path) -> None:
    """PaddleSlim's test saves a train program and loads into the features alone."""
    net, train, _ = _trained()
    _save(net, train, tmp_path / "model")
    with legacy_ir():
        program = paddle.static.Program()
        with paddle.static.program_guard(program, paddle.static.Program()), paddle.utils.unique_name.guard():
            networks.residual(paddle.static.data("image", [None, 3, 8, 8]))
    with paddle.static.scope_guard(paddle.static.Scope()):
        load_model(net.executor, program, tmp_path / "model")
        value = np.array(paddle.static.global_scope().find_var("conv2_weights").get_tensor())
    shapes = {v.name: tuple(v.shape) for v in program.all_parameters() if "weights" in v.name}
    assert shapes == {
        "conv1_weights": (4, 3, 3, 3), "conv2_weights": (4, 4, 3, 3), "conv3_weights": (6, 4, 3, 3),
        "conv4_weights": (4, 6, 3, 3), "conv5_weights": (8, 4, 3, 3), "conv6_weights": (8, 8, 3, 3),
    }  # fmt: skip
    np.testing.assert_array_equal(value, net.get("conv2_weights"))


def _shuffled(image: Any) -> Any:
    """Groups, a depthwise convolution, split and reshape: attributes that follow the channels."""
    x = networks.conv_bn(image, 16, 3, "conv1", act="relu")
    x = networks.conv_bn(x, 16, 3, "depthwise", groups=16)
    left, right = paddle.split(x, 2, axis=1)
    x = paddle.concat([networks.conv_bn(left, 8, 1, "conv2"), right], axis=1)
    return paddle.reshape(networks.conv_bn(x, 4, 3, "conv4"), [-1, 4 * 8 * 8])


def test_attributes_follow(tmp_path: Path) -> None:
    net, train, test = _trained(momentum, _shuffled, ["conv1_weights", "conv4_weights"])
    _save(net, train, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "__groups__").read_text())["depthwise_weights"] < 16
    expected = net.run(test, net.out)[0]
    fresh = Classifier(momentum, _shuffled)
    _load(fresh, fresh.test, tmp_path / "model")
    np.testing.assert_array_equal(fresh.run(fresh.test, fresh.out)[0], expected)
    _load(fresh, fresh.train, tmp_path / "model")
    assert fresh.step(fresh.train) == net.step(train)


def test_files_are_paddleslim_s(tmp_path: Path) -> None:
    net, train, _ = _trained(momentum)
    _save(net, train, tmp_path / "model")
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["model.pdmodel", "model.pdopt", "model.pdparams", "model/__groups__", "model/__shapes__"]
    shapes = json.loads((tmp_path / "model" / "__shapes__").read_text())
    assert shapes["conv4_weights"] == shapes["conv4_weights_velocity_0"] == [4, 6, 3, 3]
    weights = pickle.loads((tmp_path / "model.pdparams").read_bytes())
    assert {v.name for v in train.all_parameters()} == set(weights)
    with legacy_ir(), paddle.static.scope_guard(paddle.static.Scope()):
        paddle.static.load(train, str(tmp_path / "model"), net.executor)
        held = np.array(paddle.static.global_scope().find_var("conv4_weights_velocity_0").get_tensor())
    np.testing.assert_array_equal(held, net.get("conv4_weights_velocity_0"))


def test_a_folder_that_paddleslim_wrote(tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parents[2] / "assets" / "paddleslim_pruned.zip") as archive:
        archive.extractall(tmp_path)
    reference = np.load(tmp_path / "reference.npz")
    with legacy_ir(), paddle.static.scope_guard(paddle.static.Scope()):
        program = paddle.static.Program()
        with paddle.static.program_guard(program, paddle.static.Program()), paddle.utils.unique_name.guard():
            features = networks.residual(paddle.static.data("image", [None, 3, 32, 32]))
        program = program.clone(for_test=True)
        executor = paddle.static.Executor(paddle.CPUPlace())
        load_model(executor, program, tmp_path / "model")
        (found,) = executor.run(program, feed={"image": reference["image"]}, fetch_list=[features.name])
    assert tuple(program.global_block().var("conv4_weights").shape) == (4, 8, 3, 3)
    scale = np.abs(reference["features"]).max()
    np.testing.assert_allclose(found / scale, reference["features"] / scale, atol=1e-5)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda p: (p / "model" / "__shapes__").unlink(), "__shapes__ cannot be read: No such file"),
        (lambda p: (p / "model" / "__shapes__").write_text("[1"), "__shapes__ is damaged"),
        (lambda p: (p / "model.pdparams").unlink(), "model.pdparams does not exist"),
        (lambda p: (p / "model.pdparams").write_bytes(b"x"), "model.pdparams cannot be read as parameters"),
        (lambda p: _drop(p, "conv3_bn_mean"), "has no 'conv3_bn_mean', which the program has"),
        (lambda p: _reshape(p, "conv3_weights", [6, 5, 3, 3]), "gives 'conv3_weights' the shape"),
        (lambda p: _reshape(p, "conv3_weights", [6, 4, 5, 5]), "gives 'conv3_weights' the shape"),
        (lambda p: _reshape(p, "conv3_weights", [6]), "gives 'conv3_weights' the shape"),
    ],
)
def test_bad_files(tmp_path: Path, spoil: Any, message: str) -> None:
    net, train, _ = _trained(momentum)
    _save(net, train, tmp_path / "model")
    spoil(tmp_path)
    fresh = Classifier()
    before = fresh.test.desc.serialize_to_string()
    with pytest.raises(ModelError, match=message):
        _load(fresh, fresh.test, tmp_path / "model")
    assert fresh.test.desc.serialize_to_string() == before
    assert fresh.get("conv4_weights").shape == (8, 8, 3, 3)


def _drop(folder: Path, name: str) -> None:
    weights = pickle.loads((folder / "model.pdparams").read_bytes())
    del weights[name]
    (folder / "model.pdparams").write_bytes(pickle.dumps(weights))


def _reshape(folder: Path, name: str, shape: list) -> None:
    path = folder / "model" / "__shapes__"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: shape}))


def test_the_global_scope_is_saved(tmp_path: Path) -> None:
    net, train, _ = _trained(momentum)
    with (
        pytest.raises(ModelError, match=r"no value of .*scope_guard\(scope\)"),
        paddle.static.scope_guard(paddle.static.Scope()),
    ):
        save_model(net.executor, train, tmp_path / "model")
    assert not list(tmp_path.iterdir())
