"""``slimkit run SCRIPT ARGS`` and ``slimkit run -m MODULE ARGS``."""

from __future__ import annotations

import argparse
import sys

from slimkit.plugins.launcher import LaunchError, run_module, run_script, switch_on, without_own_frames

__all__ = ["add_parser", "run"]

INTERRUPTED = 130

_EPILOG = """\
examples:
  slimkit run tools/train.py -c configs/picodet.yml --slim_config configs/slim/quant.yml
  slimkit run -m pytest tests/test_quant.py
  slimkit run -m paddle.distributed.launch --gpus 0,1 tools/train.py -c config.yml

SLIMKIT_AS_PADDLESLIM=1 does the same for every Python process that has it in its environment.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds ``run`` to the command line."""
    parser = commands.add_parser(
        "run",
        help="run a script that uses paddleslim, unchanged, on slimkit",
        description="Runs SCRIPT or MODULE as python would, in a process where `import paddleslim` is slimkit and "
        "static scripts written for Paddle 2 build programs that can be quantized and pruned.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="slimkit run SCRIPT [ARGS...]\n       slimkit run -m MODULE [ARGS...]",
    )
    # All that follows -m, or the script, is the script's: also what looks like an option.
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, metavar="MODULE", help="with its arguments")
    parser.add_argument("script", nargs=argparse.REMAINDER, metavar="SCRIPT", help="with its arguments")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs what was asked, and leaves the process as the script's: nothing is switched back.

    Returns:
        0, or what ``python`` returns after an error of the script, whose traceback was printed.

    Raises:
        LaunchError: nothing, or nothing that exists, was asked for.
        SystemExit: the script's own.
    """
    asked = arguments.script if arguments.module is None else arguments.module
    if not asked:
        raise LaunchError("`slimkit run` needs a script, or -m and a module; see `slimkit run --help`.")
    start = run_script if arguments.module is None else run_module
    switch_on()
    try:
        start(asked[0], asked[1:])
    except (LaunchError, SystemExit):
        raise
    except BaseException as error:
        error.__traceback__ = without_own_frames(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    return 0
