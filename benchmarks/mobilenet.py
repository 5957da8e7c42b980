"""The work both sides do: a MobileNetV3-large training program, batch 16, 3x112x112, Momentum.

Each side builds it with its own means: the peer in Paddle 2.6's static mode, slimkit from the dygraph layer.
"""

from __future__ import annotations

from typing import Any, Dict, Tuple

BATCH, SIZE, CLASSES = 16, 112, 1000
LEARNING_RATE, MOMENTUM = 0.01, 0.9
#: Set on both sides, so that both quantize the same tensors in the same way.
QUANT_CONFIG: Dict[str, Any] = {
    "weight_quantize_type": "channel_wise_abs_max",
    "activation_quantize_type": "moving_average_abs_max",
    "weight_bits": 8,
    "activation_bits": 8,
    "quantize_op_types": ["conv2d", "depthwise_conv2d", "mul", "matmul", "matmul_v2"],
}


def feed(image: str, label: str) -> Dict[str, Any]:
    """A batch of noise."""
    import numpy as np

    rng = np.random.RandomState(0)
    images = rng.standard_normal((BATCH, 3, SIZE, SIZE)).astype(np.float32)
    return {image: images, label: rng.randint(0, CLASSES, (BATCH, 1)).astype(np.int64)}


def peer_program(image_gradient: bool = False) -> Tuple[Any, Any, str]:
    """Training program, startup program and the loss's name, in Paddle 2.6; static mode stays on.

    Args:
        image_gradient: PaddleSlim's PACT needs the gradient of every tensor it clips; without the image's, the training
            step fails in the first convolution.
    """
    import paddle

    paddle.enable_static()
    paddle.seed(0)
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        image = paddle.static.data("image", [BATCH, 3, SIZE, SIZE], "float32")
        image.stop_gradient = not image_gradient
        label = paddle.static.data("label", [BATCH, 1], "int64")
        logits = paddle.vision.models.mobilenet_v3_large(num_classes=CLASSES)(image)
        loss = paddle.nn.functional.cross_entropy(logits, label)
        paddle.optimizer.Momentum(LEARNING_RATE, MOMENTUM).minimize(loss)
    return main, startup, loss.name


def peer_pact(x: Any) -> Any:
    """PACT as PaddleSlim's users write it: the two-sided clip from ReLUs and a trainable threshold."""
    import paddle

    alpha = paddle.static.create_parameter(
        [1],
        "float32",
        attr=paddle.ParamAttr(
            name=x.name + "_pact",
            initializer=paddle.nn.initializer.Constant(20.0),
            regularizer=paddle.regularizer.L2Decay(0.0001),
        ),
    )
    above = paddle.nn.functional.relu(paddle.subtract(x, alpha))
    below = paddle.nn.functional.relu(paddle.subtract(paddle.scale(alpha, -1.0), x))
    return paddle.add(paddle.subtract(x, above), below)


def slimkit_program() -> Tuple[Any, Any, str]:
    """Training program, its scope and the loss's name, in Paddle 3."""
    import paddle

    from slimkit.ir import Model, legacy_ir

    paddle.seed(0)
    net = paddle.vision.models.mobilenet_v3_large(num_classes=CLASSES)

    class Training(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, image: Any, label: Any) -> Any:
            return paddle.nn.functional.cross_entropy(self.net(image), label)

    spec = [
        paddle.static.InputSpec([BATCH, 3, SIZE, SIZE], "float32", "image"),
        paddle.static.InputSpec([BATCH, 1], "int64", "label"),
    ]
    model = Model.from_layer(Training(), spec, train=True)
    with legacy_ir(), paddle.static.scope_guard(model.scope):
        startup = paddle.static.Program()
        with paddle.static.program_guard(model.program, startup):
            loss = model.program.global_block().vars[model.fetches[-1]]
            paddle.optimizer.Momentum(LEARNING_RATE, MOMENTUM).minimize(loss)
        paddle.static.Executor(paddle.CPUPlace()).run(startup)
    return model.program, model.scope, loss.name
