"""Rules: sums and products, stored vectors, squeeze-and-excite, PReLU, normalizations, reductions."""

from __future__ import annotations

import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from rule_cases import Case, compare, conv
from small_programs import Net, random
from zoo import Network

from slimkit.prune import Plan, find_groups, masked_model

X = (3, 6, 6)
CHAIN = "a.weight[0] a.bias[0] out.weight[1]"


def between(part, *more: str, **parts) -> Case:
    """What a part between two convolutions adds to their group of eight channels."""
    case = Case(lambda n, x: n.out(part(n, F.relu(n.a(x)))), X, a=conv(3, 8), out=conv(8, 2), **parts)
    return case.check(" ".join([f"8: {CHAIN}", *more]))


def test_residual_and_projection():
    def forward(n, x):
        y = n.norm(n.a(x))
        z = n.c(F.relu(n.b(F.relu(y))))
        return n.out(F.relu(z + y))

    Case(forward, X, a=conv(3, 8), norm=nn.BatchNorm2D(8), b=conv(8, 5), c=conv(5, 8), out=conv(8, 2)).check(
        "8: a.weight[0] a.bias[0] norm.weight[0] norm.bias[0] b.weight[1] c.weight[0] c.bias[0] out.weight[1]",
        "5: b.weight[0] b.bias[0] c.weight[1]",
    )


def test_sum_with_the_input_stays():
    case = Case(lambda n, x: n.out(n.a(x) + x), X, a=conv(3, 3), out=conv(3, 2))
    assert case.reason("a.weight") == "an elementwise_add op joins them with channels that stay"


@pytest.mark.parametrize("operation", [paddle.multiply, paddle.subtract, paddle.maximum, paddle.add_n])
def test_of_two(operation):
    def forward(n, x):
        both = (n.a(x), n.b(x))
        return n.out(operation(list(both)) if operation is paddle.add_n else operation(*both))

    Case(forward, X, a=conv(3, 4), b=conv(3, 4), out=conv(4, 2)).check(
        "4: a.weight[0] a.bias[0] b.weight[0] b.bias[0] out.weight[1]"
    )


@pytest.mark.parametrize("mean", [False, True])
def test_squeeze_and_excite(mean: bool):
    def forward(n, x):
        y = F.relu(n.a(x))
        s = y.mean([2, 3], keepdim=True) if mean else F.adaptive_avg_pool2d(y, 1)
        return n.out(y * F.hardsigmoid(n.expand(F.relu(n.squeeze(s)))))

    Case(forward, X, a=conv(3, 8), squeeze=conv(8, 4), expand=conv(4, 8), out=conv(8, 2)).check(
        f"8: {CHAIN} squeeze.weight[1] expand.weight[0] expand.bias[0]",
        "4: squeeze.weight[0] squeeze.bias[0] expand.weight[1]",
    )


def test_squeeze_and_excite_by_linear_layers():
    def forward(n, x):
        y = F.relu(n.a(x))
        s = F.sigmoid(n.expand(F.relu(n.squeeze(y.mean([2, 3])))))
        return n.out(y * s.unsqueeze([2, 3]))

    Case(forward, X, a=conv(3, 8), squeeze=nn.Linear(8, 4), expand=nn.Linear(4, 8), out=conv(8, 2)).check(
        f"8: {CHAIN} squeeze.weight[0] expand.weight[1] expand.bias[0]",
        "4: squeeze.weight[1] squeeze.bias[0] expand.weight[0]",
    )


@pytest.mark.parametrize("shape", [[8, 1, 1], [1, 8, 1, 1], [8, 6, 6]])
def test_stored_vectors(shape: list):
    axis = shape.index(8)
    between(lambda n, y: y * n.scale + n.shift, f"scale[{axis}] shift[{axis}]", scale=shape, shift=shape)


def test_stored_vector_reshaped():
    between(lambda n, y: y * n.scale.reshape([1, -1, 1, 1]), "scale[0]", scale=[8])


