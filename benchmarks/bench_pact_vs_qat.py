"""PACT against plain quantization-aware training at 4 bits, weights and activations: same budget, several seeds.

    python benchmarks/bench_pact_vs_qat.py [--table docs/pact_vs_qat.md]

Each run is the recipe itself on its own config file; only seed, output folder and the checks on runtimes without 4-bit
arithmetic differ. Runs that are in ``--output`` already, with the same config, are not
repeated. A run trains for minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

REPOSITORY = Path(__file__).resolve().parent.parent

#: Row of the table -> config file.
METHODS: Dict[str, str] = {
    "plain QAT": "configs/mbv3_qat_w4a4.yml",
    "PACT": "configs/mbv3_pact_w4a4.yml",
}
#: No runtime has 4-bit arithmetic: the trained, simulated model is what is compared.
OVERRIDES = ("verify.paddle_inference=skip", "verify.lite=skip", "report.layers=false")


def config_hash(config: str, overrides: Sequence[str]) -> str:
    """Hash of what decides the training, as the report has it."""
    from slimkit.recipe.config import config_hash as hash_of
    from slimkit.recipe.config_file import load_config

    return hash_of(load_config(str(REPOSITORY / config), list(overrides)))


def one_run(method: str, seed: int, output: Path, extra: Sequence[str]) -> Dict[str, Any]:
    """Trains, unless done before, and returns the report."""
    folder = output / f"{method.replace(' ', '_').lower()}_seed{seed}"
    overrides = [*OVERRIDES, *extra, f"run.seed={seed}", f"run.output={folder}"]
    report_file = folder / "report.json"
    wanted = config_hash(METHODS[method], overrides)
    found = json.loads(report_file.read_text(encoding="utf-8")) if report_file.exists() else {}
    if found.get("config_hash") != wanted:
        command = [
            sys.executable,
            "-m",
            "slimkit.cli",
            "quant",
            "-c",
            str(REPOSITORY / METHODS[method]),
            "-o",
            *overrides,
        ]
        done = subprocess.run(command, cwd=REPOSITORY, check=False)
        if done.returncode:
            raise SystemExit(f"The run of {method} with seed {seed} failed; its message is above.")
        found = json.loads(report_file.read_text(encoding="utf-8"))
    return found


def summary(method: str, seed: int, report: Dict[str, Any]) -> Dict[str, Any]:
    """A run's figures: top-1 in percent of the float and the simulated model, at its best and after its last epoch."""
    top1 = {item["model"]: 100 * item["top1"] for item in report["results"] if item.get("top1") is not None}
    last = report["curves"]["evaluations"][-1]
    return {
        "method": method,
        "seed": seed,
        "float": top1["float"],
        "best": top1["simulated"],
        "last": 100 * last["top1"],
        "steps": last["step"],
        "samples": last["samples"],
        "training_seconds": report["seconds"].get("train"),
    }


def table(rows: List[Dict[str, Any]], seeds: Sequence[int]) -> str:
    """The comparison as a Markdown table."""
    first = rows[0]
    head = ["method", *(f"seed {s}" for s in seeds), "mean", "standard deviation", "mean of last epoch"]
    lines = [head, ["---"] * len(head)]
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        best = [row["best"] for row in mine]
        spread = statistics.stdev(best) if len(best) > 1 else 0.0
        figures = [*best, statistics.mean(best), spread, statistics.mean(row["last"] for row in mine)]
        lines.append([method, *(f"{value:.2f}" for value in figures)])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (
        f"Top-1 in percent on {first['samples']} test images, best evaluation of each run; W4A4, "
        f"{first['steps']} steps each; float {first['float']:.2f}.\n\n{text}\n"
    )


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("output/pact_vs_qat"), help="folder of the runs")
    parser.add_argument("--table", type=Path, help="also write the table to this Markdown file")
    parser.add_argument("--json", type=Path, help="also write all figures there")
    parser.add_argument("-o", dest="overrides", nargs="+", default=[], help="config overrides for all runs")
    options = parser.parse_args(argv)
    output = options.output.resolve()
    rows = [
        summary(method, seed, one_run(method, seed, output, options.overrides))
        for seed in options.seeds
        for method in METHODS
    ]
    text = table(rows, options.seeds)
    print(text)
    if options.table:
        options.table.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
