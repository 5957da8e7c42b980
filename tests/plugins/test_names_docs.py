"""docs/paddleslim_names.md is what the tables say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slimkit.plugins import alias
from slimkit.plugins.names import MODULES
from slimkit.plugins.names_docs import PAGES
from slimkit.plugins.repairs import all_repairs

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run python tools/gen_config_docs.py"


def test_the_page_has_every_module_name_and_repair() -> None:
    text = PAGES["paddleslim_names.md"]()
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| `")}
    for module, rows in MODULES.items():
        assert all(f"`{name}`" in lines[f"`{module}`"] for name in rows)
    for repair in all_repairs():
        assert f"| `{repair.module}` |" in text


def test_the_errors_in_the_page_are_what_is_said() -> None:
    text = (DOCS / "paddleslim.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:from|import) paddleslim[^`]*)` \| (.*) \|$", text, re.M)
    assert len(rows) >= 4
    alias.install()
    try:
        for statement, said in rows:
            with pytest.raises(ImportError) as caught:
                exec(statement, {})
            assert str(caught.value) == said
    finally:
        alias.uninstall()
