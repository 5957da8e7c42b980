"""Rules: convolutions of all kinds."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from paddle.vision.ops import DeformConv2D
from rule_cases import Case, compare, conv
from small_programs import CONV, Net, random
from zoo import Network

from slimkit.prune import Plan, find_groups, prune_model

X = (3, 6, 6)


def chain(layer: nn.Layer, inputs: int, outputs: int, **more) -> Case:
    return Case(
        lambda n, x: n.out(F.relu(n.mid(F.relu(n.a(x))))), X, a=conv(3, inputs), mid=layer, out=conv(outputs, 2), **more
    )


def test_plain():
    chain(conv(4, 6, 3), 4, 6).check(
        "4: a.weight[0] a.bias[0] mid.weight[1]", "6: mid.weight[0] mid.bias[0] out.weight[1]"
    )


def test_batch_norm_between():
    case = Case(lambda n, x: n.out(n.bn(n.a(x))), X, a=conv(3, 4), bn=nn.BatchNorm2D(4), out=conv(4, 2))
    case.check("4: a.weight[0] a.bias[0] bn.weight[0] bn.bias[0] out.weight[1]")
    statistics = {m.parameter for m in case.group("a.weight").members if m.op_type == "batch_norm"}
    assert len(statistics) == 4


def test_grouped():
    """Of every group of a grouped convolution the same channels go: the kernel takes groups of one size only."""
    case = chain(conv(8, 12, 3, groups=4), 8, 12)
    case.check("2: a.weight[0] a.bias[0] mid.weight[1]", "3: mid.weight[0] mid.bias[0] out.weight[1]")
    pruned, _ = case.prune({"a.weight": [0], "mid.weight": [1]})
    assert pruned.params[case.names["mid.weight"]].shape == (8, 1, 3, 3)
    assert pruned.params[case.names["a.weight"]].shape == (4, 3, 1, 1)
    assert {op.attr("groups") for op in pruned.program.global_block().ops if op.type == "conv2d"} == {1, 4}


def test_depthwise():
    case = chain(conv(6, 6, 3, groups=6), 6, 6)
    case.check("6: a.weight[0] a.bias[0] mid.weight[0] mid.bias[0] out.weight[1]")
    pruned, _ = case.prune({"a.weight": [0, 3]})
    assert 4 in {op.attr("groups") for op in pruned.program.global_block().ops if op.type == "depthwise_conv2d"}


def test_depthwise_with_a_multiplier_of_two():
    case = chain(conv(4, 8, 3, groups=4), 4, 8)
    case.check("4: a.weight[0] a.bias[0] mid.weight[0] mid.bias[0] out.weight[1]")
    _, plan = case.prune({"a.weight": [1]})
    np.testing.assert_array_equal(plan.slices()[case.names["mid.weight"]][0], [2, 3])


def test_depthwise_of_the_input():
    """Its channels are the network's input, which stays; its filters are no group of their own."""
    case = Case(lambda n, x: n.out(F.relu(n.a(n.mid(x)))), X, mid=conv(3, 3, 3, groups=3), a=conv(3, 4), out=conv(4, 2))
    case.check("4: a.weight[0] a.bias[0] out.weight[1]")


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed(groups: int):
    layer = nn.Conv2DTranspose(4, 6, 2, stride=2, groups=groups)
    sizes = (4, 6) if groups == 1 else (2, 3)
    chain(layer, 4, 6).check(
        f"{sizes[0]}: a.weight[0] a.bias[0] mid.weight[0]", f"{sizes[1]}: mid.weight[1] mid.bias[0] out.weight[1]"
    )


def test_transposed_depthwise():
    case = chain(nn.Conv2DTranspose(4, 4, 2, stride=2, groups=4), 4, 4)
    case.check("4: a.weight[0] a.bias[0] mid.weight[0] mid.bias[0] out.weight[1]")


