"""docs/config.md is what the schemas say, and every shipped config is valid."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slimkit.recipe.config import RecipeConfig
from slimkit.recipe.config_docs import PAGES, render_config_docs
from slimkit.recipe.config_file import load_config
from slimkit.recipe.config_messages import all_keys, section_of

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ["mbv3_pact", "mbv3_qat", "mbv3_pact_w4a4", "mbv3_qat_w4a4", "ppocr_cls_pact"]


@pytest.mark.parametrize("name", PAGES)
def test_docs_are_current(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert text == PAGES[name](), "run python tools/gen_config_docs.py"


def test_check_of_the_script_agrees():
    script = [sys.executable, str(ROOT / "tools" / "gen_config_docs.py"), "--check"]
    assert subprocess.run(script, check=False).returncode == 0


def test_every_key_is_documented_and_described():
    text = render_config_docs()
    for key in all_keys(RecipeConfig):
        section, _, name = key.rpartition(".")
        assert f"`{name}`" in text, key
        owner = RecipeConfig
        for part in section.split(".") if section else ():
            owner = section_of(owner.model_fields[part].annotation)
        assert owner.model_fields[name].description, f"{key} has no description"


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_config_is_valid(name):
    config = load_config(str(ROOT / "configs" / f"{name}.yml"))
    assert config.run.output == f"output/{name}"


def test_the_pairs_differ_only_in_pact():
    for bits in ("", "_w4a4"):
        pact = load_config(str(ROOT / "configs" / f"mbv3_pact{bits}.yml")).model_dump()
        plain = load_config(str(ROOT / "configs" / f"mbv3_qat{bits}.yml")).model_dump()
        assert pact.pop("pact") is not None and plain.pop("pact") is None
        pact["run"].pop("output"), plain["run"].pop("output")
        assert pact == plain
