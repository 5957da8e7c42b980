"""docs/pruning_groups.md lists the rules that there are."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from slimkit.prune.rules import RULES
from slimkit.prune.rules.refused import REFUSED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pruning_groups.md"


def _listed(title: str, column: int) -> set:
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| ") and "---" not in line]
    return {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row[column])}


def test_the_tables():
    assert _listed("Ops with a rule", 2) == set(RULES)
    assert _listed("What stays", 1) == set(REFUSED)


def test_the_print(tmp_path: Path, capsys):
    """The example prints what the page says, but for the numbers in Paddle's names."""
    text = PAGE.read_text(encoding="utf-8")
    (code,), (printed,) = re.findall(r"```python\n(.*?)```", text, re.S), re.findall(r"```text\n(.*?)```", text, re.S)
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    runpy.run_path(str(tmp_path / "page.py"))

    def plain(lines: str) -> str:
        return re.sub(r"(2d|linear)_\d+", r"\1", lines)

    assert plain(capsys.readouterr().out) == plain(printed)
