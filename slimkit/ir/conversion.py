"""Any Paddle model file -> the legacy pair that Paddle Inference and Paddle-Lite read."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

from slimkit.ir.loading import find_files
from slimkit.ir.model import Model

__all__ = ["convert"]


def convert(
    source: Union[str, Path],
    target: Union[str, Path],
    *,
    model_filename: Optional[str] = None,
    params_filename: Optional[str] = None,
) -> Path:
    """Converts a saved model (PIR ``.json`` or legacy) to ``.pdmodel`` + ``.pdiparams``.

    Args:
        source: folder, prefix or model file; see :meth:`Model.load`.
        target: a folder (existing, or written with a closing ``/``), which gets a pair named after the source;
            or the prefix (or ``.pdmodel`` path) to write.
        model_filename: the model file in a source folder.
        params_filename: the parameter file in a source folder.

    Returns:
        The path of the written ``.pdmodel``.

    Raises:
        ModelError: the source cannot be read.
        TranslationError: the source has an op slimkit does not know.
    """
    files = find_files(source, model_filename, params_filename)
    model = Model.load(source, model_filename=model_filename, params_filename=params_filename)
    prefix = Path(target)
    if str(target).endswith(("/", "\\")) or prefix.is_dir():
        stem = files.model.stem if files.model.suffix else "inference"
        prefix = prefix / stem
    return model.save(prefix)
