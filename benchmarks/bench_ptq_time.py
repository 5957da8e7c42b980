"""Post-training quantization of PP-OCR's models against float inference of the same batches by the same executor.

python benchmarks/bench_ptq_time.py [--peer PYTHON] [--kinds cls,rec,det] [--algos hist,KL,mse]

A run of PTQ loads the model, calibrates, quantizes and writes it, on both sides. Ratios are medians over turns. The row
"Paddle Inference" is float inference with oneDNN, which no calibration can be compared to fairly, but users can.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Sequence

import harness
import ptq_work

FLOAT = "float"
#: What the peer runs: minutes each, so KL only where it is least.
PEER_ALGOS = {"cls": ("hist", "KL"), "rec": ("hist",), "det": ("hist",)}


def slimkit_cases(options: argparse.Namespace) -> Sequence[harness.Case]:
    import zlib  # noqa: F401  (before paddle)

    cases = []
    for kind, (folder, batches) in _work(options).items():
        cases.append(harness.Case(f"{kind} {FLOAT}", functools.partial(ptq_work.slimkit_float, folder, batches)))
        onednn = functools.partial(ptq_work.onednn_float, folder, batches)
        cases.append(harness.Case(f"{kind} Paddle Inference", onednn))
        for algo in options.algos.split(","):
            ptq = functools.partial(ptq_work.slimkit_ptq, folder, batches, algo)
            cases.append(harness.Case(f"{kind} PTQ {algo}", ptq))
    return cases


def peer_cases(options: argparse.Namespace) -> Sequence[harness.Case]:
    cases = []
    for kind, (folder, batches) in _work(options).items():
        once: Dict[str, Any] = {"repeats": 1, "warmups": 0}
        run = functools.partial(ptq_work.peer_float, folder, batches)
        cases.append(harness.Case(f"{kind} {FLOAT}", run, repeats=1, warmups=1))
        for algo in PEER_ALGOS[kind]:
            ptq = functools.partial(ptq_work.peer_ptq, folder, batches, algo)
            cases.append(harness.Case(f"{kind} PTQ {algo}", ptq, **once))
    return cases


def _work(options: argparse.Namespace) -> Dict[str, Any]:
    """kind -> model folder and batches, from ``--work``."""
    found = (part.split("=", 1) for part in options.work)
    return {kind: (Path(f"{file}.model").read_text(), ptq_work.read_batches(file)) for kind, file in found}


def ratios(rows: List[Dict[str, Any]], kinds: Sequence[str]) -> None:
    """Adds each row's time against float inference of its kind and side."""
    for kind in kinds:
        own = [row for row in rows if row["case"].startswith(f"{kind} ")]
        harness.add_ratios(own, f"{kind} {FLOAT}")
        harness.add_ratios(own, f"{kind} {FLOAT}", "wall")


def main() -> None:
    parser = harness.arguments(__doc__, repeats=3)
    parser.add_argument("--kinds", default=",".join(ptq_work.KINDS))
    parser.add_argument("--algos", default="hist,KL,mse", help="of slimkit's cases")
    parser.add_argument("--work", nargs="*", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        make = {"slimkit": slimkit_cases, "peer": peer_cases}[options.worker]
        harness.serve(make(options), harness._versions(options.worker))
        return
    kinds = options.kinds.split(",")
    with tempfile.TemporaryDirectory() as folder:
        work = []
        for kind in kinds:
            file = Path(folder) / f"{kind}.npz"
            Path(f"{file}.model").write_text(ptq_work.write_batches(kind, file))
            work.append(f"{kind}={file}")
        extra = ["--algos", options.algos, "--work", *work]
        pythons = {"slimkit": sys.executable, **({"peer": options.peer} if options.peer else {})}
        workers = [harness.Worker(__file__, side, python, options.threads, extra) for side, python in pythons.items()]
        try:
            rows = harness.measure(workers, options.repeats)
        finally:
            for worker in workers:
                worker.close()
    ratios(rows, kinds)
    harness.finish("PTQ: load, calibrate, quantize, write", rows, workers, options)


if __name__ == "__main__":
    import zlib  # noqa: F401  (before paddle)

    main()
