"""Rules: concat, split, slice, pad, stack, unbind."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from rule_cases import Case, conv

from slimkit.errors import ConfigError
from slimkit.prune import make_plan, prune_model

X = (3, 6, 6)


def test_concat_of_three():
    Case(
        lambda n, x: n.out(paddle.concat([n.a(x), n.b(x), n.c(x)], 1)),
        X, a=conv(3, 4), b=conv(3, 6), c=conv(3, 5), out=conv(15, 2),
    ).check(
        "4: a.weight[0] a.bias[0] out.weight[1]",
        "6: b.weight[0] b.bias[0] out.weight[1]",
        "5: c.weight[0] c.bias[0] out.weight[1]",
    )  # fmt: skip


def test_concat_with_the_input_and_of_one_tensor_twice():
    def forward(n, x):
        y = n.a(x)
        return n.out(paddle.concat([x, y, y], 1))

    Case(forward, X, a=conv(3, 4), out=conv(11, 2)).check("4: a.weight[0] a.bias[0] out.weight[1]")


def test_nested_concat_and_split():
    def forward(n, x):
        y = paddle.concat([n.a(x), n.b(x)], 1)  # 4 + 6
        left, right = paddle.split(y, [3, 7], 1)
        z = paddle.concat([right, n.c(x), left], 1)
        return n.out(F.relu(z)) + n.tail(left)

    Case(forward, X, a=conv(3, 4), b=conv(3, 6), c=conv(3, 5), out=conv(15, 2), tail=conv(3, 2)).check(
        "4: a.weight[0] a.bias[0] out.weight[1] tail.weight[1]",
        "6: b.weight[0] b.bias[0] out.weight[1]",
        "5: c.weight[0] c.bias[0] out.weight[1]",
    )


def test_residual_over_a_concat():
    case = Case(
        lambda n, x: n.out(paddle.concat([n.a(x), n.b(x)], 1) + n.c(x)),
        X, a=conv(3, 4), b=conv(3, 6), c=conv(3, 10), out=conv(10, 2),
    )  # fmt: skip
    case.check("10: a.weight[0] a.bias[0] b.weight[0] b.bias[0] c.weight[0] c.bias[0] out.weight[1]")


@pytest.mark.parametrize("sections", [2, [3, 5], [2, -1], [1, 3, 4]])
def test_split(sections):
    def forward(n, x):
        parts = paddle.split(n.a(x), sections, 1)
        return [n.out(F.relu(parts[0])), n.b(parts[1]), *(p.mean() for p in parts[2:])]

    first, second = (4, 4) if sections == 2 else sections[:2]
    second = 6 if second == -1 else second
    expected = "a.weight[0] a.bias[0] out.weight[1] b.weight[1]"
    case = Case(forward, X, a=conv(3, 8), out=conv(first, 2), b=conv(second, 3))
    if sections == [1, 3, 4]:
        assert "mean op computes over them" in " ".join(case.group("a.weight").notes)
    else:
        case.check(f"8: {expected}")


def _two_ways():
    """Half of the channels goes through a convolution, half goes past it (CSPNet, arXiv:1911.11929)."""

    def forward(n, x):
        left, right = paddle.split(n.a(x), 2, 1)
        return n.out(F.relu(n.c(paddle.concat([F.relu(right), F.relu(n.b(left))], 1))))

    return Case(forward, X, a=conv(3, 8), b=conv(4, 4), c=conv(8, 4), out=conv(4, 2))


def test_no_part_of_a_split_is_emptied():
    """The convolution behind reads other channels too, so only the tensor between would have none."""
    case = _two_ways().check(
        "8: a.weight[0] a.bias[0] b.weight[1] c.weight[1]",
        "4: b.weight[0] b.bias[0] c.weight[1]",
        "4: c.weight[0] c.bias[0] out.weight[1]",
    )
    assert [part.tolist() for part in case.group("a.weight").parts] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ConfigError, match=r"removes all of the units \[4, 5, 6, 7\].*leave at least one"):
        case.prune({"a.weight": [4, 5, 6, 7]})


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.625, 0.75])
def test_a_plan_leaves_the_best_of_a_part(ratio: float):
    """All channels of the second half are worth less than those of the first."""
    case = _two_ways()
    group = case.group("a.weight")
    worth = {group.name: np.array([8, 7, 6, 5, 1, 4, 2, 3.0])}
    plan = make_plan(case.groups, worth, {group.name: ratio})
    gone = plan.removed[group.name].tolist()
    assert len(gone) == 8 * ratio
    assert gone == sorted([4, 6, 7, 3, 2, 1][: len(gone)])
    prune_model(case.model, plan).run(case.network.feed)


def test_split_of_which_parts_are_added():
    """The halves are joined, so a unit is a channel of each."""

    def forward(n, x):
        left, right = paddle.split(n.a(x), 2, 1)
        return n.out(left * F.sigmoid(right))

    Case(forward, X, a=conv(3, 8), out=conv(4, 2)).check("4: a.weight[0] a.bias[0] out.weight[1]")


def test_slices():
    def forward(n, x):
        y = n.a(x)
        return n.b(y[:, :3]) + n.c(y[:, 2:7]) + n.d(y[:, -3:])

    Case(forward, X, a=conv(3, 8), b=conv(3, 2), c=conv(5, 2), d=conv(3, 2)).check(
        "8: a.weight[0] a.bias[0] b.weight[1] c.weight[1] d.weight[1]"
    )


def test_slice_of_pixels_passes_channels():
    Case(lambda n, x: n.out(n.a(x)[:, :, 1:-1, ::2]), X, a=conv(3, 8), out=conv(8, 2)).check(
        "8: a.weight[0] a.bias[0] out.weight[1]"
    )


def test_strided_slice_of_channels_stays():
    case = Case(lambda n, x: n.out(n.a(x)[:, ::2]), X, a=conv(3, 8), out=conv(4, 2))
    assert "strided_slice op takes a fixed part of them" in case.reason("a.weight")


def test_one_channel_taken_stays():
    case = Case(lambda n, x: n.a(x)[:, 3] + n.b(x)[:, 0], X, a=conv(3, 8), b=conv(3, 2))
    assert "slice op takes a fixed part of them" in case.reason("a.weight")


def test_option_a_shortcut():
    """He et al. 2016, section 4.2: the shortcut takes every second pixel and adds channels of zeros."""

    def forward(n, x):
        y = F.relu(n.a(x))
        short = F.pad(y[:, :, ::2, ::2], [0, 0, 2, 2, 0, 0, 0, 0], pad_from_left_axis=True)
        return n.out(F.relu(n.c(F.relu(n.b(y))) + short))

    case = Case(forward, X, a=conv(3, 4), b=conv(4, 5, 3, stride=2), c=conv(5, 8), out=conv(8, 2))
    assert "pad" in case.op_types() or "pad3d" in case.op_types()
    case.check(
        "4: a.weight[0] a.bias[0] b.weight[1] c.weight[0] c.bias[0] out.weight[1]",
        "5: b.weight[0] b.bias[0] c.weight[1]",
    )


def test_padding_of_pixels():
    Case(lambda n, x: n.out(F.pad(n.a(x), [1, 2, 0, 1])), X, a=conv(3, 4), out=conv(4, 2)).check(
        "4: a.weight[0] a.bias[0] out.weight[1]"
    )


def test_stack_and_unbind():
    def forward(n, x):
        both = paddle.stack([n.a(x), n.b(x)], 1)
        one, other = paddle.unbind(F.relu(both), 1)
        return n.out(one) - n.out(other)

    Case(forward, X, a=conv(3, 4), b=conv(3, 4), out=conv(4, 2)).check(
        "4: a.weight[0] a.bias[0] b.weight[0] b.bias[0] out.weight[1]"
    )


def test_concat_of_pixels_joins_channels():
    Case(
        lambda n, x: n.out(paddle.concat([n.a(x), n.b(x)], 2)), X, a=conv(3, 4), b=conv(3, 4), out=conv(4, 2)
    ).check("4: a.weight[0] a.bias[0] b.weight[0] b.bias[0] out.weight[1]")


def test_concat_of_pixels_with_an_input_stays():
    case = Case(lambda n, x: n.out(paddle.concat([n.a(x), x], 2)), X, a=conv(3, 3), out=conv(3, 2))
    assert "channels that stay" in case.reason("a.weight")


def test_dense_block():
    def forward(n, x):
        y = n.stem(x)
        for norm, layer in zip(n.norms, n.convs):
            y = paddle.concat([y, layer(F.relu(norm(y)))], 1)
        return n.out(y)

    norms = nn.LayerList([nn.BatchNorm2D(4), nn.BatchNorm2D(7)])
    case = Case(forward, X, stem=conv(3, 4), norms=norms, convs=nn.LayerList([conv(4, 3), conv(7, 3)]), out=conv(10, 2))
    inputs = "convs.0.weight[1] convs.1.weight[1] out.weight[1]"
    vectors = "norms.0.weight[0] norms.0.bias[0] norms.1.weight[0] norms.1.bias[0]"
    case.check(
        f"4: stem.weight[0] stem.bias[0] {inputs} {vectors}",
        "3: convs.0.weight[0] convs.0.bias[0] convs.1.weight[1] out.weight[1] norms.1.weight[0] norms.1.bias[0]",
        "3: convs.1.weight[0] convs.1.bias[0] out.weight[1]",
    )
