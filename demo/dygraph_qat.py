"""Quantization-aware training of a dygraph network with PACT, in a training loop as anyone writes it.

python demo/dygraph_qat.py [OUTPUT]       about a minute on two cores
"""

from __future__ import annotations

import sys
import tempfile
import zlib  # noqa: F401  (before paddle)
from pathlib import Path
from typing import Tuple

import paddle
from images import feeds
from paddle import nn

import slimkit
from slimkit.deploy import verify
from slimkit.recipe.exporters import export_for


def block(channels_in: int, channels: int, stride: int) -> nn.Layer:
    """A pointwise and a depthwise convolution, each with its batch norm."""
    return nn.Sequential(
        nn.Conv2D(channels_in, channels, 1, bias_attr=False), nn.BatchNorm2D(channels), nn.Hardswish(),
        nn.Conv2D(channels, channels, 3, stride, 1, groups=channels, bias_attr=False), nn.BatchNorm2D(channels),
        nn.Hardswish(),
    )  # fmt: skip


def network() -> nn.Layer:
    return nn.Sequential(
        block(1, 16, 2), block(16, 32, 1), block(32, 64, 2), nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(64, 10)
    )


def train(net: nn.Layer, rate: float, epochs: int) -> None:
    optimizer = paddle.optimizer.Adam(rate, parameters=net.parameters())
    net.train()
    for _ in range(epochs):
        for feed in feeds("train", 100):
            loss = nn.functional.cross_entropy(net(paddle.to_tensor(feed["image"])), paddle.to_tensor(feed["label"]))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
    net.eval()


def outputs(net: nn.Layer) -> Tuple[list, list, list]:
    """Images, labels, and what the network says of them, in batches."""
    batches = list(feeds("test", 100))
    with paddle.no_grad():
        logits = [net(paddle.to_tensor(feed["image"])).numpy() for feed in batches]
    return [{"image": feed["image"]} for feed in batches], [feed["label"].ravel() for feed in batches], logits


def main(output: Path) -> None:
    paddle.seed(0)
    net = network()
    train(net, 0.005, epochs=2)
    spec = [paddle.static.InputSpec([None, 1, 28, 28], "float32", "image")]
    slimkit.Model.from_layer(net, spec).save(output / "float")

    quanter = slimkit.QAT({"activation_preprocess_type": "PACT"})  # choose a config
    quanter.quantize(net)  # convert, in place
    train(net, 0.001, epochs=1)  # train as before
    quanter.save_quantized_model(net, str(output / "qat"), spec)  # save: for every runtime, the trained arithmetic

    # A file for a runtime, and what that runtime makes of it.
    deployed = export_for("paddle", quanter.quantized(net, spec), output / "paddle")
    images, labels, simulated = outputs(net)
    report = verify(output / "float", deployed, images, labels, reference=simulated, latency_seconds=0.5)
    for row in report.rows:
        accuracy = row.error or (f"top-1 {100 * row.accuracy:.2f}%" if row.accuracy is not None else "not run here")
        print(f"{row.title}, {row.precision}: {accuracy}, {(row.size_bytes or 0) / 1e3:.0f} kB")
        print(*(f"  {note}" for note in row.notes), sep="\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
