"""What a step of the unstructured pruners costs in training, slimkit's and PaddleSlim's; 4.2 million weights.

python benchmarks/bench_unstructured.py [--peer PYTHON]

MobileNetV1. ``ratio`` and ``local`` rank all weights at every step; ``gmp, rising`` is a step at which a gradual
pruner's ratio rises, ``gmp, between`` one at which it does not. slimkit masks the weights in the step, the peer in
the next forward pass, which is not counted here. The baseline is a training step without a
pruner: batch 8, 3x112x112.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import Any, Callable, Sequence

import harness

TRAINING_STEP = "training step"
CONFIGS = {
    "stable_iterations": 0,
    "tunning_iterations": 0,
    "pruning_steps": 1000,
    "initial_ratio": 0.1,
    "resume_iteration": 0,
}


def cases(pruners: Any) -> Sequence[harness.Case]:
    """The same for both sides: the class names and arguments are PaddleSlim's."""
    import paddle

    paddle.seed(0)

    def net() -> Any:
        return paddle.vision.models.mobilenet_v1()

    def gradual(period: int) -> Any:
        configs = {**CONFIGS, "pruning_iterations": 1000 * period}
        return pruners.GMPUnstructuredPruner(net(), ratio=0.75, configs=configs)

    model = net()
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, parameters=model.parameters())
    images, labels = paddle.randn([8, 3, 112, 112]), paddle.randint(0, 1000, [8, 1])

    def training_step() -> None:
        paddle.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.clear_grad()

    built = {
        "ratio": pruners.UnstructuredPruner(net(), "ratio", ratio=0.55),
        "local": pruners.UnstructuredPruner(net(), "ratio", ratio=0.55, local_sparsity=True),
        "threshold": pruners.UnstructuredPruner(net(), "threshold", threshold=0.01),
        "gmp, between": gradual(10000),
        "gmp, rising": gradual(11),
    }
    built["gmp, between"].step()

    def ready(name: str) -> Callable[[], Any]:
        pruner = built[name]
        while name == "gmp, rising" and pruner.cur_iteration % 11:  # up to the next rise
            pruner.step()
        return pruner.step

    plain = harness.Case(TRAINING_STEP, lambda: training_step)
    return [plain, *(harness.Case(name, functools.partial(ready, name)) for name in sorted(built))]


def slimkit_cases() -> Sequence[harness.Case]:
    from slimkit.prune.unstructured import dygraph

    return cases(dygraph)


def peer_cases() -> Sequence[harness.Case]:
    import paddleslim

    with contextlib.redirect_stdout(sys.stderr):  # it prints a line a weight
        return cases(paddleslim)


if __name__ == "__main__":
    harness.run(
        __file__,
        "A step of unstructured pruning, MobileNetV1",
        harness.arguments(__doc__, repeats=5).parse_args(),
        {"slimkit": slimkit_cases, "peer": peer_cases},
        TRAINING_STEP,
    )
