"""The ``slimkit`` command. Everything heavy is imported by the subcommand that needs it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import zlib  # noqa: F401  (Paddle's own zlib must not be loaded first, or gzip crashes later)
from typing import Callable, Dict, Optional, Sequence, Tuple

from slimkit.errors import SlimkitError
from slimkit.version import __version__

__all__ = ["main"]

EXIT_OK, EXIT_ERROR, EXIT_INTERRUPTED = 0, 2, 130

#: Subcommands that are modules with ``add_parser(commands)`` and ``run(arguments) -> int``.
COMMAND_MODULES: Tuple[str, ...] = (
    "slimkit.recipe.ptq_command",
    "slimkit.recipe.export_command",
    "slimkit.recipe.verify_command",
    "slimkit.recipe.analyze_command",
    "slimkit.recipe.flops_command",
    "slimkit.recipe.prune_command",
    "slimkit.plugins.run_command",
)

_DESCRIPTION = "Compress PaddlePaddle models and run what was exported on the runtime it is for."
_EPILOG = """\
examples:
  slimkit quant -c configs/mbv3_pact.yml
  slimkit quant -c configs/mbv3_pact.yml -o train.epochs=4 run.output=output/four
  slimkit quant -c configs/mbv3_pact.yml --resume
  slimkit ptq inference.json out --data images/ --to paddle,onnx,lite-arm
  slimkit prune -c configs/resnet_prune_sensitive.yml
  slimkit inspect output/mbv3_pact/int8/model
  slimkit convert inference.json out/
  slimkit run tools/train.py -c config.yml        a script that imports paddleslim, unchanged

`slimkit COMMAND --help` explains a command. With SLIMKIT_DEBUG=1 an error shows its whole traceback.
"""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        The exit code: 0 well, 2 an error (one sentence on stderr), 130 interrupted.
    """
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command in _COMMANDS:
            return _COMMANDS[arguments.command](arguments)
        if arguments.command != "run":  # a script's screen is its own
            _quiet_paddle()
        return arguments.run(arguments)
    except SlimkitError as error:
        if os.environ.get("SLIMKIT_DEBUG") == "1":
            raise
        sys.stderr.write(f"slimkit: {error}\n")
        return getattr(error, "exit_code", EXIT_ERROR)
    except KeyboardInterrupt:
        sys.stderr.write("slimkit: interrupted.\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_ERROR


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("slimkit", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"slimkit {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    quant = commands.add_parser(
        "quant",
        help="quantize a model from a config file: train, export, verify, report",
        description="Runs a quantization recipe in four steps: choose the quantization config, convert the "
        "model, train, save and verify. The output folder gets the int8 model, report.html and report.json.",
        epilog="examples:\n  slimkit quant -c configs/mbv3_pact.yml\n"
        "  slimkit quant -c configs/mbv3_pact.yml -o quant.weight_bits=4 data.root=/data/imagenet\n"
        "  slimkit quant -c configs/mbv3_pact.yml --resume\n\nEvery key is explained in docs/config.md.",
        formatter_class=raw,
    )
    quant.add_argument("-c", "--config", required=True, metavar="FILE", help="recipe such as configs/mbv3_pact.yml")
    quant.add_argument(
        "-o", "--override", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="change keys of the config: dotted name, value in YAML (3, 1e-3, true, null, [1, 2])",
    )  # fmt: skip
    quant.add_argument("--resume", action="store_true", help="go on from the output folder's last checkpoint, if any")

    inspect = commands.add_parser(
        "inspect",
        help="show what is in a model: inputs, ops, sizes, quantized tensors",
        description="Shows a model's inputs and outputs, ops, parameters, size and what of it is quantized.",
        epilog="example:\n  slimkit inspect output/mbv3_pact/int8/model",
        formatter_class=raw,
    )
    inspect.add_argument("model", metavar="MODEL", help=".pdmodel or .json file, prefix or folder")
    inspect.add_argument("--json", action="store_true", help="print JSON instead of tables")

    convert = commands.add_parser(
        "convert",
        help="rewrite a Paddle 3 .json model (or a .pdmodel) as the legacy .pdmodel that Paddle-Lite reads",
        description="Reads a Paddle 3 PIR .json model, or a legacy .pdmodel, and writes DST as "
        ".pdmodel + .pdiparams, which Paddle Inference and Paddle-Lite's opt accept.",
        epilog="examples:\n  slimkit convert inference.json out/\n  slimkit convert PP-OCRv5_rec/ out/rec",
        formatter_class=raw,
    )
    convert.add_argument("source", metavar="SRC", help="model file, prefix or folder")
    convert.add_argument("target", metavar="DST", help="prefix to write, or a folder (ends in /)")

    lite = commands.add_parser(
        "lite-install",
        help="set up the side interpreter that Paddle-Lite needs",
        description="Paddle-Lite's Python package exists for CPython 3.8 and 3.10 only. This makes a virtual "
        "environment with it, which verification then uses.",
        epilog="example:\n  slimkit lite-install --python /usr/bin/python3.10",
        formatter_class=raw,
    )
    lite.add_argument(
        "folder", nargs="?", metavar="DIR", help="virtual environment to make (default: in slimkit's cache folder)"
    )
    lite.add_argument("--python", metavar="EXE", help="CPython 3.10 or 3.8 to build on (default: search)")
    for module in COMMAND_MODULES:
        importlib.import_module(module).add_parser(commands)
    return parser


def _quant(arguments: argparse.Namespace) -> int:
    _quiet_paddle()
    from slimkit.recipe.runner import run_recipe

    run_recipe(arguments.config, arguments.override, resume=arguments.resume)
    return EXIT_OK


def _quiet_paddle() -> None:
    """Keeps Paddle's own log lines and warnings off the screen, unless the user asks for them."""
    if os.environ.get("SLIMKIT_DEBUG") == "1":
        return
    import warnings

    os.environ.setdefault("GLOG_minloglevel", "2")
    warnings.filterwarnings("ignore", module=r"paddle(\.|$)")


def _inspect(arguments: argparse.Namespace) -> int:
    _quiet_paddle()
    from slimkit.recipe.show import show_inspection

    show_inspection(arguments.model, as_json=arguments.json)
    return EXIT_OK


def _convert(arguments: argparse.Namespace) -> int:
    _quiet_paddle()
    from slimkit.recipe.show import show_conversion

    show_conversion(arguments.source, arguments.target)
    return EXIT_OK


def _lite_install(arguments: argparse.Namespace) -> int:
    _quiet_paddle()
    from slimkit.recipe.show import show_lite_install

    show_lite_install(arguments.folder, arguments.python)
    return EXIT_OK


_COMMANDS: Dict[str, Callable[[argparse.Namespace], int]] = {
    "quant": _quant,
    "inspect": _inspect,
    "convert": _convert,
    "lite-install": _lite_install,
}


if __name__ == "__main__":
    sys.exit(main())
