"""The slimkit command: help, exit codes, one sentence for an error, and how fast it is there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slimkit.cli import main
from slimkit.errors import ModelError
from slimkit.version import __version__

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def slimkit(*arguments, cwd=None):
    command = [sys.executable, "-m", "slimkit.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=cwd, check=False)


def test_help_imports_neither_paddle_nor_anything_slow():
    code = (
        "import sys; from slimkit.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'paddle', 'pydantic', 'cv2', 'rich', 'jinja2', 'numpy', 'matplotlib', 'yaml'}\n"
        "heavy = slow & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    best = min(_seconds("--help") - _seconds_of_python() for _ in range(3))
    assert best < 0.3


def _seconds(*arguments):
    start = time.perf_counter()
    assert slimkit(*arguments).returncode == 0
    return time.perf_counter() - start


def _seconds_of_python():
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - start


@pytest.mark.parametrize("command", [[], ["quant"], ["inspect"], ["convert"], ["lite-install"]])
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([*command, "--help"])
    assert done.value.code == 0
    assert "example" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"slimkit {__version__}"


@pytest.mark.parametrize("arguments", [[], ["quantize"], ["quant"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2 and "usage: slimkit" in capsys.readouterr().err


def test_error_is_one_sentence_without_traceback(tmp_path):
    done = slimkit("quant", "-c", str(tmp_path / "no.yml"))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("slimkit: ") and done.stderr.count("\n") == 1
    assert "no.yml: no such config file" in done.stderr


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setenv("SLIMKIT_DEBUG", "1")
    from slimkit.errors import ConfigError

    with pytest.raises(ConfigError):
        main(["quant", "-c", str(tmp_path / "no.yml")])


@pytest.mark.parametrize(
    "arguments, called",
    [
        (["quant", "-c", "a.yml"], ("a.yml", [], False)),
        (
            ["quant", "-c", "a.yml", "-o", "x=1", "y=2", "-o", "z=[3, 4]"],
            ("a.yml", ["x=1", "y=2", "z=[3, 4]"], False),
        ),
        (["quant", "--config", "a.yml", "--resume"], ("a.yml", [], True)),
    ],
)
def test_quant_arguments(arguments, called, monkeypatch):
    got = []
    monkeypatch.setattr(
        "slimkit.recipe.runner.run_recipe", lambda file, over, *, resume: got.append((file, over, resume))
    )
    assert main(arguments) == 0 and got == [called]


def test_tool_is_the_same_command(tmp_path):
    tool = [sys.executable, str(ROOT / "tools" / "quant.py"), "-c", str(tmp_path / "no.yml")]
    done = subprocess.run(tool, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == slimkit("quant", "-c", str(tmp_path / "no.yml"), cwd=tmp_path).stderr


def test_interrupt_is_130(monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("slimkit.recipe.runner.run_recipe", stop)
    assert main(["quant", "-c", "a.yml"]) == 130 and capsys.readouterr().err == "slimkit: interrupted.\n"


def test_interrupted_run_is_130_and_says_how_to_go_on(monkeypatch, capsys):
    from slimkit.recipe.training import Interrupted

    def stop(*_, **__):
        raise Interrupted("stopped at step 3 of 9.")

    monkeypatch.setattr("slimkit.recipe.runner.run_recipe", stop)
    assert main(["quant", "-c", "a.yml"]) == 130 and capsys.readouterr().err == "slimkit: stopped at step 3 of 9.\n"


def test_errors_of_any_kind_are_caught_by_their_base(monkeypatch, capsys):
    def fail(*_, **__):
        raise ModelError("the model is not one.")

    monkeypatch.setattr("slimkit.recipe.runner.run_recipe", fail)
    assert main(["quant", "-c", "a.yml"]) == 2 and capsys.readouterr().err == "slimkit: the model is not one.\n"
