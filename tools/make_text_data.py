#!/usr/bin/env python
"""Renders text data in PaddleOCR's form: ``python tools/make_text_data.py rec|cls|det OUT --count N [--seed S]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from slimkit.errors import SlimkitError
from slimkit.recipe.data.text_folders import KINDS, write_text_folder


def main() -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=list(KINDS), help="lines to read, lines to turn, or pages to find lines on")
    parser.add_argument("out", help="folder to write images/ and label.txt to")
    parser.add_argument("--count", type=int, default=200, help="pictures (default 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--languages", default="latin,chinese", help="of latin and chinese (default both)")
    parser.add_argument("--fonts", nargs="*", default=[], help="font files or folders instead of those found")
    parser.add_argument("--difficulty", type=float, help="0 clean print to 1 bad photographs; default: the kind's own")
    arguments = parser.parse_args()
    try:
        labels = write_text_folder(
            arguments.kind,
            arguments.out,
            arguments.count,
            seed=arguments.seed,
            languages=arguments.languages.split(","),
            fonts=arguments.fonts,
            difficulty=arguments.difficulty,
        )
    except SlimkitError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    print(f"{arguments.count} pictures and {labels}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
