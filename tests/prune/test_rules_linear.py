"""Rules: products of matrices, flattening, reshaping, attention, embeddings."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from plans import check_shapes
from rule_cases import Case, compare, conv
from small_programs import Net, random
from zoo import Network

from slimkit.prune import Plan, find_groups, prune_model

X = (3, 6, 6)
CHAIN = "a.weight[0] a.bias[0] out.weight[1]"


def between(part, expected: str = f"8: {CHAIN}", **more) -> Case:
    case = Case(lambda n, x: n.out(part(n, F.relu(n.a(x)))), X, a=conv(3, 8), out=conv(8, 2), **more)
    return case.check(expected)


def test_linear_layers():
    case = Case(
        lambda n, x: n.out(F.relu(n.b(F.relu(n.a(x))))), (5,), a=nn.Linear(5, 8), b=nn.Linear(8, 6), out=nn.Linear(6, 2)
    )
    case.check("8: a.weight[1] a.bias[0] b.weight[0]", "6: b.weight[1] b.bias[0] out.weight[0]")


def test_linear_on_three_dimensions():
    case = Case(lambda n, x: n.out(F.gelu(n.a(x))), (7, 5), a=nn.Linear(5, 8), out=nn.Linear(8, 2))
    case.check("8: a.weight[1] a.bias[0] out.weight[0]")


@pytest.mark.parametrize("pool", [True, False])
def test_flatten_to_a_linear_layer(pool: bool):
    """A channel is H * W rows of the weight."""

    def forward(n, x):
        y = F.relu(n.a(x))
        return n.out(F.relu(n.fc((F.adaptive_avg_pool2d(y, 2) if pool else y).flatten(1))))

    size = 4 if pool else 36
    case = Case(forward, X, a=conv(3, 8), fc=nn.Linear(8 * size, 6), out=nn.Linear(6, 2))
    case.check("8: a.weight[0] a.bias[0] fc.weight[0]", "6: fc.weight[1] fc.bias[0] out.weight[0]")
    slices = Plan(case.groups, {case.group("a.weight").name: [3]}).slices()
    np.testing.assert_array_equal(slices[case.names["fc.weight"]][0], np.arange(3 * size, 4 * size))


def test_mul_flattens():
    """``fc`` of older programs on a feature map: ``mul`` with x_num_col_dims = 1."""
    net = Net()
    net.data("x", [-1, 3, 6, 6])
    net.relu(net.conv("x", random(1, 4, 3, 3, 3), "a"), "r")
    net.linear("r", random(2, 4 * 36, 5), "fc", "mul", x_num_col_dims=1, y_num_col_dims=1)
    net.linear("fc", random(3, 5, 2), "out", "mul", x_num_col_dims=1, y_num_col_dims=1)
    model = net.model(["x"], ["out"])
    groups = find_groups(model)
    found = [(g.size, {(m.parameter, m.axis) for m in g.members}) for g in groups.prunable]
    assert found == [(4, {("a.w", 0), ("fc.w", 0)}), (5, {("fc.w", 1), ("out.w", 0)})]
    compare(Network(model, {"x": random(4, 2, 3, 6, 6)}, ("out",)), groups)


def test_transposed_weight():
    case = Case(
        lambda n, x: paddle.matmul(F.relu(paddle.matmul(x, n.a, transpose_y=True)), n.out, transpose_y=True), (5, 4),
        a=[8, 4], out=[2, 8],
    )  # fmt: skip
    case.check("8: a[0] out[1]")


def test_weight_tied_to_an_embedding():
    """The table's columns go, and the rows of what reads them; its transpose gives the logits."""

    def forward(n, x):
        y = F.relu(n.hidden(n.table(x)))
        return paddle.matmul(y, n.table.weight, transpose_y=True)

    case = Case(forward, (6,), dtypes={0: "int64"}, table=nn.Embedding(11, 8), hidden=nn.Linear(8, 8)).check(
        "8: table.weight[1] hidden.weight[0] hidden.weight[1] hidden.bias[0]"
    )
    assert case.groups[f"{case.names['table.weight']}[0]"].refused


def test_embedding():
    Case(
        lambda n, x: n.out(n.table(x)), (6,), dtypes={0: "int64"}, table=nn.Embedding(11, 8), out=nn.Linear(8, 2)
    ).check("8: table.weight[1] out.weight[0]")


def attention(fused: bool, split: bool = False):
    def forward(n, x):
        y = n.norm(x) if hasattr(n, "norm") else x
        if fused and split:
            q, k, v = (t.reshape([-1, 5, 4, 6]).transpose([0, 2, 1, 3]) for t in paddle.split(n.qkv(y), 3, 2))
        elif fused:
            q, k, v = paddle.unbind(n.qkv(y).reshape([-1, 5, 3, 4, 6]).transpose([2, 0, 3, 1, 4]), 0)
        else:
            q, k, v = (part(y).reshape([-1, 5, 4, 6]).transpose([0, 2, 1, 3]) for part in (n.q, n.k, n.v))
        weights = F.softmax(paddle.matmul(q * 6**-0.5, k, transpose_y=True), -1)
        return n.out(paddle.matmul(weights, v).transpose([0, 2, 1, 3]).reshape([-1, 5, 24]))

    return forward


