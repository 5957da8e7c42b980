"""Kinds of network beyond classification: transformer, text recognition, segmentation, attention decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import numpy as np
import paddle
import pytest
from comparing import assert_close, tensors
from paddle import nn
from paddle.nn import functional as F
from paddle.static import InputSpec

from slimkit.ir import Model, convert


class Transformer(nn.Layer):
    """Patches, a class token, multi-head attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2D(3, 32, 8, 8)
        self.token = self.create_parameter([1, 1, 32])
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1), 2)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Any) -> Any:
        y = self.patch(x).flatten(2).transpose([0, 2, 1])
        y = paddle.concat([self.token.expand([y.shape[0], -1, -1]), y], 1)
        return self.head(self.encoder(y)[:, 0])


class Recogniser(nn.Layer):
    """Convolution and a bidirectional LSTM over columns, of any width."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, padding=1)
        self.lstm = nn.LSTM(8 * 4, 16, 2, direction="bidirect")
        self.head = nn.Linear(32, 7)

    def forward(self, x: Any) -> Any:
        y = F.max_pool2d(F.relu(self.conv(x)), 2)
        y, _ = self.lstm(y.transpose([0, 3, 1, 2]).flatten(2))
        return F.softmax(self.head(y), 2)


class Segmenter(nn.Layer):
    """Down, up, resized to the input's own size."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm = nn.Conv2D(3, 4, 3, stride=2, padding=1), nn.BatchNorm2D(4)
        self.up = nn.Conv2DTranspose(4, 3, 2, 2)

    def forward(self, x: Any) -> Any:
        y = F.interpolate(self.up(self.norm(self.down(x))), paddle.shape(x)[2:], mode="bilinear")
        return paddle.argmax(y, 1), F.softmax(y, 1)


class Decoder(nn.Layer):
    """Feeds its own answer back, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.out = nn.Embedding(7, 8), nn.GRUCell(8, 8), nn.Linear(8, 7)

    def forward(self, x: Any) -> Any:
        state, answers, token = x, [], paddle.zeros([x.shape[0]], "int64")
        for _ in range(4):
            step, state = self.cell(self.embed(token), state)
            scores = self.out(step)
            token = scores.argmax(1)
            answers.append(scores)
        return paddle.stack(answers, 1)


NETWORKS = (
    (Transformer, [2, 3, 32, 32], [-1, 3, 32, 32]),
    (Recogniser, [2, 3, 8, 20], [-1, 3, 8, -1]),
    (Segmenter, [1, 3, 16, 24], [-1, 3, -1, -1]),
    (Decoder, [2, 8], [-1, 8]),
)


@pytest.mark.parametrize(("make", "shape", "declared"), NETWORKS, ids=[row[0].__name__ for row in NETWORKS])
def test_architecture(make: Any, shape: List[int], declared: List[int], tmp_path: Any):
    paddle.seed(2)
    net = make()
    model = Model.from_layer(net, [InputSpec(declared, "float32", "x")])
    net.eval()
    feed = np.random.RandomState(0).rand(*shape).astype("float32")
    expected = tensors(net(paddle.to_tensor(feed)))
    assert_close(model.run([feed]), expected)
    model.save(tmp_path / "m")
    assert_close(Model.load(tmp_path).run([feed]), expected)
    training = Model.from_layer(net, [InputSpec(declared, "float32", "x")], train=True)
    assert training.run([feed])[0].shape == expected[0].shape


class Branching(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        y, i = self.scale(x), paddle.zeros([1], "int64")
        if y.mean() > 0:
            y = y * 2
        else:
            y = y - 1
        while i < 3:
            y, i = y + x, i + 1
        return y


def test_control_flow_in_a_pir_file(tmp_path: Path):
    net = Branching()
    net.eval()
    x = np.random.RandomState(0).rand(2, 3).astype("float32")
    expected = [tensors(net(paddle.to_tensor(sign * x))) for sign in (1, -1)]
    paddle.jit.save(net, str(tmp_path / "m"), input_spec=[InputSpec([-1, 3], "float32", "x")])
    loaded = Model.load(convert(tmp_path / "m", tmp_path / "legacy" / "m"))
    assert {"while", "conditional_block"} <= set(loaded.op_counts())
    for sign, result in zip((1, -1), expected):
        assert_close(loaded.run([sign * x]), result)
