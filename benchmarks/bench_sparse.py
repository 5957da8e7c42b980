"""What a sparse model gains where it is deployed: bytes and latency of MobileNetV1 with sparse 1x1 convolutions.

python benchmarks/bench_sparse.py [--ratios 0.5,0.75,0.85] [--json FILE]

The weights are random; neither size nor speed depends on more than where the zeros are. Latency, one thread, batch 1:
all models of a runtime in one process, in alternating rounds; the ratio to the dense model is the median over rounds
of the CPU times'. Paddle-Lite needs its side interpreter (``slimkit lite-install``); its ARM files cannot be run here.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

SIDE = 224


def save(folder: Path, ratio: float, block: Tuple[int, int]) -> Path:
    """MobileNetV1 with this share of zeros in each 1x1 convolution."""
    import paddle

    from slimkit.ir import Model
    from slimkit.prune.unstructured.dygraph import UnstructuredPruner

    paddle.seed(0)
    net = paddle.vision.models.mobilenet_v1()
    net.eval()
    if ratio:
        chosen = {"prune_params_type": "conv1x1_only", "local_sparsity": True, "sparse_block": list(block)}
        pruner = UnstructuredPruner(net, "ratio", ratio=ratio, **chosen)
        pruner.step()
        pruner.update_params()
    prefix = folder / f"model_{round(ratio * 100)}_{block[0]}"
    Model.from_layer(net, [paddle.static.InputSpec([1, 3, SIDE, SIDE], "float32", "x")]).save(prefix)
    return prefix


def sizes(prefix: Path) -> Dict[str, Any]:
    """Bytes on disk, compressed, and as Paddle-Lite's files for ARM."""
    from slimkit.deploy import lite

    data = Path(f"{prefix}.pdiparams").read_bytes()
    found: Dict[str, Any] = {"pdiparams": len(data), "gzip": len(gzip.compress(data, 6))}
    if lite.ARM.available() is None:
        found["arm"] = lite.convert(prefix, f"{prefix}_arm").size_bytes
        made = lite.convert(prefix, f"{prefix}_sparse", sparse=0.45)
        found["arm, sparse"] = made.size_bytes
        found["sparse kernels"] = made.kernels.get("sparse_conv2d", {}).get("float", 0)
    return found


def latencies(prefixes: List[Path], rounds: int, seconds: float) -> Dict[str, List[Dict[str, float]]]:
    """Runtime -> for each model its ms, and its ratio to the first."""
    from slimkit.deploy import lite, onnx_runtime, paddle_inference

    feed = {"x": np.random.RandomState(0).randn(1, 3, SIDE, SIDE).astype("float32")}
    timing = {"rounds": rounds, "budget_seconds": seconds}
    raw: Dict[str, List[Any]] = {}
    raw["Paddle Inference"] = paddle_inference.bench_together([(p, "float") for p in prefixes], feed, **timing)
    files = [onnx_runtime.export(p, f"{p}.onnx") for p in prefixes]
    raw["ONNX Runtime"] = onnx_runtime.bench_together([(f, "optimized") for f in files], feed, **timing)
    found = {name: [summary(each[1], rows[0][1]) for each in rows] for name, rows in raw.items()}
    if lite.X86.available() is None:
        made = [lite.convert(p, f"{p}_x86", "x86").path for p in prefixes]
        times = lite.X86.bench_together(made, feed, **timing)
        found["Paddle-Lite, x86"] = [{"ms": t.cpu_ms, "ratio": t.cpu_ms / times[0].cpu_ms} for t in times]
    return found


def summary(times: Dict[str, Any], dense: Dict[str, Any]) -> Dict[str, float]:
    ratio = statistics.median(a / b for a, b in zip(times["cpu_ms"], dense["cpu_ms"]))
    return {"ms": statistics.median(times["cpu_ms"]), "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratios", default="0.5,0.75,0.85", help="shares of zeros")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each model's calls")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    plan = [(0.0, (1, 1))] + [(float(r), b) for r in options.ratios.split(",") for b in ((1, 1), (2, 1))]
    with tempfile.TemporaryDirectory() as folder:
        prefixes = [save(Path(folder), *case) for case in plan]
        rows = [{"zeros": ratio, "block": list(block), **sizes(p)} for (ratio, block), p in zip(plan, prefixes)]
        for runtime, found in latencies(prefixes, options.rounds, options.seconds).items():
            for row, times in zip(rows, found):
                row[f"{runtime}, CPU ms"], row[f"{runtime}, ratio"] = times["ms"], times["ratio"]
    head = list(rows[0])
    print("\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head)]))
    for row in rows:
        print("| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
