"""Latency of networks pruned to half their multiply-accumulates, against the whole ones, on their runtimes.

python benchmarks/bench_prune_latency.py [--models ResNet18,...] [--runtimes paddle,onnx] [--json FILE]

Uniform pruning, kept channels a multiple of --round-to. Both models of a network are timed in one process, in
alternating rounds, pinned to one core, float; the ratio is the median over rounds of pruned by whole CPU time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict

import harness
import numpy as np
from int8_models import NAMES, float_model

HEAD = ("model", "runtime", "MACs", "parameters", "whole ms", "pruned ms", "ratio")


def pruned(model: Any, images: np.ndarray, removed: float, round_to: int) -> Dict[str, Any]:
    """The pruned model and what is left of the whole."""
    from slimkit.analysis import complexity
    from slimkit.prune import find_groups, prune_model
    from slimkit.prune.cost import CostModel
    from slimkit.prune.criteria import Scorer
    from slimkit.prune.line import Target
    from slimkit.prune.targets import Limits, uniform

    shape = {model.feeds[0]: list(images[:1].shape)}
    groups = find_groups(model)
    cost = CostModel.of(model, groups, shape)
    limits = Limits(round_to=round_to, floor=round_to)
    scores = Scorer(model.params, "l1_norm")
    line = uniform(cost.groups, Target("macs", removed=removed), cost, limits=limits, scores=scores)
    small = prune_model(model, line.plan)
    before, after = complexity(model, shape), complexity(small, shape)
    return {
        "model": small,
        "macs": after.macs / before.macs,
        "parameters": after.parameters / before.parameters,
    }


def files(model: Any, runtime: str, prefix: Path) -> str:
    """Exports a float model for a runtime."""
    if runtime == "paddle":
        model.save(prefix)
        return str(prefix)
    from slimkit.deploy.onnx_export import export_onnx

    return str(export_onnx(model, None, prefix.with_suffix(".onnx")))


def row(name: str, runtime: str, options: argparse.Namespace, folder: Path) -> Dict[str, Any]:
    """Measures one network on one runtime."""
    from slimkit.deploy import onnx_runtime, paddle_inference

    model, images = float_model(name)
    small = pruned(model, images, options.removed, options.round_to)
    where: Any = paddle_inference if runtime == "paddle" else onnx_runtime
    mode = "float" if runtime == "paddle" else "optimized"
    pair = [(files(model, runtime, folder / "whole"), mode), (files(small["model"], runtime, folder / "pruned"), mode)]
    timing = {"rounds": options.rounds, "budget_seconds": options.seconds}
    (whole, slow), (less, fast) = where.bench_together(pair, [images[:1]], options.threads, **timing)
    return {
        "model": name,
        "runtime": runtime,
        "macs": small["macs"],
        "parameters": small["parameters"],
        "whole_ms": whole.median_ms,
        "pruned_ms": less.median_ms,
        "ratio": statistics.median(a / b for a, b in zip(fast["cpu_ms"], slow["cpu_ms"])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="ResNet18,ResNet50,MobileNetV1", help="of " + ", ".join(NAMES))
    parser.add_argument("--runtimes", default="paddle,onnx")
    parser.add_argument("--removed", type=float, default=0.5, help="fraction of the multiply-accumulates that goes")
    parser.add_argument("--round-to", type=int, default=16, help="kept channels are a multiple of it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="for one model's calls on one runtime, about")
    parser.add_argument("--json", metavar="FILE", help="also write the result there")
    options = parser.parse_args()
    rows = []
    print("| " + " | ".join(HEAD) + " |\n|" + " --- |" * len(HEAD), flush=True)
    for name in options.models.split(","):
        for runtime in options.runtimes.split(","):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(row(name, runtime, options, Path(folder)))
            cells = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in rows[-1].values())
            print("| " + " | ".join(cells) + " |", flush=True)
    if options.json:
        about = {"cpu": harness._processor(), "python": sys.version.split()[0], "threads": options.threads}
        Path(options.json).write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import zlib  # noqa: F401  (before paddle)

    main()
