"""Pruning twelve convolutions of MobileNetV1 (3x224x224) at once, by 50%: choosing the filters and cutting them out.

python benchmarks/bench_prune.py [--peer PYTHON]

One run is all that a user waits for: finding what goes with what, scoring, choosing, and the smaller program with its
parameters. Both sides make the same call, ``Pruner(criterion).prune(program, scope, params, ratios, place)``; "by a
plan" is slimkit's own way, ``find_groups``, ``make_plan``, ``prune_model``.
"""

from __future__ import annotations

from typing import Any, Callable, List, Sequence

import harness

CRITERIA = ("l1_norm", "l2_norm", "geometry_median", "bn_scale")
RATIO = 0.5
CONVS = 12


def pointwise(block: Any) -> List[str]:
    """Filters of the first twelve 1 x 1 convolutions; the thirteenth feeds the classifier."""
    found = []
    for op in block.ops:
        if op.type == "conv2d":
            name = op.input("Filter")[0]
            if list(block.var(name).shape[2:]) == [1, 1]:
                found.append(name)
    return found[:CONVS]


def slimkit_cases() -> Sequence[harness.Case]:
    import zlib  # noqa: F401  (before paddle)

    import paddle

    from slimkit.ir import Model
    from slimkit.prune import Pruner, find_groups, make_plan, prune_model

    paddle.seed(0)
    spec = [paddle.static.InputSpec([1, 3, 224, 224], "float32", "x")]
    model = Model.from_layer(paddle.vision.models.mobilenet_v1(), spec)
    ratios = dict.fromkeys(pointwise(model.program.global_block()), RATIO)
    if len(ratios) != CONVS:
        raise SystemExit(f"{len(ratios)} convolutions were found, not {CONVS}")

    names, place = list(ratios), paddle.CPUPlace()

    def prepare(criterion: str) -> Callable[[], Any]:
        scope = model.clone(copy_params=True).scope  # the pruner changes its parameters
        return lambda: Pruner(criterion).prune(model.program, scope, names, [RATIO] * CONVS, place=place)

    def by_plan() -> Any:
        return prune_model(model, make_plan(find_groups(model), None, ratios, params=model.params))

    cases = [harness.Case(c, lambda c=c: prepare(c)) for c in CRITERIA]  # type: ignore[misc]
    return [*cases, harness.Case("l1_norm, by a plan", lambda: by_plan)]


def peer_cases() -> Sequence[harness.Case]:
    import paddle
    from paddleslim.prune import Pruner

    paddle.enable_static()
    paddle.seed(0)
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        image = paddle.static.data("image", [1, 3, 224, 224], "float32")
        paddle.vision.models.mobilenet_v1()(image)
    place = paddle.CPUPlace()
    executor = paddle.static.Executor(place)
    names = pointwise(main.global_block())

    def prepare(criterion: str) -> Callable[[], Any]:
        scope = paddle.static.Scope()  # the pruner changes its parameters
        with paddle.static.scope_guard(scope):
            executor.run(startup)
        program = main.clone(for_test=True)
        return lambda: Pruner(criterion).prune(program, scope, names, [RATIO] * CONVS, place=place)

    # PaddleSlim's l2_norm does not exist.
    known = [criterion for criterion in CRITERIA if criterion != "l2_norm"]
    return [harness.Case(c, lambda c=c: prepare(c), repeats=3) for c in known]  # type: ignore[misc]


if __name__ == "__main__":
    harness.run(
        __file__,
        f"Pruning {CONVS} convolutions of MobileNetV1 by {RATIO:.0%}",
        harness.arguments(__doc__, repeats=9).parse_args(),
        {"slimkit": slimkit_cases, "peer": peer_cases},
    )
