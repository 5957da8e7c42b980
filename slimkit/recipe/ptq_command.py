"""``slimkit ptq``: the command line of post-training quantization."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any, Dict, Tuple

__all__ = ["add_parser", "run"]

#: Attribute of the parsed arguments -> (flag, dotted key of the config).
_KEYS: Dict[str, Tuple[str, str]] = {
    "model": ("MODEL", "model"),
    "out": ("OUT", "output"),
    "data": ("--data", "data.path"),
    "task": ("--task", "data.task"),
    "labels": ("--labels", "data.labels"),
    "batch_size": ("--batch-size", "data.batch_size"),
    "batches": ("--batches", "data.batches"),
    "eval_data": ("--eval-data", "eval.path"),
    "eval_images": ("--eval-images", "eval.images"),
    "algo": ("--algo", "ptq.algo"),
    "to": ("--to", "to"),
    "max_drop": ("--max-drop", "search.max_drop"),
    "time_budget": ("--time-budget", "search.time_budget"),
    "threads": ("--threads", "verify.threads"),
    "bias_correction": ("--bias-correction", "ptq.bias_correction"),
    "adaround": ("--adaround", "ptq.adaround"),
    "analyze": ("--analyze", "analyze"),
    "no_verify": ("--no-verify", "verify.run"),
}


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "ptq",
        help="quantize a model without training: a model and a folder of images in, int8 models that were run out",
        description="Post-training quantization: observes activations on the data, quantizes what each runtime "
        "executes in integers, exports, runs the exports there, and reports their accuracy, size and speed.",
        epilog="examples:\n  slimkit ptq inference.json out --data images/\n"
        "  slimkit ptq ch_PP-OCRv4_rec_infer/ out --data lines/ --to paddle,onnx,lite-arm --algo kl\n"
        "  slimkit ptq model out --data val/ --max-drop 0.5 --time-budget 10m\n"
        "  slimkit ptq -c configs/ppocr_rec_ptq.yml\n\nEvery key of the file is explained in docs/ptq.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="float .pdmodel or .json, prefix or folder")
    parser.add_argument("out", metavar="OUT", nargs="?", help="folder to write")
    parser.add_argument("--data", metavar="DATA", help="folder of images, label file, FILE.npy, FILE.npz")
    parser.add_argument("--task", help="array, image, classification, ppocr_cls, ppocr_rec, ppocr_det; else guessed")
    parser.add_argument("--labels", metavar="FILE", help="label file (default: looked for in the folder)")
    parser.add_argument("--algo", help="abs_max, min_max, avg, hist, KL, mse, emd (default: mse)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="samples a batch (default: what suits the task)")
    parser.add_argument("--batches", type=int, metavar="N", help="batches to calibrate on (default: about 64 samples)")
    parser.add_argument("--eval-data", metavar="DATA", help="data to measure accuracy on (default: that of --data)")
    parser.add_argument("--eval-images", type=int, metavar="N", help="at most so many samples of it")
    parser.add_argument("--to", metavar="RUNTIME[,RUNTIME]", help="paddle, onnx, lite-arm, lite-x86 (default: paddle)")
    parser.add_argument("--max-drop", type=float, metavar="POINTS", help="accuracy that may be lost: search for it")
    parser.add_argument("--time-budget", metavar="TIME", help="how long to search: 90s, 10m, 1h (default: 10m)")
    parser.add_argument("--bias-correction", action="store_true", help="correct the mean shift of each layer")
    parser.add_argument("--adaround", action="store_true", help="learn the rounding of weights layer by layer")
    parser.add_argument("--analyze", action="store_true", help="measure each layer's error for the report")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the latencies (default: 1)")
    parser.add_argument("--no-verify", action="store_true", help="export without running")
    parser.add_argument("-c", "--config", metavar="FILE", help="config file; flags overrule it")
    parser.add_argument(
        "-o", "--override", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="change keys of the config, such as ptq.hist_percent=0.9999 data.options.mean=[0.5,0.5,0.5]",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand.

    Raises:
        SlimkitError: one sentence.
    """
    from slimkit.errors import ConfigError
    from slimkit.recipe.config_file import load_as
    from slimkit.recipe.ptq_run import run_ptq
    from slimkit.recipe.ptq_schema import PtqRecipe

    flags: Dict[str, Tuple[str, Any]] = {}
    for name, (flag, key) in _KEYS.items():
        value = getattr(arguments, name)
        if value is None or value is False:
            continue
        if name == "to":
            value = [part.strip() for part in value.split(",") if part.strip()]
        flags[key] = (flag, not value if name == "no_verify" else value)
    if arguments.config is None:
        for key, (flag, _) in (("model", _KEYS["model"]), ("output", _KEYS["out"]), ("data.path", _KEYS["data"])):
            if key not in flags and not any(text.startswith(f"{key}=") for text in arguments.override):
                raise ConfigError(f"{flag} is missing; run `slimkit ptq MODEL OUT --data DATA` or give -c FILE.")
    recipe = load_as(PtqRecipe, arguments.config, arguments.override, flags)
    run_ptq(recipe, command=f"slimkit {shlex.join(sys.argv[1:])}")
    return 0
