"""PaddleSlim's sensitivity functions."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import paddle
import pytest
from static_programs import CPU, Classifier, feed

from slimkit.errors import ConfigError, DataError, EvaluationError
from slimkit.prune import (
    Pruner,
    get_ratios_by_loss,
    load_sensitivities,
    merge_sensitive,
    sensitivity,
)

NAMES = ["conv4_weights", "conv3_weights", "conv2_weights"]


class Evaluation:
    """An eval_func as in PaddleSlim's tutorials; counts its calls and may fail at one."""

    def __init__(self, net: Classifier, fail_at: int = -1) -> None:
        self.net, self.calls, self.fail_at = net, 0, fail_at

    def __call__(self, program: Any, least: float = 0.0) -> Any:
        self.calls += 1
        if self.calls == self.fail_at:
            raise ValueError("the disk is gone")
        loss = self.net.executor.run(program, feed=feed(), fetch_list=[self.net.loss])
        return np.maximum(5 - loss[0], least)


def _measure(net: Classifier, evaluate: Any, names: Any = NAMES, **more: Any) -> Any:
    with paddle.static.scope_guard(net.scope):
        return sensitivity(net.test, CPU, names, evaluate, **more)


@pytest.mark.parametrize("criterion", ["l1_norm", "bn_scale"])
def test_losses_are_those_of_pruned_programs(criterion: str) -> None:
    """As PaddleSlim measures: prune, evaluate, restore; which is what makes each of its points slow."""
    net = Classifier()
    evaluate, before = Evaluation(net), net.values()
    found = _measure(net, evaluate, pruned_ratios=[0.25, 0.5, 0.9], criterion=criterion)
    assert all(np.array_equal(value, before[name]) for name, value in net.values().items())
    assert list(found) == NAMES and all(list(found[name]) == [0.25, 0.5, 0.9] for name in NAMES)
    baseline = 5 - float(net.run(net.test, net.loss)[0])
    for name in NAMES:
        for ratio, loss in found[name].items():
            program, backup, _ = Pruner(criterion).prune(net.test, net.scope, [name], [ratio], param_backup=True)
            metric = 5 - float(net.run(program, net.loss)[0])
            for parameter, value in (backup or {}).items():
                net.set(parameter, value)
            assert loss == pytest.approx((baseline - metric) / baseline, abs=1e-6)
    assert len({loss for points in found.values() for loss in points.values()}) >= 8


def test_a_file_of_every_point_is_gone_on_from(tmp_path: Path) -> None:
    net, path = Classifier(), tmp_path / "sensitivities.data"
    failing = Evaluation(net, fail_at=5)
    with pytest.raises(
        EvaluationError, match=r"failed with 25% of 'conv3_weights' pruned: ValueError: the disk is gone"
    ):
        _measure(net, failing, NAMES[:2], sensitivities_file=str(path), pruned_ratios=[0.25, 0.5, 0.75])
    kept = load_sensitivities(path)
    assert sum(len(points) for points in kept.values()) == 3
    again = Evaluation(net)
    found = _measure(net, again, NAMES[:2], sensitivities_file=str(path), pruned_ratios=[0.25, 0.5, 0.75])
    assert again.calls == 3  # the baseline is in the file
    whole = _measure(net, Evaluation(net), NAMES[:2], pruned_ratios=[0.25, 0.5, 0.75])
    assert found == whole == load_sensitivities(str(path))
    assert json.loads(path.read_text())["losses"]["conv4_weights"]["0.25"] == whole["conv4_weights"][0.25]


def test_ratios_default_to_nine() -> None:
    net = Classifier()
    (points,) = _measure(net, Evaluation(net), ["conv3_weights"]).values()
    assert list(points) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_eval_args_are_passed() -> None:
    net = Classifier()
    found = _measure(net, Evaluation(net), ["conv3_weights"], pruned_ratios=np.arange(0.3, 0.5, 0.1), eval_args=[9.0])
    assert found == {"conv3_weights": {0.3: 0.0, 0.4: 0.0}}


def test_a_users_criterion() -> None:
    net = Classifier()

    def own(group: Any, values: Any, graph: Any) -> Any:
        name, axis = group.master["name"], group.master["axis"]
        return {name: {axis: np.abs(values[name]).sum((1, 2, 3))}}

    found = [_measure(net, Evaluation(net), pruned_ratios=[0.5], criterion=c) for c in ("l1_norm", own)]
    assert found[0] == found[1]


def test_what_cannot_be_pruned_is_left_out_and_it_is_said() -> None:
    net = Classifier()
    with pytest.warns(UserWarning, match=r"'fc_0\.w_0' cannot be pruned"):
        found = _measure(net, Evaluation(net), ["conv3_weights", "fc_0.w_0"], pruned_ratios=[0.5])
    assert list(found) == ["conv3_weights"]


