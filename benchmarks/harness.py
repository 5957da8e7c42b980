"""What the benchmarks share: cases in worker processes, measured in turns, medians, one table and one JSON file.

A benchmark is a script that defines its cases once per side. Each side (``slimkit``, ``peer``) runs in a process of its
own, with its own interpreter; the parent asks for one run of one case at a time, so that all cases see the same
machine load. CPU seconds are those of all threads of the worker and are the number to compare; wall seconds depend on
what else the machine does.

This file also runs inside the peer's interpreter, so it imports neither slimkit nor Paddle.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

REPOSITORY = Path(__file__).resolve().parent.parent
SIDES = ("slimkit", "peer")

#: Prepares a case and returns the function that is timed; the result of that function is kept until the next run.
Prepare = Callable[[], Callable[[], Any]]


@dataclass
class Measured:
    """Seconds that a case took itself, where its function is not the thing to time; returned by that function."""

    cpu: float
    wall: float


class Case:
    """One thing to measure.

    Args:
        name: in the table.
        prepare: called before every run, untimed; returns what is timed.
        repeats: runs counted; None: the command line's.
        warmups: runs before them, not counted.
    """

    def __init__(self, name: str, prepare: Prepare, repeats: Optional[int] = None, warmups: int = 1) -> None:
        self.name, self.prepare, self.repeats, self.warmups = name, prepare, repeats, warmups


def arguments(description: str, repeats: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter with benchmarks/peer_requirements.txt")
    parser.add_argument("--repeats", type=int, default=repeats, help="counted runs of each case")
    parser.add_argument("--threads", type=int, default=1, help="OMP_NUM_THREADS of the workers")
    parser.add_argument("--json", metavar="FILE", help="also write the result there")
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    return parser


# ------------------------------------------------------------------------------------------------ in the worker


def serve(cases: Sequence[Case], about: Dict[str, str]) -> None:
    """Answers the parent's requests, one JSON line each, until its input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Paddle prints goes to stderr
    by_name = {case.name: case for case in cases}

    def say(message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    say({"about": about, "cases": [[c.name, c.repeats, c.warmups] for c in cases]})
    for line in sys.stdin:
        timed = by_name[json.loads(line)].prepare()
        cpu, wall = time.process_time(), time.perf_counter()
        kept = timed()
        taken = Measured(time.process_time() - cpu, time.perf_counter() - wall)
        taken = kept if isinstance(kept, Measured) else taken
        say({"cpu": taken.cpu, "wall": taken.wall})
        del kept


# ------------------------------------------------------------------------------------------------ in the parent


class Worker:
    """A process that holds the cases of one side."""

    def __init__(self, script: str, side: str, python: str, threads: int, extra: Sequence[str]) -> None:
        self.side = side
        self.folder = tempfile.TemporaryDirectory()  # the peer writes into its current folder
        path = (
            os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])) if side == "slimkit" else ""
        )
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path, "GLOG_minloglevel": "2"}
        self.errors = open(os.path.join(self.folder.name, "stderr.txt"), "w+", encoding="utf-8")
        command = [python, os.path.abspath(script), "--worker", side, *extra]
        self.process = subprocess.Popen(
            command, cwd=self.folder.name, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
        )  # fmt: skip
        hello = self._read()
        self.about: Dict[str, str] = hello["about"]
        self.cases: List[Tuple[str, Optional[int], int]] = [tuple(c) for c in hello["cases"]]

    def _read(self) -> Any:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            self.errors.seek(0)
            raise SystemExit(f"The {self.side} worker ended:\n{self.errors.read()[-3000:]}")
        return json.loads(line)

    def run(self, case: str) -> Dict[str, float]:
        """One run: its CPU and wall seconds."""
        self.process.stdin.write(json.dumps(case) + "\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return self._read()

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()
        self.errors.close()
        self.folder.cleanup()


def measure(workers: Sequence[Worker], repeats: int) -> List[Dict[str, Any]]:
    """Runs all cases in turns.

    Returns:
        A row per case: ``side``, ``case``, ``runs``, and medians and minima of CPU and wall seconds.
    """
    plan = [(w, name, repeats if own is None else own, warm) for w in workers for name, own, warm in w.cases]
    samples: Dict[Tuple[str, str], List[Dict[str, float]]] = {(w.side, name): [] for w, name, _, _ in plan}
    for turn in range(max(count + warm for _, _, count, warm in plan)):
        for worker, name, count, warm in plan:
            if turn < count + warm:
                result = worker.run(name)
                if turn >= warm:
                    samples[worker.side, name].append(result)
        print(f"turn {turn + 1}", file=sys.stderr)
    rows = []
    for (side, name), found in samples.items():
        row: Dict[str, Any] = {"side": side, "case": name, "runs": len(found)}
        for clock in ("cpu", "wall"):
            values = [s[clock] for s in found]
            row.update({clock: values, f"{clock}_median": statistics.median(values), f"{clock}_min": min(values)})
        rows.append(row)
    return rows


def add_ratios(rows: List[Dict[str, Any]], baseline: str, clock: str = "cpu") -> None:
    """Adds to each row its time against the baseline case of its side, turn by turn, and their median.

    Args:
        rows: of :func:`measure`; each gets ``ratio`` (CPU time) or ``wall_ratio``.
        baseline: a case.
        clock: "cpu" or "wall".
    """
    base = {row["side"]: row[clock] for row in rows if row["case"] == baseline}
    for row in rows:
        pairs = list(zip(row[clock], base[row["side"]]))
        key = "ratio" if clock == "cpu" else f"{clock}_ratio"
        row[key] = statistics.median(value / reference for value, reference in pairs)


def finish(title: str, rows: List[Dict[str, Any]], workers: Sequence[Worker], options: argparse.Namespace) -> None:
    """Prints the table and writes the JSON file."""
    titles = {"ratio": "ratio", "wall_ratio": "wall ratio"}
    shown = [key for key in titles if any(key in row for row in rows)]
    head = ["side", "case", "runs", "CPU s", "CPU s, least", "wall s"] + [titles[key] for key in shown]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [row["side"], row["case"], str(row["runs"])]
        cells += [f"{row[key]:.3f}" for key in ("cpu_median", "cpu_min", "wall_median")]
        lines.append(cells + [f"{row[key]:.3f}" for key in shown])
    print(f"\n{title}; OMP_NUM_THREADS={options.threads}; medians")
    print("\n".join("| " + " | ".join(line) + " |" for line in lines))
    about = {worker.side: worker.about for worker in workers}
    print("\n".join(f"{side}: " + ", ".join(f"{k} {v}" for k, v in facts.items()) for side, facts in about.items()))
    if options.json:
        machine = {"cpu": _processor(), "cores": os.cpu_count(), "system": platform.platform()}
        result = {"title": title, "threads": options.threads, "machine": machine, "about": about, "rows": rows}
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def run(
    script: str,
    title: str,
    options: argparse.Namespace,
    sides: Dict[str, Callable[[], Sequence[Case]]],
    baseline: Optional[str] = None,
    extra: Sequence[str] = (),
) -> None:
    """A benchmark's main: the worker's part when asked for, else the parent's.

    Args:
        script: the benchmark's ``__file__``.
        title: what is measured.
        options: parsed command line.
        sides: side -> function that builds its cases.
        baseline: the case that ratios are taken against.
        extra: options that the workers need too.
    """
    if options.worker:
        serve(sides[options.worker](), _versions(options.worker))
        return
    pythons = {"slimkit": sys.executable, **({"peer": options.peer} if options.peer else {})}
    workers = [Worker(script, side, python, options.threads, extra) for side, python in pythons.items()]
    try:
        rows = measure(workers, options.repeats)
    finally:
        for worker in workers:
            worker.close()
    if baseline:
        add_ratios(rows, baseline)
    finish(title, rows, workers, options)


def _versions(side: str) -> Dict[str, str]:
    import paddle

    found = {"python": platform.python_version(), "paddlepaddle": paddle.__version__}
    if side == "peer":
        return {**found, "paddleslim": "2.6.0"}
    import slimkit

    return {**found, "slimkit": slimkit.__version__}
