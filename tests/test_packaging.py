"""setup.py ships every file, and never drags a Paddle in."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any, Dict

import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def arguments() -> Dict[str, Any]:
    """The arguments of ``setup(...)``."""
    found: Dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **given: found.update(given))
        patch.chdir(ROOT)
        code = compile((ROOT / "setup.py").read_text(encoding="utf-8"), str(ROOT / "setup.py"), "exec")
        exec(code, {"__file__": str(ROOT / "setup.py"), "__name__": "setup"})
    return found


def test_every_data_file_is_in_package_data(arguments: Dict[str, Any]) -> None:
    data = arguments["package_data"]
    for file in (ROOT / "slimkit").rglob("*"):
        if not file.is_file() or file.suffix in (".py", ".pyc"):
            continue
        shipped = False
        for package, patterns in data.items():
            folder = ROOT / package.replace(".", "/")
            if folder in file.parents:
                shipped |= any(fnmatch.fnmatch(file.relative_to(folder).as_posix(), pattern) for pattern in patterns)
        assert shipped, f"{file.relative_to(ROOT)} is not shipped: add it to package_data in setup.py"


def test_every_folder_with_code_is_a_package(arguments: Dict[str, Any]) -> None:
    folders = {file.parent for file in (ROOT / "slimkit").rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == set(arguments["packages"])


def test_paddle_comes_with_the_cpu_extra_alone(arguments: Dict[str, Any]) -> None:
    def named(requirements: Any) -> set:
        return {re.split(r"[^A-Za-z0-9_.-]", text)[0].lower() for text in requirements}

    assert not any(name.startswith("paddle") for name in named(arguments["install_requires"]))
    with_paddle = [extra for extra, needs in arguments["extras_require"].items() if "paddlepaddle" in named(needs)]
    assert with_paddle == ["cpu"]


def test_the_version_is_the_package_s(arguments: Dict[str, Any]) -> None:
    import slimkit

    assert arguments["version"] == slimkit.__version__