def test_attention_of_four_heads():
    """Whole heads go: the products sum over a head's channels, and nothing else holds them together."""
    parts = {name: nn.Linear(8, 24) for name in ("q", "k", "v")}
    case = Case(attention(False), (5, 8), **parts, out=nn.Linear(24, 3))
    case.check(
        "4: q.weight[1] q.bias[0] k.weight[1] k.bias[0] v.weight[1] v.bias[0] out.weight[0]",
    )
    slices = Plan(case.groups, {case.group("q.weight").name: [2]}).slices()
    for path, axis in (("q.weight", 1), ("v.bias", 0), ("out.weight", 0)):
        np.testing.assert_array_equal(slices[case.names[path]][axis], np.arange(12, 18))


@pytest.mark.parametrize("split", [False, True])
def test_attention_with_one_weight_for_all(split: bool):
    case = Case(attention(True, split), (5, 8), qkv=nn.Linear(8, 72), out=nn.Linear(24, 3))
    case.check("4: qkv.weight[1] qkv.bias[0] out.weight[0]")
    slices = Plan(case.groups, {case.group("qkv.weight").name: [1]}).slices()
    expected = np.concatenate([np.arange(6, 12) + offset for offset in (0, 24, 48)])
    np.testing.assert_array_equal(slices[case.names["qkv.weight"]][1], expected)


