"""``slimkit flops``: what one run of a network costs."""

from __future__ import annotations

import argparse
from typing import Any, List, Tuple

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "flops",
        help="count a model's multiply-accumulates, floating-point operations and parameters",
        description="Counts what one run costs: MACs (multiply-accumulates, which papers on pruning call FLOPs), FLOPs "
        "(2 x MACs and every other operation) and parameters.",
        epilog="examples:\n  slimkit flops inference/ --input x=1,3,224,224\n"
        "  slimkit flops PP-OCRv5_rec/inference.json --input x=1,3,48,320 --detail",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help=".pdmodel or .json file, prefix or folder")
    parser.add_argument(
        "--input", action="append", default=[], type=_input, metavar="NAME=SIDES",
        help="shape of a feed, such as x=1,3,224,224 (default: as the model declares it, a dynamic batch being 1)",
    )  # fmt: skip
    parser.add_argument("--detail", action="store_true", help="list every op with multiply-accumulates")
    parser.add_argument("--json", action="store_true", help="print JSON, every op in it")
    parser.set_defaults(run=run)


def _input(text: str) -> Tuple[str, List[int]]:
    name, equals, sides = text.rpartition("=")
    try:
        shape = [int(side) for side in sides.split(",")]
    except ValueError:
        shape = []
    if not equals or not name or not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=SIDES, such as x=1,3,224,224")
    return name, shape


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand.

    Raises:
        SlimkitError: one sentence: no such model, or a feed's shape is not known.
    """
    import json

    from slimkit.analysis import complexity

    found = complexity(arguments.model, dict(arguments.input) or None)
    if arguments.json:
        print(json.dumps(found.to_dict(), indent=1))
        return 0
    if arguments.detail:
        print(found)
        print()
    for name, shape in found.input_shapes.items():
        print(f"input       {name} {list(shape)}")
    print(f"MACs        {_short(found.macs)}  ({found.macs:,})")
    print(f"FLOPs       {_short(found.flops)}  ({found.flops:,})")
    print(f"parameters  {_short(found.parameters)}  ({found.parameters:,})")
    if found.uncounted and not arguments.detail:
        print("not counted " + ", ".join(f"{kind} ({count})" for kind, count in found.uncounted.items()))
    return 0


def _short(count: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.2f} {letter}"
    return str(count)
