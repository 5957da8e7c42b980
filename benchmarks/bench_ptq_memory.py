"""Peak resident memory of post-training quantization against that of float inference of the same batches.

python benchmarks/bench_ptq_memory.py [--peer PYTHON] [--kind det] [--counts 8,16] [--algo hist]

Each figure is the peak (VmHWM, Linux) of a process of its own that loads, does its work once and ends; medians. With a
second count it shows that memory does not grow with the number of pictures, beyond the pictures themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import harness
import ptq_work

WORK: Dict[str, Tuple[Callable[..., Any], Callable[..., Any]]] = {
    "slimkit": (ptq_work.slimkit_float, ptq_work.slimkit_ptq),
    "peer": (ptq_work.peer_float, ptq_work.peer_ptq),
}


def peak_mb(status: str) -> float:
    """The most resident memory there was, in MB (10^6 bytes), from the text of ``/proc/self/status``."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise SystemExit("This benchmark reads VmHWM of /proc/self/status, which Linux has.")
    return int(found[1]) * 1024 / 1e6


def work(side: str, what: str, folder: str, file: str, algo: str) -> None:
    """In the measured process: does the work and says what it took."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    batches = ptq_work.read_batches(file)
    if what == "float":
        WORK[side][0](folder, batches)()
    else:
        WORK[side][1](folder, batches, algo)()
    answers.write(json.dumps(peak_mb(Path("/proc/self/status").read_text())) + "\n")


def measured(python: str, words: List[str]) -> float:
    """Peak MB of one fresh process."""
    path = str(harness.REPOSITORY) if words[0] == "slimkit" else ""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "GLOG_minloglevel": "2"}
    with tempfile.TemporaryDirectory() as folder:
        command = [python, os.path.abspath(__file__), "--work", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended:\n{done.stderr[-3000:]}")
    return float(json.loads(done.stdout))


def row(side: str, pictures: int, runs: Dict[str, List[float]]) -> Dict[str, Any]:
    """Medians of a side's float runs and PTQ runs, and what PTQ takes beyond."""
    plain, quantizing = (statistics.median(runs[what]) for what in ("float", "PTQ"))
    return {"side": side, "pictures": pictures, "float": plain, "PTQ": quantizing, "beyond": quantizing - plain, **{
        f"{what} runs": values for what, values in runs.items()}}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter with benchmarks/peer_requirements.txt")
    parser.add_argument("--kind", choices=list(ptq_work.KINDS), default="det")
    parser.add_argument("--counts", default="8", help="pictures to calibrate on; the peer gets the first only")
    parser.add_argument("--algo", default="hist", help="the peer's and slimkit's")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="also write the result there")
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    rows = []
    print("| side | pictures | float, MB | PTQ, MB | beyond, MB |\n| --- | --- | --- | --- | --- |", flush=True)
    for index, count in enumerate(int(word) for word in options.counts.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "batches.npz"
            model = ptq_work.write_batches(options.kind, file, count)
            sides = {"slimkit": sys.executable, **({"peer": options.peer} if options.peer and not index else {})}
            for side, python in sides.items():
                runs: Dict[str, List[float]] = {"float": [], "PTQ": []}
                for _ in range(options.repeats if side == "slimkit" else 1):
                    for what, values in runs.items():
                        values.append(measured(python, [side, what, model, str(file), options.algo]))
                rows.append(row(side, count, runs))
                cells = [side, str(count), *(f"{rows[-1][key]:.0f}" for key in ("float", "PTQ", "beyond"))]
                print("| " + " | ".join(cells) + " |", flush=True)
    if options.json:
        result = {"kind": options.kind, "algo": options.algo, "rows": rows}
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import zlib  # noqa: F401  (before paddle)

    main()
