"""Writes ``docs/config.md``, ``docs/report.md`` and more from schemas and tables; with ``--check`` it only compares."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from slimkit.plugins import names_docs  # noqa: E402
from slimkit.recipe import config_docs  # noqa: E402


def main(arguments: list) -> int:
    old = []
    for name, render in {**config_docs.PAGES, **names_docs.PAGES}.items():
        path, text = ROOT / "docs" / name, render()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        old.append(name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    if "--check" in arguments and old:
        sys.stderr.write(f"docs: {', '.join(old)} out of date; run python tools/gen_config_docs.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
