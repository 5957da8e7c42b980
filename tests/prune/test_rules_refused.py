"""What is not pruned, and the sentence that says why."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from paddle.static import InputSpec
from rule_cases import Case, conv

from slimkit.errors import ConfigError
from slimkit.ir import Model, convert
from slimkit.ir.translate.tables import ROWS
from slimkit.prune import find_groups
from slimkit.prune.rules import RULES, reason_of
from slimkit.prune.rules.refused import REFUSED

X = (3, 6, 6)

#: What slimkit's translator writes and pruning passes by: results without channels, or ops without tensors.
WITHOUT_CHANNELS = {
    *("gaussian_random", "uniform_random", "randint", "bernoulli", "range", "linspace", "eye", "empty"),
}
#: Nobody has met them in a network that is pruned; they are refused by the general sentence.
NO_RULE_YET = {
    *("atan2", "lerp", "broadcast_tensors", "isclose", "solve"),
    # Only quantized networks have these; a network is pruned before it is quantized.
    *("fake_quantize_dequantize_abs_max", "fake_quantize_dequantize_moving_average_abs_max"),
    "fake_channel_wise_quantize_dequantize_abs_max",
}


def test_every_op_that_is_written_has_a_rule_or_a_reason():
    written = {row.legacy for row in ROWS.values() if row.legacy}
    assert written - set(RULES) - set(REFUSED) == (WITHOUT_CHANNELS | NO_RULE_YET) & written
    assert not set(RULES) & set(REFUSED)


def test_a_reason_is_a_sentence_with_the_op_in_it():
    for op_type in (*REFUSED, "made_up"):
        assert op_type.split("_v2")[0] in reason_of(op_type), op_type
    assert reason_of("made_up") == "a made_up op reads them, for which slimkit has no pruning rule"


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (lambda y: paddle.index_select(y, paddle.to_tensor([3, 1, 0]), 1), "an index_select op picks some of them"),
        (lambda y: paddle.roll(y, 1, 1), "a roll op moves them by a fixed number"),
        (lambda y: F.temporal_shift(y, 2), "a temporal_shift op moves a fixed part of them in time"),
        (lambda y: paddle.kron(y, y), "a kron op reads them as a matrix"),
        (lambda y: paddle.repeat_interleave(y, 2, 1), "a repeat_interleave op picks or writes elements of them"),
    ],
)
def test_positions_that_count(part, reason: str):
    case = Case(lambda n, x: part(n.a(x)).mean([0]), X, a=conv(3, 4))
    assert reason in case.reason("a.weight")


def test_recurrent():
    """CRNN (Shi et al. 2015, arXiv:1507.05717): the columns that the LSTM reads stay, and what comes before shrinks."""

    def forward(n, x):
        y = F.relu(n.b(F.relu(n.a(x))))
        y, _ = n.lstm(y.transpose([0, 3, 1, 2]).flatten(2))
        return n.head(y)

    case = Case(
        forward, X, a=conv(3, 8), b=conv(8, 4), lstm=nn.LSTM(24, 5, direction="bidirect"), head=nn.Linear(10, 3)
    )
    case.check("8: a.weight[0] a.bias[0] b.weight[1]")
    assert case.reason("b.weight") == "an rnn op (LSTM, GRU) reads them, whose recurrent weights are left as they are"


def test_spectral_norm():
    case = Case(
        lambda n, x: n.out(F.conv2d(F.relu(n.a(x)), n.spectral(n.w))), X,
        a=conv(3, 4), w=[6, 4, 1, 1], spectral=nn.SpectralNorm([6, 4, 1, 1]), out=conv(6, 2),
    )  # fmt: skip
    assert case.reason("a.weight") == "the filters of a conv2d op are made by a spectral_norm op, not stored"


class _Loop(nn.Layer):
    """A loop that adds what is outside of it, and a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.free, self.last = nn.Linear(3, 6), nn.Linear(6, 4)

    def forward(self, x):
        y, z, i = self.a(x), self.last(F.relu(self.free(x))), paddle.zeros([1], "int64")
        while i < 3:
            y, i = F.relu(self.b(y)) + z, i + 1
        if y.mean() > 0:
            y = y * 2
        else:
            y = y - 1
        return self.c(y)


def test_control_flow(tmp_path):
    net = _Loop()
    net.eval()
    paddle.jit.save(net, str(tmp_path / "m"), input_spec=[InputSpec([-1, 3], "float32", "x")])
    model = Model.load(convert(tmp_path / "m", tmp_path / "legacy" / "m"))
    assert "while" in model.op_counts()
    groups = find_groups(model)
    assert len(groups.prunable) == 1 and groups.prunable[0].size == 6
    assert all("inner block" in g.refused for g in groups.refused if g.size == 4), str(groups)


def test_two_reasons_are_both_told():
    case = Case(lambda n, x: (n.a(x) + x) * F.softmax(n.a(x), 1), X, a=conv(3, 3))
    assert "channels that stay" in case.reason("a.weight") and "softmax" in case.reason("a.weight")


def test_what_groups_print():
    case = Case(lambda n, x: n.out(F.relu(n.norm(n.a(x)))), X, a=conv(3, 8), norm=nn.BatchNorm2D(8), out=conv(8, 2))
    names = case.names
    lines = str(case.groups).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{names['a.weight']}: 8 units")
    for path in ("a.bias", "norm.weight", "norm.bias", "out.weight"):
        assert names[path] in lines[0]
    assert lines[1] == f"{names['out.weight']}: 2 units stay: they are results of the network"


def test_a_refused_parameter_is_told_when_it_is_asked_for():
    case = Case(lambda n, x: n.out(F.softmax(n.a(x), 1)), X, a=conv(3, 4), out=conv(4, 2))
    name = case.names["a.weight"]
    with pytest.raises(ConfigError, match=rf"'{name}' cannot be pruned: .*softmax op computes over them"):
        case.groups.of(name)
    assert not np.any(case.group("a.weight").members[0].units >= 0)
