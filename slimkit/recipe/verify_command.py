"""``slimkit verify``: a quantized model beside its float model, on the runtimes they are for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, List, Sequence

if TYPE_CHECKING:
    from slimkit.recipe.ptq_report import PtqRunReport

__all__ = ["add_parser", "run"]

EXIT_OK, EXIT_WORSE, EXIT_ERROR = 0, 1, 2


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "verify",
        help="run a quantized model beside its float model on the runtimes they are for",
        description="Runs MODEL and FLOAT on each runtime, compares their outputs and, where the data has labels, the "
        "task's metric, and measures size on disk and latency (pinned threads, warm-up, alternating rounds). What a "
        "runtime needs in another form is exported on the fly.",
        epilog="examples:\n  slimkit verify out/ --against rec_infer/ --data lines/ --on paddle,onnx,lite-x86\n"
        "  slimkit verify int8.onnx --against float.onnx --data images.npz --limit 200\n"
        "  slimkit verify out/ --against cls/ --data words/ --fail-below 1.0    (exit code 1 when worse)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", metavar="MODEL",
        help="quantized model: .pdmodel, .json, .onnx or .nb file, prefix, or folder (also of `slimkit ptq`)",
    )  # fmt: skip
    parser.add_argument("--against", required=True, metavar="FLOAT", help="the float model, in any of these forms")
    parser.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="folder or list of images, FILE.npy, FILE.npz, rendered:KIND:COUNT",
    )
    parser.add_argument("--on", metavar="RUNTIME[,...]", help="paddle, onnx, lite-x86, lite-arm (default: MODEL's own)")
    parser.add_argument("--task", help="array, classification, ppocr_cls, ppocr_rec, ppocr_det (default: guessed)")
    parser.add_argument("--labels", metavar="FILE", help="label file (default: looked for beside the data)")
    parser.add_argument(
        "--option", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="options of the task, see docs/tasks.md: size=160 mean=[0.5,0.5,0.5]",
    )  # fmt: skip
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="CPU threads (default: 1)")
    parser.add_argument(
        "--batch-size", type=_counts, default=[1, 8], metavar="N[,...]", help="batch sizes to time (default: 1,8)"
    )
    parser.add_argument("--limit", type=_count, metavar="N", help="at most so many samples")
    parser.add_argument(
        "--latency-seconds", type=float, default=1.0, metavar="S",
        help="about how long each model is timed at each batch size; 0: not at all (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--fail-below", type=float, metavar="POINTS",
        help="exit with code 1 when the metric falls by more percentage points than this on any runtime",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables (docs/ptq_report.md)")
    parser.add_argument("--report", metavar="FILE.html", help="write a page as well")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def _counts(text: str) -> List[int]:
    return [_count(part) for part in text.split(",")]


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand.

    Returns:
        0; 1 when ``--fail-below`` is not met; 2 when the quantized model ran nowhere.

    Raises:
        SlimkitError: a model, the data or an argument is wrong.
    """
    from slimkit.recipe.verify_run import run_verification
    from slimkit.recipe.verify_show import show_verification

    if arguments.report:
        _check_writable(arguments.report)
    report = run_verification(arguments)
    if arguments.json:
        print(report.model_dump_json(indent=1))
    else:
        show_verification(report)
    if arguments.report:
        from slimkit.files import atomic_write
        from slimkit.recipe.ptq_html import render

        atomic_write(arguments.report, render(report).encode())
    return exit_code(report, arguments.fail_below, _say)


def _check_writable(path: str) -> None:
    """Refuses a page that cannot be written before anything is run for it."""
    import os

    from slimkit.errors import SlimkitError

    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "no permission"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise SlimkitError(f"--report {path} cannot be written: {reason}; choose another folder.")


def exit_code(report: PtqRunReport, fail_below: Any, say: Any) -> int:
    """The exit code, saying on ``say`` why it is not 0."""
    quantized = [item for item in report.results if item.model not in ("float", "simulated")]
    if all(item.status in ("failed", "unavailable") for item in quantized):
        say("the quantized model ran on no runtime; the table says why.")
        return EXIT_ERROR
    if fail_below is None:
        return EXIT_OK
    worse = list(_worse(report, quantized, fail_below))
    for sentence in worse:
        say(sentence)
    return EXIT_WORSE if worse else EXIT_OK


def _worse(report: PtqRunReport, quantized: Sequence[Any], fail_below: float) -> Any:
    from slimkit.recipe.ptq_rows import figure_name

    for item in quantized:
        base = report.base(item)
        own, floats = report.accuracy(item), report.accuracy(base)
        if item.status in ("failed", "unavailable"):
            yield f"{item.title}: {item.reason}"
        elif base is not None and base.status == "failed":
            yield f"{base.title}: {base.reason}"
        elif own is not None and floats is not None and 100 * (floats - own) > fail_below + 1e-9:
            lost = 100 * (floats - own)
            figure = figure_name(report.headline)
            yield f"{item.title}: {figure} fell by {lost:.2f} points, more than --fail-below {fail_below:g}."


def _say(sentence: str) -> None:
    import sys

    sys.stderr.write(f"slimkit: {sentence}\n")
