"""Accuracy after pruning, with the same fine-tuning budget: sensitivity against uniform, and ResNet-20 at -30%.

    python benchmarks/bench_prune_accuracy.py [--output DIR] [--seeds 0,1,2] [--only ROW]

Each run is a recipe of configs/; its result is kept in DIR/results/, so that a bench which was stopped goes on where it
was (a run in the middle of its training too). Float weights are those embedded; seeds change the order and the
augmentation of the images. "last" is the accuracy after the last epoch, "best" of the best epoch on the test images, as
recipes export it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

MBV1 = "configs/mbv1_prune_uniform.yml"
RESNET = "configs/resnet_prune_sensitive.yml"
#: Row -> config file and what is changed in it.
ROWS: Dict[str, Any] = {
    "mbv1 -50% MACs, uniform": (MBV1, ["prune.method=uniform"]),
    "mbv1 -50% MACs, sensitivity": (MBV1, ["prune.method=sensitivity"]),
    "resnet20 -30% MACs, uniform": (RESNET, ["prune.method=uniform"]),
    "resnet20 -30% MACs, sensitivity": (RESNET, ["prune.method=sensitivity"]),
}


def run(row: str, seed: int, output: Path, overrides: List[str]) -> Dict[str, Any]:
    """Runs a row with a seed, or reads what it gave before."""
    name = f"{row.replace(' ', '_').replace(',', '').replace('%', '')}_{seed}"
    kept = output / "results" / f"{name}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    from slimkit.files import atomic_write
    from slimkit.recipe.config_file import load_as
    from slimkit.recipe.prune_run import run_prune
    from slimkit.recipe.prune_schema import PruneRecipe

    file, changes = ROWS[row]
    points = output / f"sensitivity_{Path(file).stem}.json"  # of the float network: the same for all seeds
    own = [f"run.output={output / name}", f"run.seed={seed}", f"sensitivity.file={points}", "verify.run=false"]
    recipe = load_as(PruneRecipe, str(ROOT / file), [*changes, *own, 'to=["paddle"]', *overrides])
    report = run_prune(recipe, resume=True, config_file=file)
    last = report.curves.evaluations[-1]["top1"]
    found = {
        "float": report.figure("float"),
        "pruned": report.figure("pruned"),
        "last": last,
        "best": report.figure("fine-tuned"),
        "macs_removed": report.costs["macs"].removed,
        "parameters_removed": report.costs["parameters"].removed,
        "seconds": report.seconds,
    }
    atomic_write(kept, json.dumps(found, indent=1).encode())
    return found


def table(results: Dict[str, List[Dict[str, Any]]]) -> str:
    """Returns the rows as Markdown."""
    lines = [
        "| | MACs | float | pruned | last epoch | best epoch | against float | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row, runs in results.items():
        mean = {key: statistics.mean(100 * run[key] for run in runs) for key in ("float", "pruned", "last", "best")}
        each = ", ".join(f"{100 * run['best']:.2f}" for run in runs)
        removed = statistics.mean(100 * run["macs_removed"] for run in runs)
        lines.append(
            f"| {row} | -{removed:.1f}% | {mean['float']:.2f} | {mean['pruned']:.2f} | {mean['last']:.2f} | "
            f"{mean['best']:.2f} ({each}) | {mean['best'] - mean['float']:+.2f} | {len(runs)} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="output/bench_prune_accuracy", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", help="rows whose name has this in it")
    parser.add_argument("-o", "--override", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    results: Dict[str, List[Dict[str, Any]]] = {}
    for seed in (int(text) for text in arguments.seeds.split(",")):
        for row in ROWS:
            if arguments.only is None or arguments.only in row:
                results.setdefault(row, []).append(run(row, seed, arguments.output, arguments.override))
                print(table(results), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