@pytest.mark.parametrize("groups", [1, 2])
def test_deformable(groups: int):
    def forward(n, x):
        y = F.relu(n.a(x))
        return n.out(F.relu(n.mid(y, n.offset(x), F.sigmoid(n.mask(x)))))

    case = Case(
        forward, X, a=conv(3, 4), mid=DeformConv2D(4, 6, 3, padding=1, groups=groups), offset=conv(3, 18),
        mask=conv(3, 9), out=conv(6, 2),
    )  # fmt: skip
    sizes = (4, 6) if groups == 1 else (2, 3)
    case.check(
        f"{sizes[0]}: a.weight[0] a.bias[0] mid.weight[1]", f"{sizes[1]}: mid.weight[0] mid.bias[0] out.weight[1]"
    )
    assert "as its offset" in case.reason("offset.weight") and "as its mask" in case.reason("mask.weight")


def test_deformable_with_groups_of_offsets():
    """Each offset serves a part of the channels, so the parts stay equally long."""
    case = Case(
        lambda n, x: n.out(F.relu(n.mid(F.relu(n.a(x)), n.offset(x)))), X,
        a=conv(3, 8), mid=DeformConv2D(8, 6, 3, padding=1, deformable_groups=2), offset=conv(3, 36), out=conv(6, 2),
    )  # fmt: skip
    case.check("4: a.weight[0] a.bias[0] mid.weight[1]", "3: mid.weight[0] mid.bias[0] out.weight[1]")


def test_one_dimension():
    case = Case(
        lambda n, x: n.out(F.relu(n.norm(n.a(x)))), (3, 9),
        a=nn.Conv1D(3, 4, 3), norm=nn.BatchNorm1D(4), out=nn.Conv1D(4, 2, 1),
    )  # fmt: skip
    case.check("4: a.weight[0] a.bias[0] norm.weight[0] norm.bias[0] out.weight[1]")


def test_three_dimensions():
    case = Case(
        lambda n, x: n.out(F.max_pool3d(F.relu(n.norm(n.a(x))), 2)), (3, 4, 6, 6),
        a=nn.Conv3D(3, 4, 3, padding=1), norm=nn.BatchNorm3D(4), out=nn.Conv3D(4, 2, 1),
    )  # fmt: skip
    case.check("4: a.weight[0] a.bias[0] norm.weight[0] norm.bias[0] out.weight[1]")


def test_shared_layer():
    """A convolution called twice: what it reads and gives is joined."""

    def forward(n, x):
        y = n.shared(F.relu(n.a(x)))
        z = n.shared(F.relu(n.b(x)))
        return n.out(y) + n.tail(z)

    Case(forward, X, a=conv(3, 4), b=conv(3, 4), shared=conv(4, 5), out=conv(5, 2), tail=conv(5, 2)).check(
        "4: a.weight[0] a.bias[0] b.weight[0] b.bias[0] shared.weight[1]",
        "5: shared.weight[0] shared.bias[0] out.weight[1] tail.weight[1]",
    )


def test_applied_to_its_own_result():
    def forward(n, x):
        y = F.relu(n.a(x))
        for _ in range(3):
            y = F.relu(n.loop(y))
        return n.out(y)

    Case(forward, X, a=conv(3, 4), loop=conv(4, 4), out=conv(4, 2)).check(
        "4: a.weight[0] a.bias[0] loop.weight[0] loop.bias[0] loop.weight[1] out.weight[1]"
    )


def test_shared_layer_on_the_input_too():
    """It reads channels that stay at one place, so those of the other stay too."""
    case = Case(
        lambda n, x: n.out(F.relu(n.shared(x))) + n.out(F.relu(n.shared(n.a(x)))), X,
        a=conv(3, 3), shared=conv(3, 5), out=conv(5, 2),
    )  # fmt: skip
    reason = f"'{case.names['shared.weight']}' also serves a conv2d op, where the channels stay"
    assert case.reason("a.weight") == reason
    case.check("5: shared.weight[0] shared.bias[0] out.weight[1]")