@pytest.mark.parametrize(
    "names, more, message",
    [
        (["conv3_weight"], {}, "no parameter 'conv3_weight'; did you mean 'conv3_weights'"),
        (["fc_0.w_0"], {}, "Nothing of param_names can be pruned"),
        (["conv3_weights"], {"pruned_ratios": [0.0]}, "above 0 and below 1"),
        (["conv3_weights"], {"pruned_ratios": [1]}, "above 0 and below 1"),
        (["conv3_weights"], {"pruned_ratios": []}, "ratios are empty"),
        (["conv3_weights"], {"criterion": "l1"}, "no criterion 'l1'"),
    ],
)
def test_bad_arguments(names: List[str], more: Dict[str, Any], message: str) -> None:
    net = Classifier()
    evaluate = Evaluation(net)
    with pytest.raises(ConfigError, match=message):
        _measure(net, evaluate, names, **more)
    assert evaluate.calls == 0


@pytest.mark.parametrize(
    "returned, message",
    [(0, "metric of the unpruned network is 0"), (float("nan"), "metric is nan"), ("high", "one number was expected")],
)
def test_bad_metrics(returned: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        _measure(Classifier(), lambda program: returned, pruned_ratios=[0.5])


# ---------------------------------------------------------------- files, merging, ratios

SEN0 = {"weight_0": {0.1: 0.22, 0.2: 0.33}, "weight_1": {0.1: 0.21, 0.2: 0.4}}
SEN1 = {"weight_0": {0.3: 0.41}, "weight_2": {0.1: 0.10, 0.2: 0.35}}
BOTH = {
    "weight_0": {0.1: 0.22, 0.2: 0.33, 0.3: 0.41},
    "weight_1": {0.1: 0.21, 0.2: 0.4},
    "weight_2": {0.1: 0.10, 0.2: 0.35},
}


def test_paddleslim_s_examples(tmp_path: Path) -> None:
    assert merge_sensitive([SEN0, SEN1]) == BOTH
    for number, each in enumerate((SEN0, SEN1)):
        (tmp_path / f"{number}.data").write_bytes(pickle.dumps(each))
    assert load_sensitivities(str(tmp_path / "0.data")) == SEN0
    assert merge_sensitive([str(tmp_path / "0.data"), str(tmp_path / "1.data")]) == BOTH
    assert load_sensitivities(None) == {}
    ratios = get_ratios_by_loss(SEN0, 0.3)
    assert ratios == {
        "weight_0": pytest.approx(0.1 + 0.08 / 0.11 * 0.1),
        "weight_1": pytest.approx(0.1 + 0.09 / 0.19 * 0.1),
    }


@pytest.mark.parametrize(
    "points, loss, ratio",
    [
        ({0.1: 0.22, 0.2: 0.33}, 0.5, 0.2),  # beyond the last point
        ({0.1: 0.22, 0.2: 0.33}, 0.33, 0.2),
        ({0.1: 0.22, 0.2: 0.33}, 0.1, 0.0),  # below the first
        ({0.2: 0.33, 0.1: 0.22}, 0.22, 0.1),  # in any order
        ({0.1: 0.0, 0.2: 0.4, 0.3: 0.1, 0.4: 0.3}, 0.2, 0.35),  # the largest ratio counts
        ({0.1: -0.01, 0.2: 0.01}, 0.0, 0.15),
    ],
)
def test_ratios_by_loss(points: Dict[float, float], loss: float, ratio: float) -> None:
    assert get_ratios_by_loss({"w": points}, loss) == {"w": pytest.approx(ratio)}


def test_no_layer_is_dropped_in_silence() -> None:
    with pytest.warns(UserWarning, match="Nothing was measured of 'b'"):
        assert get_ratios_by_loss({"a": {0.5: 0.0}, "b": {}}, 0.1) == {"a": 0.5, "b": 0.0}


def test_bad_ratios_by_loss() -> None:
    with pytest.raises(ConfigError, match="loss is nan"):
        get_ratios_by_loss(SEN0, float("nan"))
    with pytest.raises(ConfigError, match="loss is '1%'"):
        get_ratios_by_loss(SEN0, "1%")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"must be \{parameter: \{ratio: loss\}\}"):
        get_ratios_by_loss({"a": [(0.1, 0.2)]}, 0.1)  # type: ignore[dict-item]


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        load_sensitivities(tmp_path / "none.data")
    with pytest.raises(ConfigError, match="at least one"):
        merge_sensitive([])
    (tmp_path / "evil.data").write_bytes(pickle.dumps(Path))
    with pytest.raises(DataError, match="wants to call"):
        load_sensitivities(tmp_path / "evil.data")
