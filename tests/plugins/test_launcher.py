"""``slimkit run`` beside ``python``: the same process, the same errors; and SLIMKIT_AS_PADDLESLIM in its children."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

import slimkit
from slimkit.plugins import alias, launcher, startup

ROOT = Path(slimkit.__file__).parents[1]

#: Says what the process looks like, then ends as its first argument asks.
SCRIPT = """\
import os, sys

def end(how):
    if how == "exit": sys.exit(3)
    if how == "message": sys.exit("bye")
    if how == "interrupt": raise KeyboardInterrupt
    if how == "cause":
        try:
            end("raise")
        except ValueError as error:
            raise KeyError("chained") from error
    if how == "own":
        from slimkit.errors import ConfigError
        raise ConfigError("from a library call.")
    if how == "raise": raise ValueError("boom")
    if how == "hook":
        sys.excepthook = lambda kind, error, trace: print("hooked", kind.__name__, trace.tb_frame.f_code.co_name)
        raise ValueError

print(sys.argv, sys.path[0], __name__, __file__, __package__, sorted(set(globals()) - {"__spec__", "__annotations__"}))
print(sys.modules["__main__"].__dict__ is globals())
end(sys.argv[1])
"""

PLAIN = [sys.executable]
RUN = [sys.executable, "-c", "import sys; from slimkit.cli import main; sys.exit(main())", "run"]


def _environment(**more: str) -> Dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != startup.VARIABLE}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def _start(command: List[str], folder: Path, environment: Optional[Dict[str, str]] = None) -> Tuple[int, str, str]:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environment or _environment()
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").write_text("")
    (tmp_path / "tools" / "script.py").write_text(SCRIPT)
    (tmp_path / "tools" / "wrong.py").write_text("x = = 1\n")
    return tmp_path


# ------------------------------------------------------------------ as python would


@pytest.mark.parametrize("how", ["well", "exit", "message", "raise", "cause", "own", "hook"])
def test_a_script_runs_as_under_python(folder: Path, how: str) -> None:
    arguments = ["tools/script.py", how, "-m", "x", "--help"]
    assert _start(RUN + arguments, folder) == _start(PLAIN + arguments, folder)


def test_an_interrupt_is_130(folder: Path) -> None:
    code, out, error = _start([*RUN, "tools/script.py", "interrupt"], folder)
    assert (code, out, error) == (130, *_start([*PLAIN, "tools/script.py", "interrupt"], folder)[1:])


def test_a_module_runs_as_under_python(folder: Path) -> None:
    arguments = ["-m", "tools.script", "exit", "-m", "--help"]
    run, plain = _start(RUN + arguments, folder), _start(PLAIN + arguments, folder)
    assert run[0] == plain[0] == 3
    assert run[1] == plain[1]


def test_a_module_s_traceback_begins_in_the_module(folder: Path) -> None:
    code, _, error = _start([*RUN, "-m", "tools.script", "raise"], folder)
    assert code == 1 and "slimkit" not in error and "runpy" not in error
    assert error.splitlines()[1].strip().startswith(f'File "{folder}/tools/script.py"')


def test_pytest_runs_tests_that_import_paddleslim(folder: Path) -> None:
    test = "import paddleslim\ndef test_it(): assert 'slimkit' in paddleslim.__version__\ndef test_not(): assert 0\n"
    (folder / "test_x.py").write_text(test)
    code, out, _ = _start([*RUN, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_x.py"], folder)
    assert code == 1 and "1 failed, 1 passed" in out


def test_a_syntax_error_is_python_s(folder: Path) -> None:
    assert _start([*RUN, "tools/wrong.py"], folder) == _start([*PLAIN, "tools/wrong.py"], folder)


def test_a_folder_with_main_runs(folder: Path) -> None:
    (folder / "tools" / "__main__.py").write_text("import sys; print(sys.argv[1:], sys.path[0], __name__)")
    assert _start([*RUN, "tools", "a"], folder) == _start([*PLAIN, "tools", "a"], folder)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nothing.py"], "slimkit: There is no script 'nothing.py' in "),
        (["-m", "nothing.at.all"], "slimkit: There is no module 'nothing.at.all' for `slimkit run -m`"),
        (["-m", "tools"], "slimkit: 'tools' is a package without a module __main__"),
        (["-m", "tools.nothing"], "slimkit: There is no module 'tools.nothing' for `slimkit run -m`"),
        (["-m"], "slimkit: `slimkit run` needs a script, or -m and a module"),
        ([], "slimkit: `slimkit run` needs a script, or -m and a module"),
    ],
)
def test_what_is_not_there_is_one_sentence(folder: Path, arguments: List[str], text: str) -> None:
    code, _, error = _start(RUN + arguments, folder)
    assert code == 2 and error.startswith(text) and len(error.splitlines()) == 1


# ------------------------------------------------------------------ its children

CHILDREN = """\
import multiprocessing, subprocess, sys

def version(_):
    import paddleslim
    return paddleslim.__version__

