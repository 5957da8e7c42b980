"""PaddleSlim's static API: quant_aware and convert on programs, with a PACT of one's own.

python demo/static_pact.py [OUTPUT]     under a minute on two cores
"""

from __future__ import annotations

import sys
import tempfile
import zlib  # noqa: F401  (before paddle)
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from images import feeds
from own_model import Net
from paddle.base.layer_helper import LayerHelper

from slimkit.ir import Model, legacy_ir
from slimkit.quant import convert, quant_aware

CONFIG = {
    "weight_quantize_type": "channel_wise_abs_max",
    "activation_quantize_type": "moving_average_abs_max",
    "quantize_op_types": ["conv2d", "depthwise_conv2d", "matmul_v2"],
    "onnx_format": True,
}


def pact(x: Any) -> Any:
    """clip(x, -u, u) with a trainable u, as PaddleSlim's tutorials write it."""
    attribute = paddle.ParamAttr(
        name=f"{x.name}_pact",
        initializer=paddle.nn.initializer.Constant(8.0),
        regularizer=paddle.regularizer.L2Decay(1e-4),
    )
    u = LayerHelper("pact").create_parameter(attribute, shape=[1], dtype="float32")
    x = paddle.subtract(x, paddle.nn.functional.relu(paddle.subtract(x, u)))
    return paddle.add(x, paddle.nn.functional.relu(paddle.subtract(paddle.scale(u, -1.0), x)))


def main(output: Path, epochs: int = 3) -> float:
    """Trains from scratch with quantizers, saves the int8 model, returns its test accuracy in percent."""
    paddle.seed(0)
    spec = [paddle.static.InputSpec([None, 1, 28, 28], "float32", "image"),
            paddle.static.InputSpec([None, 1], "int64", "label")]  # fmt: skip
    model = Model.from_layer(Net(), spec, train=True)  # a legacy program: what Paddle 3's own API no longer builds
    logits, loss = model.fetches
    place = paddle.CPUPlace()

    with legacy_ir(), paddle.static.scope_guard(model.scope):
        test_program = model.program.clone(for_test=True)
        train_program = model.program
        startup = paddle.static.Program()
        with paddle.static.program_guard(train_program, startup):
            paddle.optimizer.Adam(0.005).minimize(train_program.global_block().var(loss))
        executor = paddle.static.Executor(place)
        executor.run(startup)

        hooks = {"act_preprocess_func": pact, "executor": executor}
        quantized = quant_aware(
            train_program, place, CONFIG, optimizer_func=lambda: paddle.optimizer.Momentum(0.01, 0.9), **hooks
        )
        tested = quant_aware(test_program, place, CONFIG, for_test=True, **hooks)

        for _ in range(epochs):
            for feed in feeds("train", 100):
                executor.run(quantized, feed=feed, fetch_list=[loss])

        frozen = convert(tested, place, CONFIG)
        block = frozen.global_block()
        paddle.static.save_inference_model(
            str(output / "int8"), [block.var("image")], [block.var(logits)], executor, program=frozen
        )

    exported = Model.load(output / "int8")
    right = [
        (exported.run({"image": feed["image"]})[0].argmax(1) == feed["label"].ravel()).mean()
        for feed in feeds("test", 100)
    ]
    return 100 * float(np.mean(right))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(f"int8 top-1 {main(Path(sys.argv[1] if len(sys.argv) > 1 else folder)):.2f}%")
