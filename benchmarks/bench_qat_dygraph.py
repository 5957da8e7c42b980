"""One dygraph training step of MobileNetV3-large, batch 16, 3x112x112: float, QAT, QAT with PACT.

    python benchmarks/bench_qat_dygraph.py [--network vision|ppcls] [--peer PYTHON]

``vision`` is ``paddle.vision``'s network; ``ppcls`` PaddleClas's own, of the package ``paddleclas``, whose path
SLIMKIT_PPCLS gives. Ratios are CPU time against the float step of the same side, run in turns.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Callable, Optional, Sequence

import harness
import mobilenet

#: As PaddleOCR, PaddleDetection and PaddleClas write it.
QUANT_CONFIG = {
    "weight_preprocess_type": None,
    "activation_preprocess_type": None,
    "weight_quantize_type": "channel_wise_abs_max",
    "activation_quantize_type": "moving_average_abs_max",
    "weight_bits": 8,
    "activation_bits": 8,
    "dtype": "int8",
    "window_size": 10000,
    "moving_rate": 0.9,
    "quantizable_layer_type": ["Conv2D", "Linear"],
}


def network(name: str) -> Any:
    """A new MobileNetV3-large with the same start on both sides."""
    import paddle

    paddle.seed(0)
    if name == "vision":
        return paddle.vision.models.mobilenet_v3_large(num_classes=mobilenet.CLASSES)
    sys.path.insert(0, os.environ["SLIMKIT_PPCLS"])
    from ppcls.utils.logger import init_logger

    init_logger(log_level=logging.ERROR)  # it writes to stdout, which is the harness's
    from ppcls.arch.backbone.legendary_models.mobilenet_v3 import MobileNetV3_large_x1_0

    return MobileNetV3_large_x1_0(class_num=mobilenet.CLASSES)


def users_pact() -> Any:
    """PACT as users write it: two ReLUs and a trainable threshold."""
    import paddle
    from paddle.nn import functional

    class PACT(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            attribute = paddle.ParamAttr(
                name=self.full_name() + ".pact",
                initializer=paddle.nn.initializer.Constant(20.0),
                learning_rate=1.0,
                regularizer=paddle.regularizer.L2Decay(2e-5),
            )
            self.alpha = self.create_parameter([1], attr=attribute, dtype="float32")

        def forward(self, x: Any) -> Any:
            return x - functional.relu(x - self.alpha) + functional.relu(-self.alpha - x)

    return PACT


def training_step(net: Any) -> Callable[[], Any]:
    """A step of Momentum on one batch, as a function."""
    import paddle

    optimizer = paddle.optimizer.Momentum(mobilenet.LEARNING_RATE, mobilenet.MOMENTUM, parameters=net.parameters())
    batch = mobilenet.feed("image", "label")
    image, label = paddle.to_tensor(batch["image"]), paddle.to_tensor(batch["label"])
    net.train()

    def step() -> None:
        paddle.nn.functional.cross_entropy(net(image), label).backward()
        optimizer.step()
        optimizer.clear_grad()

    return step


def cases(quantizer: Callable[..., Any], name: str) -> Sequence[harness.Case]:
    """The four steps of a side.

    Args:
        quantizer: the class ``QAT`` of the side.
        name: of the network.
    """

    def case(title: str, act_preprocess: Optional[Any] = None, **config: Any) -> harness.Case:
        net = network(name)
        if title != "float":
            quantizer(config={**QUANT_CONFIG, **config}, act_preprocess=act_preprocess).quantize(net)
        step = training_step(net)
        return harness.Case(title, lambda: step, warmups=2)

    return [
        case("float"),
        case("QAT"),
        case("QAT + PACT", activation_preprocess_type="PACT"),
        case("QAT + user's PACT", act_preprocess=users_pact()),
    ]


def slimkit_cases(name: str) -> Sequence[harness.Case]:
    import zlib  # noqa: F401  (before paddle)

    from slimkit import QAT

    return cases(QAT, name)


def peer_cases(name: str) -> Sequence[harness.Case]:
    from paddleslim import QAT

    return cases(QAT, name)


def main() -> None:
    parser = harness.arguments(__doc__.splitlines()[0], repeats=9)
    parser.add_argument("--network", choices=["vision", "ppcls"], default="vision")
    options = parser.parse_args()
    harness.run(
        __file__,
        f"Dygraph training step, MobileNetV3-large ({options.network})",
        options,
        {"slimkit": lambda: slimkit_cases(options.network), "peer": lambda: peer_cases(options.network)},
        baseline="float",
        extra=["--network", options.network],
    )


if __name__ == "__main__":
    main()
