"""What is computed from the cut on must be what the whole masked network computes."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
import paddle
import pytest
import sensitivity_networks as nets
from paddle.vision import models

from slimkit.ir import Model
from slimkit.prune.apply import find_groups, masked_model
from slimkit.prune.plan import make_plan
from slimkit.prune.sensitivity import Sensitivities, StreamingEvaluation, measure_sensitivity
from slimkit.prune.sensitivity.cut import Ops
from slimkit.prune.sensitivity.kernels import evaluation_programs
from slimkit.prune.sensitivity.pieces import Piece

Losses = Dict[str, Dict[float, float]]


def measured(model: Model, data: Any, **more: Any) -> Tuple[Sensitivities, List[nets.Outputs]]:
    nets.Outputs.made = []
    found = measure_sensitivity(model, find_groups(model), StreamingEvaluation(data, nets.Outputs), **more)
    return found, nets.Outputs.made


def assert_same(one: Tuple[Sensitivities, List[Any]], other: Tuple[Sensitivities, List[Any]]) -> None:
    assert one[0].baseline == pytest.approx(other[0].baseline, rel=1e-6)
    for name in one[0]:
        assert one[0][name] == pytest.approx(other[0][name], abs=1e-6), name
    assert set(one[0]) == set(other[0])


NETWORKS = {
    "mobilenet_v1": lambda: models.mobilenet_v1(scale=0.25, num_classes=7),
    "resnet18": lambda: models.resnet18(num_classes=7),
    "mobilenet_v3_small": lambda: models.mobilenet_v3_small(scale=0.5, num_classes=7),
    "branches": nets.Branches,
    "attention": nets.Attention,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_from_the_cut_as_whole(name: str) -> None:
    model = nets.network(NETWORKS[name])
    data = nets.batches(2)
    prunable = find_groups(model).prunable
    ratios = {group.name: (0.3, 0.7) for group in prunable[:: 1 + len(prunable) // 6]}
    whole, from_cut = (measured(model, data, ratios=ratios, cut=cut) for cut in (False, True))
    assert_same(whole, from_cut)
    assert whole[0].points == 2 * len(ratios)
    losses = np.array([loss for points in whole[0].values() for loss in points.values()])
    assert np.mean(np.abs(losses) > 1e-6) > 0.8  # pruning is seen in the metric


@pytest.mark.parametrize("name", ["branches", "attention"])
def test_as_the_masked_model(name: str) -> None:
    """Against ``masked_model`` on the same kernels, output by output."""
    model = nets.network(NETWORKS[name])
    groups, data = find_groups(model), nets.batches(2)
    parameters = [group.name for group in groups.prunable][1:4]
    found, metrics = measured(model, data, ratios=[0.5], parameters=parameters)
    seen = {tuple(np.round(m.seen[0], 3)): m.seen for m in metrics}
    assert len(seen) == len(parameters) + 1
    for parameter in parameters:
        masked = masked_model(model, make_plan(groups, None, {parameter: 0.5}, params=model.params))
        masked.program = evaluation_programs(masked, paddle.CPUPlace())[0]
        wanted = [masked.run(feed)[0].ravel() for feed, _ in data]
        nearest = min(metrics, key=lambda m: np.abs(m.seen[0] - wanted[0]).max())
        for got, want in zip(nearest.seen, wanted):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * max(1.0, np.abs(want).max()))
        metric = found.baseline * (1 - found[parameter][0.5])
        assert metric == pytest.approx(nearest.result()["projection"], rel=1e-9)


def test_ppocr_det_from_the_cut_as_whole(rapidocr_models: Any) -> None:
    model = Model.load(next(path for path in sorted(rapidocr_models.iterdir()) if "det" in path.name))
    groups = find_groups(model)
    parameters = [group.name for group in groups.prunable][::9]
    data = [({"x": feed["x"]}, None) for feed, _ in nets.batches(1, 1, 96)]
    whole, from_cut = (measured(model, data, ratios=[0.5], parameters=parameters, cut=cut) for cut in (False, True))
    assert_same(whole, from_cut)


def test_cut_is_in_front_of_the_next_reader() -> None:
    """Of convolution, batch norm, ReLU, depthwise convolution, batch norm, ReLU only what comes behind is computed."""
    model = nets.network(NETWORKS["mobilenet_v1"])
    ops = Ops(model.program, model.feeds, model.fetches)
    groups = find_groups(model)
    for group in groups.prunable:
        cut = ops.cut(group)
        assert ops.types[cut.position] in ("conv2d", "matmul_v2")
        assert len(cut.inputs) == 1
        reader = next(member.parameter for member in group.members if member.role == "input")
        assert cut.masked == {reader} and reader in ops.reads[cut.position]


def test_attention_is_cut_early() -> None:
    """The products of queries and keys add over channels: what makes these must be masked too."""
    model = nets.network(nets.Attention)
    ops = Ops(model.program, model.feeds, model.fetches)
    groups = find_groups(model)
    mixing = [g for g in groups.prunable if not any(m.role == "input" for m in g.members)]
    for group in mixing:
        assert ops.cut(group).masked == {member.parameter for member in group.members}


@pytest.mark.parametrize("cache_bytes", [0, 60_000, 1 << 30])
def test_memory_allowed_does_not_change_results(cache_bytes: int) -> None:
    model = nets.network(nets.Branches)
    data = nets.batches(5)
    wanted = measured(model, data, ratios=[0.3, 0.6], cut=False)
    found = measured(model, data, ratios=[0.3, 0.6], cache_bytes=cache_bytes)
    assert_same(wanted, found)
    assert all(metric.labels == list(range(5)) for metric in found[1])


def test_all_prefixes_together_cost_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """What leads from cut to cut has each op once a batch; what is behind a cut is run for each ratio."""
    from slimkit.prune.sensitivity import stream

    monkeypatch.setattr(stream, "_SETUP", 0.0)
    made: List[Tuple[Piece, int, Tuple[str, ...]]] = []
    runs: List[Tuple[int, bool]] = []
    start, run = Piece.__init__, Piece.run

    def init(self: Piece, program: Any, ops: Any, inputs: Any, outputs: Any, *rest: Any) -> None:
        start(self, program, ops, inputs, outputs, *rest)
        made.append((self, len(ops), tuple(outputs)))

    def counted(self: Piece, tensors: Any) -> Any:
        count, outputs = next((count, outputs) for piece, count, outputs in made if piece is self)
        runs.append((count, outputs == tuple(model.fetches)))
        return run(self, tensors)

    monkeypatch.setattr(Piece, "__init__", init)
    monkeypatch.setattr(Piece, "run", counted)
    model = nets.network(NETWORKS["mobilenet_v1"])
    measured(model, nets.batches(3), ratios=[0.2, 0.5, 0.8])
    total = len(model.program.global_block().ops)
    assert 0 < sum(count for count, whole in runs if not whole) <= 3 * total
    groups = len(find_groups(model).prunable)
    behind = sum(count for count, whole in runs if whole)
    assert behind < 0.6 * (groups * 3 + 1) * 3 * total


def test_model_is_left_as_it_was() -> None:
    model = nets.network(nets.Branches)
    before = {name: model.params[name] for name in model.params}
    program = model.program.desc.serialize_to_string()
    measured(model, nets.batches(2), ratios=[0.5])
    assert model.program.desc.serialize_to_string() == program
    for name, array in before.items():
        np.testing.assert_array_equal(model.params[name], array)
