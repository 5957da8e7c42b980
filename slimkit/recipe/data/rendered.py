"""``rendered:KIND:COUNT[:SEED]``: text data that is drawn when it is first asked for and kept in the cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from slimkit.errors import ConfigError, SlimkitError
from slimkit.recipe.data.cache import cache_dir
from slimkit.recipe.data.text_folders import KINDS, RENDERING, write_text_folder

__all__ = ["RENDERED", "rendered_folder"]

RENDERED = "rendered:"


def rendered_folder(name: str) -> Path:
    """The folder of rendered text data, in PaddleOCR's form.

    Args:
        name: ``rendered:rec:200`` (lines to read), ``rendered:cls:200:7`` (lines to turn, seed 7) or
            ``rendered:det:40`` (pages).

    Raises:
        ConfigError: another form.
        DataError: no font for a language.
        SlimkitError: the cache cannot be written.
    """
    parts = name[len(RENDERED) :].split(":")
    if len(parts) not in (2, 3) or parts[0] not in KINDS or not all(part.isdigit() for part in parts[1:]):
        raise ConfigError(f"{name}: rendered data is written rendered:KIND:COUNT[:SEED], KIND of {', '.join(KINDS)}.")
    kind, count, seed = parts[0], int(parts[1]), int(parts[2]) if len(parts) == 3 else 0
    folder = cache_dir() / "text_folders" / f"{kind}-{count}-{seed}-v{RENDERING}"
    if (folder / "label.txt").is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.mkdtemp(dir=folder.parent)
    except OSError as error:
        raise SlimkitError(f"{folder.parent} cannot be written: {error.strerror}; set SLIMKIT_CACHE.") from None
    try:
        write_text_folder(kind, scratch, count, seed=seed)
        os.replace(scratch, folder)
    except OSError:
        if not (folder / "label.txt").is_file():  # else another run was first
            raise SlimkitError(f"{folder} cannot be written; remove it, or set SLIMKIT_CACHE.") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder
