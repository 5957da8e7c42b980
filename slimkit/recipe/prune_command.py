"""``slimkit prune`` and ``slimkit sensitivity``: their command lines."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any

__all__ = ["add_parser", "run", "run_sensitivities"]


def add_parser(commands: Any) -> None:
    """Adds both subcommands."""
    raw = argparse.RawDescriptionHelpFormatter
    prune = commands.add_parser(
        "prune",
        help="prune the filters of a network to a target, fine-tune it, export it, run it there",
        description="Runs a pruning recipe: finds which channels go together, chooses what goes (by sensitivity or "
        "uniformly), removes it, fine-tunes, optionally quantizes, exports, and runs the exports on their runtimes. "
        "The output folder gets the models, report.html and report.json.",
        epilog="examples:\n  slimkit prune -c configs/mbv1_prune_uniform.yml\n"
        "  slimkit prune -c configs/resnet_prune_sensitive.yml -o prune.target.macs=0.5 train.epochs=8\n"
        "  slimkit prune -c configs/resnet_prune_sensitive.yml --resume\n\n"
        "Every key is explained in docs/prune_config.md.",
        formatter_class=raw,
    )
    _common(prune)
    prune.add_argument("--resume", action="store_true", help="go on from the output folder's last checkpoint, if any")
    prune.set_defaults(run=run)
    sensitivity = commands.add_parser(
        "sensitivity",
        help="measure what a network loses when each layer alone is pruned",
        description="Measures the sensitivities that `slimkit prune` needs with the same config, writes each point as "
        "it comes (a run that was stopped goes on), and draws the curves.",
        epilog="example:\n  slimkit sensitivity -c configs/resnet_prune_sensitive.yml -o sensitivity.workers=4",
        formatter_class=raw,
    )
    _common(sensitivity)
    sensitivity.set_defaults(run=run_sensitivities)


def _common(parser: Any) -> None:
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="pruning recipe")
    parser.add_argument(
        "-o", "--override", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="change keys of the config: dotted name, value in YAML (3, 1e-3, true, null, [1, 2])",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Runs ``slimkit prune``.

    Raises:
        SlimkitError: one sentence.
    """
    from slimkit.recipe.config_file import load_as
    from slimkit.recipe.prune_run import run_prune
    from slimkit.recipe.prune_schema import PruneRecipe

    recipe = load_as(PruneRecipe, arguments.config, arguments.override)
    command = f"slimkit {shlex.join(sys.argv[1:])}"
    run_prune(recipe, resume=arguments.resume, command=command, config_file=arguments.config)
    return 0


def run_sensitivities(arguments: argparse.Namespace) -> int:
    """Runs ``slimkit sensitivity``.

    Raises:
        SlimkitError: one sentence.
    """
    from slimkit.recipe.config_file import load_as
    from slimkit.recipe.prune_run import run_sensitivity
    from slimkit.recipe.prune_schema import PruneRecipe

    run_sensitivity(load_as(PruneRecipe, arguments.config, arguments.override))
    return 0
