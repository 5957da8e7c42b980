"""A network of your own, from float to a verified int8 model in three steps.

python demo/own_model.py [OUTPUT]       about a minute on two cores
"""

from __future__ import annotations

import sys
import tempfile
import zlib  # noqa: F401  (before paddle)
from pathlib import Path

import numpy as np
import paddle
from images import feeds
from paddle import nn

import slimkit
from slimkit.deploy import verify


class Net(nn.Layer):
    """A classifier that takes the label too and returns logits and loss: all slimkit asks of a network."""

    def __init__(self) -> None:
        super().__init__()

        def block(channels_in: int, channels: int, stride: int) -> nn.Layer:
            depthwise = nn.Conv2D(channels, channels, 3, stride, 1, groups=channels, bias_attr=False)
            point = nn.Conv2D(channels_in, channels, 1, bias_attr=False)
            norms = nn.BatchNorm2D(channels), nn.BatchNorm2D(channels)
            return nn.Sequential(point, norms[0], nn.Hardswish(), depthwise, norms[1], nn.Hardswish())

        self.body = nn.Sequential(block(1, 16, 2), block(16, 32, 1), block(32, 64, 2), nn.AdaptiveAvgPool2D(1))
        self.head = nn.Linear(64, 10)

    def forward(self, image: paddle.Tensor, label: paddle.Tensor):
        logits = self.head(self.body(image).flatten(1))
        return logits, nn.functional.cross_entropy(logits, label)


def train_float(net: Net, epochs: int) -> None:
    optimizer = paddle.optimizer.Adam(0.005, parameters=net.parameters())
    for _ in range(epochs):
        for feed in feeds("train", 100):
            loss = net(paddle.to_tensor(feed["image"]), paddle.to_tensor(feed["label"]))[1]
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()


def main(output: Path) -> None:
    paddle.seed(0)
    net = Net()
    train_float(net, epochs=2)

    # 1. Trace the layer in train mode: batch norm goes on learning.
    spec = [paddle.static.InputSpec([None, 1, 28, 28], "float32", "image"),
            paddle.static.InputSpec([None, 1], "int64", "label")]  # fmt: skip
    model = slimkit.Model.from_layer(net, spec, train=True)
    logits, loss = model.fetches

    # 2. Train with quantizers: 8 bits, PACT before every activation quantizer.
    config = {"quantize_op_types": ["conv2d", "depthwise_conv2d", "matmul_v2"]}
    qat = slimkit.QatTrainer(model, config, loss, lambda: paddle.optimizer.Momentum(0.005), pact={})
    qat.initialise(feeds("train", 100, limit=500))
    for feed in feeds("train", 100):
        qat.train_step(feed, [loss])

    # 3. Save, and run what was saved on the runtime it is for.
    qat.float_model().save(output / "float")
    qat.export(output / "int8", runtime="onednn")
    batches = list(feeds("test", 100))
    images = [{"image": feed["image"]} for feed in batches]
    labels = [feed["label"].ravel() for feed in batches]
    simulated = [qat.eval_step(feed, [logits])[0] for feed in batches]
    report = verify(output / "float", output / "int8", images, labels, reference=simulated, latency_seconds=0.5)
    for row in report.rows:
        accuracy = row.error or f"top-1 {np.nan if row.accuracy is None else 100 * row.accuracy:.2f}%"
        print(f"{row.title}, {row.precision}: {accuracy}, {(row.size_bytes or 0) / 1e3:.0f} kB")
        print(*(f"  {note}" for note in row.notes), sep="\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