def test_stored_vector_through_a_function():
    between(lambda n, y: y * F.sigmoid(n.scale), "scale[0]", scale=[8, 1, 1])


def test_stored_vector_as_divisor():
    """A masked divisor keeps its values: 0 / 0 would be no number."""
    case = between(lambda n, y: y / n.scale, "scale[0]", scale=[8, 1, 1])
    masked = masked_model(case.model, Plan(case.groups, {case.group("a.weight").name: [1]}))
    assert (masked.params[case.names["scale"]] > 0).all()
    assert (masked.params[case.names["a.weight"]][1] == 0).all()


def test_learned_scalars_do_not_bind():
    between(lambda n, y: y * n.scale + n.shift, scale=[1], shift=[1, 1, 1, 1])


@pytest.mark.parametrize("mode", ["channel", "all"])
def test_prelu(mode: str):
    layer = nn.PReLU(8 if mode == "channel" else 1)
    between(lambda n, y: n.slope(y - 0.5), *(["slope._weight[0]"] if mode == "channel" else []), slope=layer)


def test_prelu_with_a_slope_for_each_element():
    net = Net()
    net.data("x", [-1, 3, 6, 6])
    net.conv("x", random(1, 4, 3, 3, 3), "a")
    net.op("prelu", {"Out": "y"}, {"mode": "element"}, X="a", Alpha=net.param("slope", random(2, 1, 4, 6, 6)))
    net.conv("y", random(3, 2, 4, 1, 1), "out", paddings=[0, 0])
    model = net.model(["x"], ["out"])
    groups = find_groups(model)
    assert {(m.parameter, m.axis) for m in groups["a.w"].members} == {("a.w", 0), ("slope", 1), ("out.w", 1)}
    compare(Network(model, {"x": random(4, 2, 3, 6, 6)}, ("out",)), groups)


def test_norms_of_each_channel():
    vectors = ("b.weight[0]", "b.bias[0]", "i.scale[0]", "i.bias[0]")
    between(lambda n, y: n.i(n.b(y)), *vectors, b=nn.BatchNorm2D(8), i=nn.InstanceNorm2D(8))


def test_sync_batch_norm():
    """Paddle has no kernel of it for CPUs: its row is batch norm's."""
    net = Net()
    net.data("x", [-1, 3, 6, 6])
    net.batch_norm(net.conv("x", random(1, 4, 3, 3, 3), "a"), "bn", 4)
    net.block.ops[-1].desc.set_type("sync_batch_norm")
    net.conv("bn", random(4, 2, 4, 1, 1), "out", paddings=[0, 0])
    groups = find_groups(net.model(["x"], ["out"]))
    vectors = {(f"bn.{name}", 0) for name in ("scale", "bias", "mean", "variance")}
    assert {(m.parameter, m.axis) for m in groups["a.w"].members} == {("a.w", 0), ("out.w", 1), *vectors}


def test_affine_channel():
    net = Net()
    net.data("x", [-1, 3, 6, 6])
    net.conv("x", random(1, 4, 3, 3, 3), "a")
    slots = {"Scale": net.param("s", random(2, 4)), "Bias": net.param("b", random(3, 4))}
    net.op("affine_channel", {"Out": "y"}, {"data_layout": "NCHW"}, X="a", **slots)
    net.conv("y", random(4, 2, 4, 1, 1), "out", paddings=[0, 0])
    groups = find_groups(net.model(["x"], ["out"]))
    assert {(m.parameter, m.axis) for m in groups["a.w"].members} == {
        *(("a.w", 0), ("s", 0), ("b", 0), ("out.w", 1)),
    }


def test_group_norm():
    """Whole groups go."""
    case = Case(
        lambda n, x: n.out(n.norm(F.relu(n.a(x)))), X, a=conv(3, 12), norm=nn.GroupNorm(4, 12), out=conv(12, 2)
    ).check("4: a.weight[0] a.bias[0] norm.weight[0] norm.bias[0] out.weight[1]")
    pruned, _ = case.prune({"a.weight": [2]})
    assert [op.attr("groups") for op in pruned.program.global_block().ops if op.type == "group_norm"] == [3]