class Block(nn.Layer):
    """Of a vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

    def __init__(self, width: int = 24, heads: int = 4) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 40), nn.Linear(40, width)

    def forward(self, x):
        count = x.shape[1]
        qkv = self.qkv(self.norm1(x)).reshape([-1, count, 3, self.heads, self.width // self.heads])
        q, k, v = qkv.transpose([2, 0, 3, 1, 4])
        weights = F.softmax(paddle.matmul(q, k, transpose_y=True) * 0.4, -1)
        x = x + self.proj(paddle.matmul(weights, v).transpose([0, 2, 1, 3]).reshape([-1, count, self.width]))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def test_vision_transformer():
    """Heads and the hidden layer go; the width, over which layer_norm takes its mean, stays with that reason."""

    def forward(n, x):
        y = n.patch(x).flatten(2).transpose([0, 2, 1])
        y = paddle.concat([n.token.expand([paddle.shape(y)[0], -1, -1]), y], 1) + n.position
        for block in n.blocks:
            y = block(y)
        return n.head(n.norm(y)[:, 0])

    case = Case(
        forward, (3, 8, 8), patch=nn.Conv2D(3, 24, 4, 4), token=[1, 1, 24], position=[1, 5, 24],
        blocks=nn.LayerList([Block(), Block()]), norm=nn.LayerNorm(24), head=nn.Linear(24, 3),
    )  # fmt: skip
    heads = [f"4: blocks.{i}.qkv.weight[1] blocks.{i}.qkv.bias[0] blocks.{i}.proj.weight[0]" for i in (0, 1)]
    hidden = [f"40: blocks.{i}.fc1.weight[1] blocks.{i}.fc1.bias[0] blocks.{i}.fc2.weight[0]" for i in (0, 1)]
    case.check(*heads, *hidden)
    reason = case.reason("patch.weight")
    assert "the layer_norm of" in reason and "takes its mean over them" in reason and "layer_norm=True" in reason

    allowed = find_groups(case.model, layer_norm=True)
    width = next(group for group in allowed.prunable if group.size == 24)
    assert {case.names["token"], case.names["position"]} <= {member.parameter for member in width.members}
    pruned = prune_model(case.model, Plan(allowed, {width.name: np.arange(0, 24, 3)}))
    check_shapes(case.network, pruned)
    assert pruned.params[case.names["token"]].shape == (1, 1, 16)


def test_paddles_transformer():
    """``nn.TransformerEncoder`` and its projections of their own for queries, keys and values."""
    layer = nn.TransformerEncoderLayer(24, 4, 40, dropout=0.0)
    case = Case(
        lambda n, x: n.head(n.encoder(x)), (5, 24), encoder=nn.TransformerEncoder(layer, 1), head=nn.Linear(24, 3)
    )
    sizes = sorted(group.size for group in case.groups.prunable)
    assert sizes == [4, 40]
    compare(case.network, case.groups)


def test_reshape_with_constants():
    """Numbers in the shape that count channels are rewritten."""
    case = between(lambda n, y: y.reshape([-1, 8, 36]).reshape([-1, 8, 6, 6]))
    pruned, _ = case.prune({"a.weight": [0, 1, 2]})
    shapes = [list(op.attr("shape")) for op in pruned.program.global_block().ops if op.type == "reshape2"]
    assert shapes and all(5 in shape for shape in shapes)


def test_reshape_with_constants_among_tensors():
    """``ShapeTensor``: a part of the shape is computed, the channels are a constant tensor in between."""

    def forward(n, y):
        batch, _, height, width = paddle.shape(y)
        return (
            y.reshape([batch, 8, height * width])
            .transpose([0, 2, 1])
            .transpose([0, 2, 1])
            .reshape([batch, 8, height, width])
        )

    case = between(forward, dynamic=True)
    pruned, _ = case.prune({"a.weight": [5]})
    assert pruned.run(case.network.feed)[0].shape == (2, 2, 6, 6)


def test_shuffle_by_reshape():
    """ShuffleNet (Zhang et al. 2018, arXiv:1707.01083): two reshapes and a transpose."""
    between(
        lambda n, y: y.reshape([-1, 2, 4, 6, 6]).transpose([0, 2, 1, 3, 4]).reshape([-1, 8, 6, 6]),
        f"4: {CHAIN}",
    )


def test_channel_shuffle():
    between(lambda n, y: F.channel_shuffle(y, 2), f"4: {CHAIN}")


def test_pixel_shuffle_and_back():
    case = Case(lambda n, x: n.out(F.relu(F.pixel_shuffle(n.a(x), 2))), X, a=conv(3, 12), out=conv(3, 2))
    case.check("3: a.weight[0] a.bias[0] out.weight[1]")
    case = Case(lambda n, x: n.out(F.pixel_unshuffle(F.relu(n.a(x)), 2)), X, a=conv(3, 3), out=conv(12, 2))
    case.check("3: a.weight[0] a.bias[0] out.weight[1]")


def test_unfold_and_fold():
    case = Case(
        lambda n, x: n.out(F.fold(n.mid(F.unfold(n.a(x), 2).transpose([0, 2, 1])).transpose([0, 2, 1]), [6, 6], 2)), X,
        a=conv(3, 4), mid=nn.Linear(16, 12), out=conv(3, 2), known_batch=True,
    )  # fmt: skip
    case.check("4: a.weight[0] a.bias[0] mid.weight[0]", "3: mid.weight[1] mid.bias[0] out.weight[1]")


def test_maxout():
    Case(lambda n, x: n.out(F.maxout(n.a(x), 2)), X, a=conv(3, 12), out=conv(6, 2)).check(
        "6: a.weight[0] a.bias[0] out.weight[1]"
    )


@pytest.mark.parametrize(
    "part",
    [
        lambda n, y: y.transpose([0, 2, 3, 1]).transpose([0, 3, 2, 1]),
        lambda n, y: y.flatten(2).unsqueeze(-1).squeeze(-1).reshape([0, 0, 6, 6]),
        lambda n, y: y.mean([2, 3], keepdim=True).expand([-1, -1, 3, 3]),
        lambda n, y: y.mean([2, 3], keepdim=True).expand_as(y) * y,
        lambda n, y: y.mean([2, 3], keepdim=True).expand([2, 8, 3, 3]),
        lambda n, y: paddle.tile(y.mean([2, 3], keepdim=True), [1, 1, 2, 2]),
        lambda n, y: paddle.flip(y, [3]),
        lambda n, y: paddle.flip(y, [1]),
        lambda n, y: paddle.roll(y, 1, 2),
        lambda n, y: paddle.index_select(y, paddle.to_tensor([2, 0]), 2),
        lambda n, y: paddle.gather(y, paddle.to_tensor([1, 0]), axis=0),
        lambda n, y: F.grid_sample(y, F.affine_grid(paddle.to_tensor([[[1, 0.1, 0], [0, 0.8, 0]]] * 2), [2, 1, 4, 4])),
    ],
    ids=range(12),
)  # fmt: skip
def test_passes(part):
    between(part)


def test_tile_repeats_channels():
    Case(lambda n, x: n.out(paddle.tile(F.relu(n.a(x)), [1, 2, 1, 1])), X, a=conv(3, 4), out=conv(8, 2)).check(
        "4: a.weight[0] a.bias[0] out.weight[1]"
    )


def test_product_of_two_feature_maps():
    """Channel attention (Fu et al. 2019, arXiv:1809.02983): the map of channels by channels holds them."""

    def forward(n, x):
        y = n.a(x).flatten(2)
        weights = F.softmax(paddle.matmul(y, y, transpose_y=True), -1)
        return n.out(paddle.matmul(weights, y).reshape([-1, 8, 6, 6]))

    case = Case(forward, X, a=conv(3, 8), out=conv(8, 2))
    assert "product of two computed tensors" in case.reason("a.weight")


def test_pixel_attention():
    """Non-local block (Wang et al. 2018, arXiv:1711.07971): summed channels stay, those of the values go."""

    def forward(n, x):
        q, k, v = n.q(x).flatten(2).transpose([0, 2, 1]), n.k(x).flatten(2), n.v(x).flatten(2)
        weights = F.softmax(paddle.matmul(q, k) * 0.3, -1)
        return n.out(paddle.matmul(v, weights, transpose_y=True).reshape([-1, 8, 6, 6]))

    case = Case(forward, X, q=conv(3, 4), k=conv(3, 4), v=conv(3, 8), out=conv(8, 2))
    assert "sums the product of two computed tensors over them" in case.reason("q.weight")
    case.check("8: v.weight[0] v.bias[0] out.weight[1]")