if __name__ == "__main__":
    own = version(0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(version, [0]) == [own]
    code = "import sys; assert 'paddle' not in sys.modules; import paddleslim; print(paddleslim.__version__)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == own
    print(own)
"""


def test_processes_that_a_script_starts_have_the_alias(folder: Path) -> None:
    (folder / "children.py").write_text(CHILDREN)
    code, out, error = _start([*RUN, "children.py"], folder)
    assert (code, out.strip()) == (0, alias.VERSION), error


def test_an_own_sitecustomize_is_still_run(folder: Path) -> None:
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text("import builtins; builtins.customized = __file__")
    code = "import subprocess, sys\n" + "subprocess.run([sys.executable, '-c', 'print(customized)'], check=True)\n"
    (folder / "script.py").write_text(code)
    environment = _environment(PYTHONPATH=os.pathsep.join([str(folder / "site"), str(ROOT)]))
    found = _start([*RUN, "script.py"], folder, environment)
    assert found == (0, f"{folder}/site/sitecustomize.py\n", "")


def _installed(folder: Path) -> Path:
    """A folder with the file that setup.py puts into site-packages."""
    import setuptools

    given: Dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
        patch.chdir(ROOT)
        exec(compile((ROOT / "setup.py").read_text(), "setup.py", "exec"), {"__file__": str(ROOT / "setup.py")})
        command = given["cmdclass"]["build_py"](setuptools.Distribution({"packages": []}))
        command.build_lib, command.build_temp = str(folder), str(folder)
        command.ensure_finalized()
        command.run()
        assert str(folder / launcher.PTH) in command.get_outputs()
    return folder


def test_the_variable_alone_is_enough_where_slimkit_is_installed(tmp_path: Path) -> None:
    folder = _installed(tmp_path)
    code = f"import site, sys; site.addsitedir({str(folder)!r}); import paddleslim; print(paddleslim.__version__)"
    command = [sys.executable, "-c", code]
    assert _start(command, folder, _environment(SLIMKIT_AS_PADDLESLIM="1"))[1].strip() == alias.VERSION
    for value in ("0", ""):
        failed = _start(command, folder, _environment(SLIMKIT_AS_PADDLESLIM=value))
        assert failed[0] == 1 and "No module named 'paddleslim'" in failed[2]


def test_without_the_variable_nothing_of_slimkit_is_imported(tmp_path: Path) -> None:
    folder = _installed(tmp_path)
    code = f"import site, sys; site.addsitedir({str(folder)!r}); print([m for m in sys.modules if 'slimkit' in m])"
    assert _start([sys.executable, "-c", code], folder)[1].strip() == "[]"
    with_it = code.replace("'slimkit' in m", "m in ('paddle', 'numpy')")
    found = _start([sys.executable, "-c", with_it], folder, _environment(SLIMKIT_AS_PADDLESLIM="1"))
    assert found[1].strip() == "[]"


# ------------------------------------------------------------------ inside a program


def _state() -> Tuple[Any, ...]:
    names = (startup.VARIABLE, "PYTHONPATH")
    modules = {name for name in sys.modules if name.startswith("paddleslim")}
    return tuple(map(os.environ.get, names)), list(sys.meta_path), list(sys.path), sys.argv, modules


def test_everything_is_restored_after_a_run_in_process(tmp_path: Path) -> None:
    import numpy

    script = tmp_path / "script.py"
    script.write_text("import paddleslim, numpy, sys; numpy.sctypes; sys.argv.append('seen'); raise OSError('mine')")
    before, main, had = _state(), sys.modules["__main__"], hasattr(numpy, "sctypes")
    with pytest.raises(OSError, match="mine"), launcher.restored(), launcher.as_paddleslim():
        launcher.run_script(str(script), ["a"])
    assert _state() == before and sys.modules["__main__"] is main
    assert hasattr(numpy, "sctypes") == had


def test_one_inside_another_leaves_the_outer_on() -> None:
    before = _state()
    with launcher.as_paddleslim():
        with launcher.as_paddleslim():
            pass
        assert startup.is_installed() and os.environ[startup.VARIABLE] == "1"
    assert not startup.is_installed() and _state() == before


# ------------------------------------------------------------------ the two IRs

STATIC = """\
import sys
import paddle
from paddle.static import InputSpec, Program, default_main_program, program_guard
import paddleslim

def export(prefix):
    network = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.Sigmoid())
    network = paddle.jit.to_static(network, input_spec=[InputSpec([None, 3, 8, 8])], full_graph=True)
    paddle.jit.save(network, prefix)

export("before")
paddle.enable_static()
program, startup = Program(), Program()
with program_guard(program, startup):
    image = paddle.static.data("image", [None, 3, 8, 8])
    hidden = paddle.static.nn.conv2d(image, 4, 3)
    result = paddle.sum(paddle.nn.functional.sigmoid(hidden * 2))
    assert default_main_program() is program
print(type(program).__module__, [op.type for op in program.global_block().ops][:2], paddleslim.analysis.flops(program))
paddle.disable_static()
export("after")
print(paddle.in_dynamic_mode(), int(paddle.ones([1])))
"""


def test_a_static_script_builds_legacy_programs_and_dygraph_exports_stay_as_they_are(folder: Path) -> None:
    (folder / "script.py").write_text(STATIC)
    code, out, error = _start([*RUN, "script.py"], folder)
    assert code == 0, error
    macs = 36 * 4 * 27
    assert out.splitlines() == [f"paddle.base.framework ['conv2d', 'elementwise_add'] {macs}", "True 1"]
    assert sorted(path.name for path in folder.glob("*.json")) == ["after.json", "before.json"]
    assert not list(folder.glob("*.pdmodel"))


def test_who_asks_for_pir_gets_it(folder: Path) -> None:
    (folder / "script.py").write_text("import paddle; paddle.enable_static(); print(type(paddle.static.Program()))")
    found = _start([*RUN, "script.py"], folder, _environment(FLAGS_enable_pir_api="1"))
    assert "pir.Program" in found[1], found
