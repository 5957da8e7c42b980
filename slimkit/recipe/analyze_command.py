"""``slimkit analyze``: which layer hurts."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "analyze",
        help="find the layers that quantization hurts, and what leaving them float wins back",
        description="Measures the error of each quantized layer, alone and with everything quantized, ranks the layers "
        "by the harm they do to the model's results, and leaves the worst float one after the other. A float MODEL is "
        "quantized first.",
        epilog="examples:\n  slimkit analyze rec_infer/ --data lines/\n"
        "  slimkit analyze out/paddle --against rec_infer/ --data lines/ --report layers.html\n"
        "  slimkit analyze det_infer/ --data pages/ --algo KL --runtime onnx -k 10 --limit 4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="quantized or float .pdmodel or .json, prefix or folder")
    parser.add_argument("--data", required=True, metavar="DATA", help="folder of images, label file, FILE.npy or .npz")
    parser.add_argument("--against", metavar="FLOAT", help="float model of a quantized MODEL: its weights are compared")
    parser.add_argument("--algo", help="of a float MODEL: abs_max, min_max, avg, hist, KL, mse, emd (default: hist)")
    parser.add_argument(
        "--runtime", metavar="RUNTIME", help="of a float MODEL: paddle, onnx, lite-arm, lite-x86 (default: paddle)"
    )
    parser.add_argument("--task", help="array, classification, ppocr_cls, ppocr_rec, ppocr_det (default: guessed)")
    parser.add_argument(
        "-k", "--leave-float", type=_count, default=5, metavar="K", help="leave up to K layers float (default: 5)"
    )
    parser.add_argument(
        "--limit", type=_count, default=8, metavar="N", help="samples the errors are measured on (default: 8)"
    )
    parser.add_argument(
        "--eval-images", type=_count, metavar="N",
        help="measure the task's metric on N labelled samples too, with 0 to K layers float (default: not at all)",
    )  # fmt: skip
    parser.add_argument("--report", metavar="FILE.html", help="write a page with charts as well")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand.

    Raises:
        SlimkitError: one sentence: a model, the data or an argument is wrong.
    """
    import json

    from slimkit.recipe.analyze_run import run_analysis

    report = run_analysis(arguments)
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        from slimkit.recipe.analyze_show import show_analysis

        show_analysis(report)
    if arguments.report:
        from slimkit.files import atomic_write
        from slimkit.recipe.analyze_html import render

        atomic_write(arguments.report, render(report).encode())
    return 0