def test_group_norm_of_one_group_stays():
    case = Case(lambda n, x: n.out(n.norm(n.a(x))), X, a=conv(3, 8), norm=nn.GroupNorm(1, 8), out=conv(8, 2))
    assert case.reason("a.weight") == f"the group_norm of '{case.names['norm.weight']}' takes its mean over them"


def test_layer_norm_stays_unless_allowed():
    def forward(n, x):
        return n.out(n.norm(F.relu(n.a(x))))

    case = Case(forward, (5, 3), a=nn.Linear(3, 8), norm=nn.LayerNorm(8), out=nn.Linear(8, 2))
    assert f"the layer_norm of '{case.names['norm.weight']}' takes its mean over them" in case.reason("a.weight")
    allowed = find_groups(case.model, layer_norm=True)
    (group,) = allowed.prunable
    assert case.members(group) == "a.bias[0] a.weight[1] norm.bias[0] norm.weight[0] out.weight[0]"
    assert "takes its mean over the channels that stay" in group.notes[0]


@pytest.mark.parametrize(
    ("part", "op_type"),
    [
        (lambda y: y * F.softmax(y, 1), "softmax"),
        (lambda y: y * F.log_softmax(y, 1), "log_softmax"),
        (lambda y: y * y.mean(1, keepdim=True), "reduce_mean"),
        (lambda y: y * y.max(1, keepdim=True), "reduce_max"),
        (lambda y: F.normalize(y, axis=1), "p_norm"),
        (lambda y: paddle.cumsum(y, 1), "cumsum"),
        (lambda y: y * paddle.logsumexp(y, 1, keepdim=True), "logsumexp"),
        (lambda y: y * y.mean(), "reduce_mean"),
    ],
)
def test_computed_over_channels_stays(part, op_type: str):
    case = Case(lambda n, x: n.out(part(n.a(x))), X, a=conv(3, 4), out=conv(4, 2))
    assert f"a {op_type} op computes over them" in case.reason("a.weight")


@pytest.mark.parametrize(
    "part",
    [
        lambda n, y: y * F.softmax(y, 3),
        lambda n, y: y - y.max([2, 3], keepdim=True),
        lambda n, y: y - y.mean(2, keepdim=True) * y.std([2, 3], keepdim=True),
        lambda n, y: paddle.cumsum(y, 2),
        lambda n, y: paddle.where(y > 0.3, y, y * 0.1),
        lambda n, y: paddle.clip(y, 0.1, 0.9) + paddle.full([1], 0.5) * y**2,
        lambda n, y: paddle.topk(y, 3, axis=3)[0],
        lambda n, y: F.dropout(F.interpolate(F.avg_pool2d(y, 2), scale_factor=2, mode="bilinear"), 0.5, training=False),
    ],
)
def test_computed_over_pixels_passes(part):
    between(part)


def test_a_penalty_on_the_weights_does_not_hold_them():
    """Network slimming (Liu et al. 2017, arXiv:1708.06519): the loss has the sum of the scales' sizes in it."""

    def forward(n, x):
        y = n.norm(n.a(x))
        return n.out(F.relu(y)), n.norm.weight.abs().sum()

    Case(forward, X, a=conv(3, 8), norm=nn.BatchNorm2D(8), out=conv(8, 2)).check(
        f"8: {CHAIN} norm.weight[0] norm.bias[0]"
    )


def test_product_of_a_channel_vector_and_a_pixel_map():
    """Channels of a vector [N, C, 1, 1] spread over a map [N, 1, H, W]."""

    def forward(n, x):
        return n.out(n.a(x).mean([2, 3], keepdim=True) * F.sigmoid(n.map(x)))

    case = Case(forward, X, a=conv(3, 4), map=conv(3, 1), out=conv(4, 2))
    case.check("4: a.weight[0] a.bias[0] out.weight[1]")
    assert case.reason("map.weight") == "it is a single unit, which must stay"
