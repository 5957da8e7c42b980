"""Float against int8 latency of post-training quantized models, on Paddle Inference (oneDNN) and ONNX Runtime.

python benchmarks/bench_int8_latency.py [--models ResNet18,...] [--runtimes paddle,onnx] [--json FILE]

Float and int8 of a model are measured in one process, in alternating rounds, pinned to one core; the ratio is the
median over rounds of int8 by float CPU time. Beside it: how many products ran in integers, ops known to be computed
wrongly (hazards), how far int8 is from the simulated file and from float (relative difference of the first output), and
the size on disk against the float model saved by slimkit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import harness
import numpy as np
from int8_models import NAMES, float_model

HEAD = (
    *("model", "runtime", "float ms", "int8 ms", "ratio", "int8 ops", "float ops", "hazards"),
    *("int8 to simulated", "int8 to float", "size"),
)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12))


def before_softmax(model: Any) -> Any:
    """The model up to its logits, where a difference is not hidden by a saturated softmax."""
    from slimkit.ir import legacy_ir

    with legacy_ir():
        last = next(op for op in model.program.global_block().ops if model.fetches[0] in op.output_arg_names)
        if last.type in ("softmax", "sigmoid"):
            model.fetches = [last.input("X")[0]]
    return model


def exports(model: Any, images: np.ndarray, runtimes: List[str], algo: str, folder: Path) -> Dict[str, Tuple[str, str]]:
    """runtime -> (float file, int8 file)."""
    from slimkit.quant.export import export_program
    from slimkit.quant.ptq import post_training_quantize

    result = post_training_quantize(model, [{model.feeds[0]: images}], tuple(runtimes), {"algo": algo})
    files = {}
    if "paddle" in runtimes:
        quantized = result.quantized["paddle"]
        model.save(folder / "float")
        export_program(quantized.model, quantized.table, runtime="onednn").save(folder / "int8")
        files["paddle"] = (str(folder / "float"), str(folder / "int8"))
    if "onnx" in runtimes:
        from slimkit.deploy.onnx_export import export_onnx

        quantized = result.quantized["onnx"]
        made = [
            export_onnx(*pair, folder / f"{name}.onnx")
            for name, pair in (("float", (model, None)), ("int8", (quantized.model, quantized.table)))
        ]
        files["onnx"] = (str(made[0]), str(made[1]))
    return files


def row(runtime: str, files: Tuple[str, str], images: np.ndarray, options: argparse.Namespace) -> Dict[str, Any]:
    """Measures one model on one runtime."""
    from slimkit.deploy import onnx_runtime, paddle_inference
    from slimkit.deploy.size import model_size

    one, timing = images[:1], {"rounds": options.rounds, "budget_seconds": options.seconds}
    where: Any = paddle_inference if runtime == "paddle" else onnx_runtime
    fast, plain = ("int8", "plain") if runtime == "paddle" else ("optimized", "plain")
    base = "float" if runtime == "paddle" else "optimized"
    found = where.executed_precision(files[1], [one])
    measured = where.bench_together([(files[0], base), (files[1], fast)], [one], options.threads, **timing)
    outputs = {
        name: where.run(file, [[images]], mode=mode)[0][0]
        for name, file, mode in (("float", files[0], plain), ("simulated", files[1], plain), ("int8", files[1], fast))
    }
    pairs = zip(measured[1][1]["cpu_ms"], measured[0][1]["cpu_ms"])
    return {
        "float_ms": measured[0][0].median_ms,
        "int8_ms": measured[1][0].median_ms,
        "ratio": statistics.median(a / b for a, b in pairs),
        "int8_ops": found["int8"],
        "float_ops": found["float"],
        "hazards": len(found["hazards"]),
        "to_simulated": relative(outputs["int8"], outputs["simulated"]),
        "to_float": relative(outputs["int8"], outputs["float"]),
        "size": model_size(files[1]).total / model_size(files[0]).total,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(NAMES), help="of " + ", ".join(NAMES))
    parser.add_argument("--runtimes", default="paddle,onnx")
    parser.add_argument("--algo", default="hist", help="observer of the activations")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="for one model's calls on one runtime, about")
    parser.add_argument("--json", metavar="FILE", help="also write the result there")
    options = parser.parse_args()
    rows = []
    print("| " + " | ".join(HEAD) + " |\n|" + " --- |" * len(HEAD), flush=True)
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            model, images = float_model(name)
            files = exports(before_softmax(model), images, options.runtimes.split(","), options.algo, Path(folder))
            for runtime, pair in files.items():
                rows.append({"model": name, "runtime": runtime, **row(runtime, pair, images, options)})
                print("| " + " | ".join(_cell(value) for value in rows[-1].values()) + " |", flush=True)
    if options.json:
        about = {"cpu": harness._processor(), "python": sys.version.split()[0], "threads": options.threads}
        Path(options.json).write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    import zlib  # noqa: F401  (before paddle)

    main()
