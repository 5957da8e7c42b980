"""One training step of MobileNetV3-large, batch 16, 3x112x112: float, QAT, QAT with PACT.

    python benchmarks/bench_train_step.py [--peer PYTHON] [--onednn]

Ratios are CPU time against the float step of the same side, run in turns. ``--onednn`` hands slimkit's depthwise
convolutions, of the float program as well, to oneDNN, as ``QatTrainer`` does.
"""

from __future__ import annotations

import sys
from typing import Any, Callable, Sequence

import harness
import mobilenet


def _step(executor: Any, program: Any, scope: Any, loss: str) -> Callable[[], Any]:
    batch = mobilenet.feed("image", "label")
    return lambda: executor.run(program, feed=batch, fetch_list=[loss], scope=scope)


def slimkit_cases() -> Sequence[harness.Case]:
    import zlib  # noqa: F401  (before paddle)

    import paddle

    from slimkit.ir import legacy_ir
    from slimkit.ir.onednn import prefer_onednn
    from slimkit.quant import quant_aware

    place = paddle.CPUPlace()

    def momentum() -> Any:
        return paddle.optimizer.Momentum(mobilenet.LEARNING_RATE, mobilenet.MOMENTUM)

    def case(name: str, quantize: bool, **settings: Any) -> harness.Case:
        program, scope, loss = mobilenet.slimkit_program()
        with legacy_ir():
            executor = paddle.static.Executor(place)
            if quantize:
                config = mobilenet.QUANT_CONFIG
                program = quant_aware(program, place, config, scope=scope, for_test=False, **settings)
            if "--onednn" in sys.argv:
                prefer_onednn(program, place)
        step = _step(executor, program, scope, loss)

        def timed() -> Any:
            with legacy_ir():
                return step()

        return harness.Case(name, lambda: timed, warmups=2)

    return [
        case("float", False),
        case("QAT", True),
        case("QAT + PACT", True, act_preprocess_func="pact", optimizer_func=momentum),
    ]


def peer_cases() -> Sequence[harness.Case]:
    import paddle
    from paddleslim.quant import quant_aware

    place = paddle.CPUPlace()

    def momentum() -> Any:
        return paddle.optimizer.Momentum(mobilenet.LEARNING_RATE, mobilenet.MOMENTUM)

    def case(name: str, quantize: bool, **settings: Any) -> harness.Case:
        scope = paddle.static.Scope()
        with paddle.static.scope_guard(scope):
            program, startup, loss = mobilenet.peer_program(image_gradient=bool(settings))
            executor = paddle.static.Executor(place)
            executor.run(startup)
            if quantize:
                config = mobilenet.QUANT_CONFIG
                program = quant_aware(program, place, config, scope=scope, for_test=False, **settings)
        step = _step(executor, program, scope, loss)
        return harness.Case(name, lambda: step, warmups=2)

    with_pact = {"act_preprocess_func": mobilenet.peer_pact, "optimizer_func": momentum}
    with_pact["executor"] = paddle.static.Executor(place)
    return [case("float", False), case("QAT", True), case("QAT + PACT", True, **with_pact)]


if __name__ == "__main__":
    parser = harness.arguments(__doc__, repeats=15)
    parser.add_argument("--onednn", action="store_true", help="slimkit's depthwise convolutions through oneDNN")
    options = parser.parse_args()
    harness.run(
        __file__,
        "training step, MobileNetV3-large, batch 16, 3x112x112" + (", depthwise on oneDNN" if options.onednn else ""),
        options,
        {"slimkit": slimkit_cases, "peer": peer_cases},
        baseline="float",
        extra=["--onednn"] if options.onednn else [],
    )
