"""Writes ``docs/config.md`` from the schemas; with ``--check`` it only compares."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from slimkit.recipe.config_docs import render_config_docs  # noqa: E402


def main(arguments: list) -> int:
    path, text = ROOT / "docs" / "config.md", render_config_docs()
    current = path.exists() and path.read_text(encoding="utf-8") == text
    if "--check" in arguments:
        if not current:
            sys.stderr.write("docs/config.md is out of date; run python tools/gen_config_docs.py\n")
        return 0 if current else 1
    if not current:
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
