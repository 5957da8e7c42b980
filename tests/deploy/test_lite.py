from __future__ import annotations

import json
import stat
import sys

import numpy as np
import pytest

from slimkit.deploy import inspect, lite, lite_interpreter
from slimkit.deploy.lite_interpreter import VARIABLE, find_interpreter, install_interpreter, settings_file
from slimkit.errors import ConfigError, RuntimeFailedError, RuntimeUnavailableError, SlimkitError

from .conftest import INPUT, MIDDLE, SECOND, WEIGHT
from .programs import conv2d, hard_swish, on_grid


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """No interpreter is known: empty PATH, cache and variables."""
    for name in (VARIABLE, "SLIMKIT_CACHE", "PYENV_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(lite_interpreter, "_checked", {sys.executable: "it has no paddlelite"})
    (tmp_path / "bin").mkdir()
    return tmp_path


def fake_python(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_without_an_interpreter_the_sentence_says_how_to_get_one(alone):
    with pytest.raises(RuntimeUnavailableError, match=r"CPython 3\.10 or 3\.8.*lite-install.*SLIMKIT_LITE_PYTHON"):
        find_interpreter()
    assert "No Paddle-Lite was found" in lite.X86.available()


def test_order_of_search(alone, monkeypatch):
    on_path = fake_python(alone / "bin" / "python3.8", "exit 0")
    assert find_interpreter() == on_path
    better = fake_python(alone / "bin" / "python3.10", "exit 0")
    lite_interpreter._checked.clear()
    assert find_interpreter() in (better, sys.executable)
    installed = fake_python(alone / "installed" / "python", "exit 0")
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text(json.dumps({"python": installed}))
    assert find_interpreter() == installed
    named = fake_python(alone / "named" / "python", "exit 0")
    monkeypatch.setenv(VARIABLE, named)
    assert find_interpreter() == named
    assert find_interpreter(better) == better


def test_a_given_interpreter_that_does_not_work_is_not_replaced(alone):
    fake_python(alone / "bin" / "python3.10", "exit 0")
    bad = fake_python(alone / "bad", "echo \"ModuleNotFoundError: No module named 'paddlelite'\" >&2; exit 1")
    with pytest.raises(RuntimeUnavailableError, match="bad, has no usable Paddle-Lite: ModuleNotFoundError"):
        find_interpreter(bad)
    with pytest.raises(RuntimeUnavailableError, match="there is no such file"):
        find_interpreter(alone / "missing")


def test_install_needs_the_right_cpython(alone, monkeypatch):
    monkeypatch.setattr(lite_interpreter, "VERSIONS", ("2.0",))
    with pytest.raises(RuntimeUnavailableError, match="uv python install"):
        install_interpreter(alone / "venv")


def test_install_remembers_the_interpreter(alone):
    script = "if [ $1 = -c ]; then echo 3.10; fi; "
    script += 'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi; exit 0'
    base = fake_python(alone / "base", f"PATH=/bin:/usr/bin; {script}")
    made = install_interpreter(alone / "venv", base)
    assert made == str(alone / "venv" / "bin" / "python") and find_interpreter() == made


def test_install_failure_is_one_sentence(alone):
    base = fake_python(
        alone / "base", "if [ \"$1\" = -c ]; then echo 3.8; else echo 'ERROR: No space left' >&2; exit 1; fi"
    )
    with pytest.raises(
        RuntimeFailedError, match=r"Could not make a virtual environment in .*: ERROR: No space left\.$"
    ):
        install_interpreter(alone / "venv", base)
    assert not (alone / "venv").exists()


@pytest.mark.parametrize(("prints", "says"), [("3.11", "is CPython 3.11"), ("", "is not a python that runs")])
def test_install_refuses_another_python(alone, prints, says):
    base = fake_python(alone / "base", f"echo {prints}" if prints else "exit 1")
    with pytest.raises(RuntimeUnavailableError, match=says):
        install_interpreter(alone / "venv", base)


def test_kernels_are_read_from_the_file():
    data = b"..conv2d/int8_out/4/2/1..conv2d/int8_out/4/2/1\x00fc/def/4/1/1/x..calib/fp32_to_int8/2/2/1..a/b/9/9/9"
    assert lite.kernels(data) == {"calib": {"int8": 1}, "conv2d": {"int8": 2}, "fc": {"float": 1}}


def test_arm_is_not_run_here(tmp_path):
    with pytest.raises(RuntimeUnavailableError, match=r"copy the \.nb file"):
        lite.ARM.run(tmp_path / "m.nb", [INPUT])
    with pytest.raises(SlimkitError, match="There is no"):
        lite._nb(tmp_path / "m")


def test_unknown_target(models, tmp_path):
    with pytest.raises(ConfigError, match=r"'riscv'.*arm, x86"):
        lite.convert(models["float"], tmp_path / "m", "riscv")


pytestmark_lite = [pytest.mark.lite, pytest.mark.usefixtures("needs_lite")]


class TestWithPaddleLite:
    pytestmark = pytestmark_lite

    def test_float_on_x86(self, models, tmp_path):
        made = lite.convert(models["float"], tmp_path / "m", "x86")
        assert made.arithmetic == "float" and made.size_bytes == made.path.stat().st_size
        found = np.concatenate([b[0] for b in lite.X86.run(made.path, [INPUT[:1], INPUT[1:]])])
        wanted = conv2d(hard_swish(conv2d(INPUT, WEIGHT)), SECOND)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
        assert lite.X86.bench(made.path, INPUT, rounds=2, budget_seconds=0.02).median_ms > 0
        assert inspect(made.path).format == "nb"

    def test_quantized_on_x86_is_float_on_the_grid(self, models, tmp_path):
        made = lite.convert(models["onnx"], tmp_path / "m", "x86")
        assert made.arithmetic == lite.ON_GRID and made.int8_kernels == 0
        y = np.clip(hard_swish(conv2d(np.clip(INPUT, -3, 3), on_grid(WEIGHT))), -MIDDLE, MIDDLE)
        found = lite.X86.run(made.path, [INPUT])[0][0]
        np.testing.assert_allclose(found, conv2d(y, on_grid(SECOND)), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("name", ["onnx", "se_assign", "old"])
    def test_arm_has_int8_kernels_and_weights(self, models, tmp_path, name):
        made = lite.convert(models[name], tmp_path / name, "arm")
        assert made.arithmetic == "int8"
        assert set(made.kernels["conv2d"]) == {"int8"}

    def test_a_broken_model_is_one_sentence(self, models, tmp_path):
        for suffix in (".pdmodel", ".pdiparams"):
            data = open(models["float"] + suffix, "rb").read()
            (tmp_path / f"cut{suffix}").write_bytes(data if suffix == ".pdmodel" else data[:-8])
        with pytest.raises(SlimkitError) as caught:
            lite.convert(tmp_path / "cut", tmp_path / "m", "arm")
        assert "\n" not in str(caught.value) and not (tmp_path / "m.nb").exists()
