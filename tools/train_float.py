#!/usr/bin/env python
"""Trains a float network: ``python tools/train_float.py -c configs/mbv3_float.yml [-o key=value ...]``."""

from __future__ import annotations

import argparse
import shlex
import sys
import zlib  # noqa: F401  before paddle: the other order can crash in inflate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console

from slimkit.errors import SlimkitError
from slimkit.recipe.config_file import load_as
from slimkit.recipe.float_config import FloatConfig
from slimkit.recipe.float_training import train_float


def main() -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-c", "--config", required=True, help="config file")
    parser.add_argument("-o", "--override", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--resume", action="store_true", help="continue from the output folder's checkpoint")
    arguments = parser.parse_args()
    # A resumed run gives the same weights, so the card tells how to make them in one go.
    command = shlex.join(["python", *(word for word in sys.argv if word != "--resume")])
    try:
        config = load_as(FloatConfig, arguments.config, arguments.override)
        train_float(config, resume=arguments.resume, command=command, console=Console(highlight=False))
    except SlimkitError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
