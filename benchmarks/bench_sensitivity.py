"""Sensitivity of MobileNetV1's 13 pointwise convolutions at 5 ratios: what a point costs besides evaluation, and what
evaluating from the cuts saves.

python benchmarks/bench_sensitivity.py [--peer PYTHON]

"a point, evaluation excluded" is all that 65 points take, divided by 65, with an evaluation that returns a constant:
analysis, scores, masks, giving the values back, and the file. The peer makes the same call of its ``sensitivity``.
The other two cases measure the same 65 points on 128 images (3x112x112) with one worker: the whole network at every
point, and from the cuts. Their losses must be equal, or the benchmark ends.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import harness

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)
LAYERS = 13
SIZE, BATCH, BATCHES = 112, 16, 8
WHOLE, CUT = "whole network at every point", "from the cuts"
POINT = "a point, evaluation excluded"


def pointwise(block: Any) -> List[str]:
    """Filters of the 1 x 1 convolutions."""
    found = []
    for op in block.ops:
        if op.type == "conv2d":
            name = op.input("Filter")[0]
            if list(block.var(name).shape[2:]) == [1, 1]:
                found.append(name)
    if len(found) != LAYERS:
        raise SystemExit(f"{len(found)} convolutions were found, not {LAYERS}")
    return found


def a_point(measure: Callable[[str], Any]) -> Callable[[], harness.Measured]:
    """Times 65 points that are saved in a new file."""
    import time

    def timed() -> harness.Measured:
        with tempfile.TemporaryDirectory() as folder:
            cpu, wall = time.process_time(), time.perf_counter()
            measure(os.path.join(folder, "sensitivities"))
            points = LAYERS * len(RATIOS)
            return harness.Measured((time.process_time() - cpu) / points, (time.perf_counter() - wall) / points)

    return timed


class Agreement:
    """The share of images that keep the class the unpruned network gives them."""

    def __init__(self) -> None:
        self.right = self.count = 0

    def update(self, outputs: Sequence[Any], labels: Any) -> None:
        self.right += int((outputs[0].argmax(axis=1) == labels).sum())
        self.count += len(labels)

    def result(self) -> float:
        return self.right / self.count


def slimkit_cases() -> Sequence[harness.Case]:
    import zlib  # noqa: F401  (before paddle)

    import numpy as np
    import paddle

    from slimkit.ir import Model
    from slimkit.prune import find_groups
    from slimkit.prune.sensitivity import StreamingEvaluation, measure_sensitivity

    paddle.seed(0)
    layer = paddle.vision.models.mobilenet_v1()
    layer(paddle.randn([8, 3, SIZE, SIZE]))  # gives the batch norms statistics
    layer.eval()
    model = Model.from_layer(layer, [paddle.static.InputSpec([-1, 3, SIZE, SIZE], "float32", "x")])
    groups, names = find_groups(model), pointwise(model.program.global_block())
    random = np.random.RandomState(0)
    images = [random.randn(BATCH, 3, SIZE, SIZE).astype("float32") for _ in range(BATCHES)]
    data = [({"x": batch}, model.run([batch])[0].argmax(axis=1)) for batch in images]
    evaluation = StreamingEvaluation(data, Agreement)
    losses: Dict[bool, Any] = {}

    def run(cut: bool) -> None:
        losses[cut] = measure_sensitivity(model, groups, evaluation, RATIOS, parameters=names, cut=cut).as_dict()
        if losses.get(not cut, losses[cut]) != losses[cut]:
            raise SystemExit("The losses measured from the cuts are not those of the whole network.")

    def points(path: str) -> None:
        measure_sensitivity(model, find_groups(model), lambda model: 1.0, RATIOS, parameters=names, path=path)

    return [
        harness.Case(POINT, lambda: a_point(points), repeats=9),
        harness.Case(WHOLE, lambda: lambda: run(False), warmups=0),
        harness.Case(CUT, lambda: lambda: run(True), warmups=0),
    ]


def peer_cases() -> Sequence[harness.Case]:
    import logging

    import paddle
    from paddleslim.prune import sensitivity

    logging.disable(logging.INFO)
    paddle.enable_static()
    paddle.seed(0)
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        image = paddle.static.data("image", [1, 3, 224, 224], "float32")
        paddle.vision.models.mobilenet_v1()(image)
    place = paddle.CPUPlace()
    paddle.static.Executor(place).run(startup)
    program, names = main.clone(for_test=True), pointwise(main.global_block())

    def points(path: str) -> None:
        sensitivity(program, place, names, lambda program: 1.0, path, list(RATIOS))

    return [harness.Case(POINT, lambda: a_point(points), repeats=1, warmups=0)]


def main() -> None:
    options = harness.arguments(__doc__, repeats=3).parse_args()
    sides = {"slimkit": slimkit_cases, "peer": peer_cases}
    if options.worker:
        harness.run(__file__, "", options, sides)
        return
    pythons = {"slimkit": sys.executable, **({"peer": options.peer} if options.peer else {})}
    workers = [harness.Worker(__file__, side, python, options.threads, ()) for side, python in pythons.items()]
    try:
        rows = harness.measure(workers, options.repeats)
    finally:
        for worker in workers:
            worker.close()
    streamed = [row for row in rows if row["case"] in (WHOLE, CUT)]
    harness.add_ratios(streamed, WHOLE, "wall")
    harness.add_ratios(streamed, WHOLE)
    title = f"Sensitivity of MobileNetV1, {LAYERS} layers x {len(RATIOS)} ratios, one worker"
    harness.finish(title, streamed, workers, options)
    if options.json:
        result = json.loads(Path(options.json).read_text(encoding="utf-8"))
        Path(options.json).write_text(json.dumps({**result, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        if row["case"] == POINT:
            cpu, wall = (1000 * row[f"{clock}_median"] for clock in ("cpu", "wall"))
            print(f"{POINT}, {row['side']} ({row['runs']} runs): {cpu:.2f} ms CPU, {wall:.2f} ms wall")


if __name__ == "__main__":
    main()