def test_nhwc():
    def forward(n, x):
        y = F.relu(n.norm(n.a(x)))
        y = F.max_pool2d(y + n.short(x), 2, data_format="NHWC")
        return n.fc(n.depthwise(y).flatten(1))

    last = {"data_format": "NHWC"}
    case = Case(
        forward, (6, 6, 3), a=conv(3, 4, 3, **last), norm=nn.BatchNorm2D(4, **last), short=conv(3, 4, **last),
        depthwise=conv(4, 4, 3, groups=4, **last), fc=nn.Linear(36, 2),
    )  # fmt: skip
    case.check(
        "4: a.weight[0] a.bias[0] norm.weight[0] norm.bias[0] short.weight[0] short.bias[0] "
        "depthwise.weight[0] depthwise.bias[0] fc.weight[0]"
    )
    slices = Plan(case.groups, {case.group("a.weight").name: [1]}).slices()
    np.testing.assert_array_equal(slices[case.names["fc.weight"]][0], np.arange(36).reshape(9, 4)[:, 1])


def test_computed_filters_stay():
    def forward(n, x):
        kernel = n.a(x)[:1, :, :2, :2].transpose([1, 0, 2, 3])
        return F.conv2d(n.b(x), kernel.reshape([2, 2, 2, 2]))

    case = Case(forward, X, a=conv(3, 4), b=conv(3, 2), batch=1)
    assert not case.groups.prunable
    assert "the filters of a conv2d op are made by a reshape2 op, not stored" in case.reason("b.weight")


def test_weights_seen_through_ops():
    """A weight that is reshaped and transposed on its way to the convolution shrinks as it is stored."""

    def forward(n, x):
        weight = n.w.transpose([1, 0]).unsqueeze([2, 3])
        return n.out(F.relu(F.conv2d(F.relu(n.a(x)), weight)))

    case = Case(forward, X, a=conv(3, 4), w=[4, 6], out=conv(6, 2))
    case.check("4: a.weight[0] a.bias[0] w[0]", "6: w[1] out.weight[1]")


def test_bias_as_an_input_of_the_op():
    """As converters write it for transposed convolutions."""
    net = Net()
    net.data("x", [-1, 3, 6, 6])
    slots = {"Input": "x", "Filter": net.param("a.w", random(1, 3, 4, 3, 3)), "Bias": net.param("a.b", random(2, 4))}
    net.relu(net.op("conv2d_transpose", {"Output": "a"}, {**CONV, "output_size": []}, **slots), "a.relu")
    net.conv("a.relu", random(3, 2, 4, 1, 1), "out", paddings=[0, 0])
    model = net.model(["x"], ["out"])
    groups = find_groups(model)
    assert {(m.parameter, m.axis) for m in groups["a.w"].members} == {("a.w", 1), ("a.b", 0), ("out.w", 1)}
    compare(Network(model, {"x": random(4, 2, 3, 6, 6)}, ("out",)), groups)


def test_dynamic_image_sizes():
    def forward(n, x):
        y = F.relu(n.a(x))
        y = F.interpolate(y, paddle.shape(x)[2:] * 2, mode="bilinear")
        return n.out(F.pad(y, [1, 1, 1, 1]))

    Case(forward, X, a=conv(3, 4, 3, stride=2), out=conv(4, 2), dynamic=True).check(
        "4: a.weight[0] a.bias[0] out.weight[1]"
    )


def test_several_inputs_and_outputs():
    def forward(n, x, y):
        z = F.relu(n.a(x)) + F.relu(n.b(y))
        return n.out(z), n.tail(F.relu(n.mid(z)))

    case = Case(
        forward, X, (2, 6, 6), a=conv(3, 4), b=conv(2, 4), out=conv(4, 2), mid=conv(4, 3), tail=conv(3, 1)
    )
    case.check(
        "4: a.weight[0] a.bias[0] b.weight[0] b.bias[0] out.weight[1] mid.weight[1]",
        "3: mid.weight[0] mid.bias[0] tail.weight[1]",
    )
    assert case.reason("out.weight") == "they are results of the network"


def test_a_result_in_the_middle_stays():
    case = Case(lambda n, x: (n.a(x), n.out(F.relu(n.a(x)))), X, a=conv(3, 4), out=conv(4, 2))
    assert case.reason("a.weight") == "they are results of the network"
    assert prune_model(case.model, Plan(case.groups, {})).run(case.network.feed)[0].shape == (2, 4, 6, 6)
