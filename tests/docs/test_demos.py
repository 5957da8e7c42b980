"""The demos do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _run(name: str, output: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "demo" / name), str(output)],
        cwd=output, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# Slow: CI runs the same steps in tests/tutorials and in the README's blocks.
@pytest.mark.slow
@pytest.mark.parametrize("name, least", [("own_model.py", 75.0), ("static_pact.py", 70.0)])
def test_demo(name: str, least: float, tmp_path: Path) -> None:
    said = _run(name, tmp_path)
    accuracies = [float(number) for number in re.findall(r"top-1 ([\d.]+)%", said)]
    assert accuracies and min(accuracies) > least, said
    assert max(accuracies) - min(accuracies) < 1.5, said
    assert (tmp_path / "int8.pdmodel").is_file() and (tmp_path / "int8.pdiparams").is_file()
    assert {path.suffix for path in tmp_path.iterdir()} == {".pdmodel", ".pdiparams"}  # and nothing else is left


@pytest.mark.slow
def test_demo_of_a_dygraph_network(tmp_path: Path) -> None:
    said = _run("dygraph_qat.py", tmp_path)
    before, simulated, int8 = (float(number) for number in re.findall(r"top-1 ([\d.]+)%", said))
    assert min(before, int8) > 70 and abs(simulated - int8) < 1, said
    assert (tmp_path / "qat.pdmodel").is_file() and (tmp_path / "paddle" / "model.pdmodel").is_file()
