"""Accuracy after post-training quantization: slimkit on its runtimes, and its peers on the same ONNX model and images.

python benchmarks/bench_ptq_accuracy.py [--models cls,rec,det] [--nncf PYTHON] [--classifiers] [--json FILE]

slimkit quantizes a Paddle model for Paddle Inference and ONNX Runtime. Its own *float* ONNX export is also quantized by
onnxruntime's ``quantize_static`` (QDQ, per channel, uint8 activations, int8 weights, after its preprocessing) and by
NNCF, on the same calibration batches. All are scored on the same evaluation pictures, which share none with the
calibration. ONNX files are timed in one process, 1 thread, in alternating rounds; the ratio is to the float file.
onnxruntime's Percentile and Entropy fail on batches that differ in shape; they get the same pictures in one size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

import harness
import numpy as np
import ptq_classifiers

FOLDER = Path(__file__).resolve().parent
#: Model -> calibration data, evaluation data, and options that bring all pictures to one size.
PPOCR: Dict[str, Tuple[str, str, Dict[str, int]]] = {
    "cls": ("rendered:cls:32:1", "rendered:cls:1000", {}),
    "rec": ("rendered:rec:32:1", "rendered:rec:300", {"width": 320, "max_width": 320}),
    "det": ("rendered:det:8:1", "rendered:det:200", {"size": 640}),
}
CLASSIFIED = 1000  # test images of Fashion-MNIST
ORT = ("MinMax", "Percentile", "Entropy")
NNCF = {"rec": ("performance", "mixed", "transformer")}
NNCF_DEFAULT = ("performance", "mixed")
HEAD = ("model", "quantized by", "runtime", "metric", "accuracy", "points lost", "size, MB", "latency, ms", "to float",
        "quantized in, s")  # fmt: skip


def disjoint(calibration: Iterable[Dict[str, np.ndarray]], evaluation: Iterable[Dict[str, np.ndarray]]) -> bool:
    """Whether no picture of one is in the other."""
    prints = [
        {hashlib.sha1(np.ascontiguousarray(x)).digest() for feed in feeds for value in feed.values() for x in value}
        for feeds in (calibration, evaluation)
    ]
    return not prints[0] & prints[1]


def points(value: float, reference: float) -> float:
    """Points of accuracy lost: fractions in, positive where less than the reference."""
    return round((reference - value) * 100, 2)


class Bench:
    """One model: its files, and what is found of them."""

    def __init__(self, name: str, options: argparse.Namespace, folder: Path) -> None:
        from slimkit.ir import Model
        from slimkit.recipe.data.real_models import ppocr_model
        from slimkit.recipe.tasks import open_samples

        self.name, self.options, self.folder = name, options, folder
        if name in PPOCR:
            self.model, limit = Model.load(ppocr_model(name)), None
            calibration, evaluation, one_size = PPOCR[name]
            self.task, samples = open_samples(self.model, calibration)
            held = open_samples(self.model, evaluation)[1]
            self.feeds = samples.feeds()
            self.alike = open_samples(self.model, calibration, **one_size)[1].feeds()
        else:
            self.model = Model.load(ptq_classifiers.trained(name))
            self.task, held = open_samples(self.model, "fashion_mnist", batch_size=32)
            limit, self.feeds = CLASSIFIED, held.calibration().feeds(16, 64)
            self.alike = self.feeds
        self.held = held.stream(None, options.limit or limit)
        self.rows: List[Dict[str, Any]] = []
        self.onnx: Dict[str, Path] = {}

    def add(self, by: str, runtime: str, file: Path, mode: str, seconds: float = 0.0) -> None:
        """Scores a file and adds its row."""
        from slimkit.deploy.size import model_size

        found = self.score(runtime, file, mode)
        row = {"model": self.name, "by": by, "runtime": runtime, "metric": self.task.headline, **found}
        row.update(accuracy=found[self.task.headline], size=model_size(file).total / 1e6, seconds=seconds)
        base = next((r for r in self.rows if r["runtime"] == runtime), row)
        row["lost"] = points(row["accuracy"], base["accuracy"])
        self.rows.append(row)
        if runtime == "onnx":
            self.onnx[by] = file
        print(f"{self.name} {by} on {runtime}: {100 * row['accuracy']:.2f} ({-row['lost']:+.2f})", file=sys.stderr)

    def score(self, runtime: str, file: Path, mode: str) -> Dict[str, float]:
        from slimkit.deploy import onnx_runtime, paddle_inference

        where: Any = paddle_inference if runtime == "paddle" else onnx_runtime
        metric = self.task.metric()
        with where.open_session(1, pin=False) as session:
            where.load(session, "model", file, mode)
            for feed, labels in self.held:
                metric.update(session.run("model", feed if runtime == "paddle" else list(feed.values())), labels)
        return dict(metric.result())

    def slimkit(self) -> None:
        from slimkit.quant import post_training_quantize
        from slimkit.quant.quantized import Quantized
        from slimkit.quant.table import QuantTable
        from slimkit.recipe.exporters import export_for

        self.model.save(self.folder / "float")
        plain = export_for("onnx", Quantized(self.model, QuantTable()), self.folder, "float")
        self.add("float", "paddle", self.folder / "float.pdmodel", "float")
        self.add("float", "onnx", plain, "float")
        start = time.perf_counter()
        result = post_training_quantize(self.model, self.feeds, ("paddle", "onnx"))
        for index, algo in enumerate(self.options.algos.split(",")):
            spent = time.perf_counter() - start
            again = result if algo == "default" else result.requantize({"algo": algo})
            if any(row["by"] == f"slimkit {again.config.algo}" for row in self.rows):
                continue
            for runtime, quantized in again.quantized.items():
                file = export_for(runtime, quantized, self.folder, f"{runtime}_{algo}")
                self.add(f"slimkit {again.config.algo}", runtime, file, "int8", 0.0 if index else spent)

    def peers(self) -> None:
        """onnxruntime's quantizer and NNCF, in processes of their own."""
        source, data = self.onnx["float"], {key: self.folder / f"{key}.npz" for key in ("own", "alike")}
        for file, feeds in zip(data.values(), (self.feeds, self.alike)):
            np.savez(file, *[next(iter(feed.values())) for feed in feeds])
        python = self.options.ort or self.options.nncf or sys.executable
        todo: List[Tuple[str, str, str]] = [(python, "ort", method) for method in ORT]
        if self.options.nncf:
            todo += [(self.options.nncf, "nncf", setting) for setting in NNCF.get(self.name, NNCF_DEFAULT)]
        for python, peer, setting in todo:
            target = self.folder / f"{peer}_{setting}.onnx"
            pictures = data["alike" if setting in ("Percentile", "Entropy") else "own"]
            command = [python, str(FOLDER / f"peer_{peer}.py"), str(source), str(pictures), str(target), setting]
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            title = f"{'onnxruntime' if peer == 'ort' else 'NNCF'} {setting}"
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                print(f"{self.name} {title} failed: {last[:300]}", file=sys.stderr)
                self.rows.append({"model": self.name, "by": title, "runtime": "onnx", "failed": last[:300]})
                continue
            self.add(title, "onnx", target, "int8", time.perf_counter() - start)

    def latency(self) -> None:
        """Times all ONNX files in turns."""
        from slimkit.deploy import onnx_runtime

        feed = next(iter(self.held))[0]
        one = [next(iter(feed.values()))[:1]]
        names, timing = list(self.onnx), {"rounds": self.options.rounds, "budget_seconds": self.options.seconds}
        found = onnx_runtime.bench_together([(self.onnx[n], "optimized") for n in names], one, 1, **timing)
        base = found[names.index("float")][1]["cpu_ms"]
        for name, (latency, times) in zip(names, found):
            row = next(r for r in self.rows if r["by"] == name and r["runtime"] == "onnx")
            row["latency"] = latency.median_ms
            row["ratio"] = statistics.median(a / b for a, b in zip(times["cpu_ms"], base))


