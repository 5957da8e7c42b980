"""Files of sensitivities: ours, of a killed run, of several machines, and PaddleSlim's."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from slimkit.errors import ConfigError, DataError, EvaluationError
from slimkit.prune.sensitivity import Sensitivities
from slimkit.prune.sensitivity.formats import Journal
from slimkit.prune.sensitivity.points import loss_of

LOSSES = {"conv2d_0.w_0": {0.1: 0.125, 0.3: 0.5}, "conv2d_1.w_0": {0.9: -0.25}}


def some(**more: Any) -> Sensitivities:
    return Sensitivities(LOSSES, **{"baseline": 0.75, "criterion": "l1_norm", "model": "abc", **more})


def test_is_a_mapping_of_rounded_ratios() -> None:
    found = Sensitivities({"a": {float(ratio): 0.5 for ratio in np.arange(0.1, 0.5, 0.1)}})
    assert list(found["a"]) == [0.1, 0.2, 0.3, 0.4]
    assert found.has("a", 0.30000000000000004) and not found.has("b", 0.3)
    assert dict(found) == {"a": {0.1: 0.5, 0.2: 0.5, 0.3: 0.5, 0.4: 0.5}} == found.as_dict()
    with pytest.raises(KeyError, match=r"did you mean 'conv2d_1\.w_0'"):
        some()["conv2d_1.w0"]


def test_file_is_json_and_comes_back(tmp_path: Path) -> None:
    path = some(meta={"data": "test part"}).save(tmp_path / "new" / "s.json")
    found = Sensitivities.load(path)
    assert found.as_dict() == LOSSES
    assert (found.baseline, found.criterion, found.model, found.meta) == (0.75, "l1_norm", "abc", {"data": "test part"})
    assert json.loads(path.read_text())["losses"]["conv2d_0.w_0"] == {"0.1": 0.125, "0.3": 0.5}


@pytest.mark.parametrize("torn", [0, 1, 20])
def test_file_of_a_run_that_was_killed(tmp_path: Path, torn: int) -> None:
    known = Sensitivities({"a": {0.5: 0.1}}, baseline=0.5, criterion="l1_norm", model="m")
    journal = Journal(tmp_path / "s.json", known.header(), known.as_dict())
    journal.add("a", 0.6, 0.2)
    journal.add("b", 0.5, 0.3)  # not closed: what is there now is what a kill would leave
    if torn:
        data = (tmp_path / "s.json").read_bytes()
        (tmp_path / "s.json").write_bytes(data[:-torn])
    found = Sensitivities.load(tmp_path / "s.json")
    whole = {"a": {0.5: 0.1, 0.6: 0.2}, "b": {0.5: 0.3}}
    assert found.as_dict() == ({"a": whole["a"]} if torn else whole)
    assert (found.baseline, found.criterion, found.model) == (0.5, "l1_norm", "m")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "neither JSON nor a whole pickle"),
        (b"{\"a\": 1, ", "JSON is damaged"),
        (b"{\"a\": 1}", "must be"),
        (pickle.dumps([1, 2]), "pickle is of list"),
        (pickle.dumps({"a": {0.1: 0.2}})[:-4], "pickle data was truncated"),
        (b"{\"format\": \"slimkit.sensitivities\", \"version\": 99, \"losses\": {}}", "newer slimkit"),
    ],
)  # fmt: skip
def test_damaged_files_are_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        Sensitivities.load(tmp_path / "s")
    assert "\n" not in str(caught.value) and str(tmp_path / "s") in str(caught.value)


def test_no_file() -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        Sensitivities.load("nowhere.json")


# ------------------------------------------------------------------------------------------------ PaddleSlim's


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_paddleslim_static_file(tmp_path: Path, protocol: int) -> None:
    held = {"conv2d_0.w_0": {np.float64(0.1): np.float32(0.5), 0.30000000000000004: np.array(0.75)}}
    (tmp_path / "s.data").write_bytes(pickle.dumps(held, protocol))
    found = Sensitivities.load(tmp_path / "s.data")
    assert found.as_dict() == {"conv2d_0.w_0": {0.1: 0.5, 0.3: 0.75}}
    assert found.baseline is None


def test_paddleslim_dygraph_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There an object of PaddleSlim's is pickled, whose class need not be there to read it."""
    name = "paddleslim.dygraph.prune.filter_pruner"
    module = ModuleType(name)
    module.Status = type("Status", (), {"__module__": name})  # type: ignore[attr-defined]
    status = module.Status()
    status.sensitivies, status.accumulates, status.is_ckp = LOSSES, {}, True
    with monkeypatch.context() as patched:
        for end in range(1, 4):
            patched.setitem(sys.modules, name.rsplit(".", end)[0], ModuleType("parent"))
        patched.setitem(sys.modules, name, module)
        data = pickle.dumps(status)
    (tmp_path / "s").write_bytes(data)
    assert Sensitivities.load(tmp_path / "s").as_dict() == LOSSES


class Evil:
    def __reduce__(self) -> Any:
        return (open, ("pickle_was_run", "w"))


def test_pickles_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").write_bytes(pickle.dumps({"a": {0.1: Evil()}}))
    with pytest.raises(DataError, match=r"wants to call (_?io|builtins)\.open"):
        Sensitivities.load(tmp_path / "s")
    assert not (tmp_path / "pickle_was_run").exists()


# ------------------------------------------------------------------------------------------------ merging


def test_merge(tmp_path: Path) -> None:
    other = Sensitivities({"conv2d_1.w_0": {0.5: 0.25, 0.9: 1.0}, "new": {0.1: 0.0}}, baseline=0.75, model="abc")
    merged = Sensitivities.merge([some().save(tmp_path / "one.json"), other, {"plain": {0.2: 0.5}}])
    assert merged.as_dict() == {
        "conv2d_0.w_0": {0.1: 0.125, 0.3: 0.5},
        "conv2d_1.w_0": {0.9: 1.0, 0.5: 0.25},
        "new": {0.1: 0.0},
        "plain": {0.2: 0.5},
    }
    assert (merged.baseline, merged.criterion, merged.model) == (0.75, "l1_norm", "abc")
    assert some().as_dict() == LOSSES


@pytest.mark.parametrize(
    "more, message",
    [
        ({"baseline": 0.7}, "its baseline is 0.7, that of those before it 0.75"),
        ({"criterion": "bn_scale"}, "another criterion"),
        ({"model": "xyz"}, "another model"),
    ],
)
def test_what_cannot_be_merged(more: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sensitivities.merge([some(), some(**more)])


def test_nothing_to_merge() -> None:
    with pytest.raises(ConfigError, match="no sensitivities to merge"):
        Sensitivities.merge([])


def test_loss() -> None:
    assert loss_of(0.8, 0.6) == pytest.approx(0.25)
    assert loss_of(-2.0, -1.0) == pytest.approx(0.5)  # as PaddleSlim: a fraction of the baseline, sign and all
    with pytest.raises(EvaluationError, match="unpruned network is 0"):
        loss_of(0.0, 0.5)
