"""``quant_aware`` on a MobileNetV3-large training program, after ``minimize``: plain, and with PACT.

python benchmarks/bench_quant_aware.py [--peer PYTHON]
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import harness
import mobilenet


def slimkit_cases() -> Sequence[harness.Case]:
    import zlib  # noqa: F401  (before paddle)

    import paddle

    from slimkit.ir import legacy_ir
    from slimkit.quant import quant_aware

    program, scope, _ = mobilenet.slimkit_program()

    def prepare(**settings: Any) -> Callable[[], Any]:
        def timed() -> Any:
            with legacy_ir():
                place = paddle.CPUPlace()
                return quant_aware(program, place, mobilenet.QUANT_CONFIG, scope=scope, for_test=False, **settings)

        return timed

    def momentum() -> Any:
        return paddle.optimizer.Momentum(mobilenet.LEARNING_RATE, mobilenet.MOMENTUM)

    return [
        harness.Case("plain", lambda: prepare()),
        harness.Case("with PACT", lambda: prepare(act_preprocess_func="pact", optimizer_func=momentum)),
    ]


def peer_cases() -> Sequence[harness.Case]:
    import paddle
    from paddleslim.quant import quant_aware

    main, startup, _ = mobilenet.peer_program()
    place = paddle.CPUPlace()
    executor = paddle.static.Executor(place)
    executor.run(startup)

    def prepare(**settings: Any) -> Callable[[], Any]:
        program = main.clone()
        return lambda: quant_aware(program, place, mobilenet.QUANT_CONFIG, for_test=False, **settings)

    def with_pact() -> Callable[[], Any]:
        return prepare(
            act_preprocess_func=mobilenet.peer_pact,
            optimizer_func=lambda: paddle.optimizer.Momentum(mobilenet.LEARNING_RATE, mobilenet.MOMENTUM),
            executor=executor,
        )

    # A minute each: once is enough to see the order of magnitude.
    return [
        harness.Case("plain", lambda: prepare(), repeats=2, warmups=0),
        harness.Case("with PACT", with_pact, repeats=1, warmups=0),
    ]


if __name__ == "__main__":
    harness.run(
        __file__,
        "quant_aware on a MobileNetV3-large training program",
        harness.arguments(__doc__, repeats=5).parse_args(),
        {"slimkit": slimkit_cases, "peer": peer_cases},
    )