def cells(row: Dict[str, Any]) -> List[str]:
    """A row of the table."""
    if "failed" in row:
        return [row["model"], row["by"], row["runtime"], "failed: " + row["failed"][:60], *[""] * (len(HEAD) - 4)]
    figures = (100 * row["accuracy"], row["lost"], row["size"], row.get("latency"), row.get("ratio"))
    shown = ("" if value is None else f"{value:.2f}" for value in (*figures, row["seconds"] or None))
    return [row["model"], row["by"], row["runtime"], row["metric"], *shown]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(PPOCR), help="of PP-OCR's; '' for none")
    every = ",".join(ptq_classifiers.NETWORKS)
    trained = f"networks on Fashion-MNIST, trained once and kept in the cache; all: {every}"
    parser.add_argument("--classifiers", nargs="?", const=every, default="", help=trained)
    parser.add_argument("--algos", default="default", help="slimkit's: default, or of hist,mse,KL,...")
    own = "interpreter for quantize_static, which needs ml_dtypes; default: --nncf's, else this one"
    parser.add_argument("--ort", metavar="PYTHON", help=own)
    parser.add_argument("--nncf", metavar="PYTHON", help="interpreter with nncf, onnx and onnxruntime")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--limit", type=int, help="evaluate on at most so many samples")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="for one file's calls, about; 0: no latency")
    parser.add_argument("--json", metavar="FILE", help="also write the result there")
    options = parser.parse_args()
    rows: List[Dict[str, Any]] = []
    print("| " + " | ".join(HEAD) + " |\n|" + " --- |" * len(HEAD), flush=True)
    for name in filter(None, (options.models + "," + options.classifiers).split(",")):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(name, options, Path(folder))
            if not disjoint(bench.feeds, (feed for feed, _ in bench.held)):
                raise SystemExit(f"{name}: calibration and evaluation share pictures.")
            bench.slimkit()
            if not options.no_peers:
                bench.peers()
            if options.seconds:
                bench.latency()
            rows += bench.rows
            print("\n".join("| " + " | ".join(cells(row)) + " |" for row in bench.rows), flush=True)
    if options.json:
        about = {"cpu": harness._processor(), "python": sys.version.split()[0], "threads": 1}
        Path(options.json).write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import zlib  # noqa: F401  (before paddle)

    main()
