"""The files a deployed model consists of."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Tuple, Union

from slimkit.errors import ModelError

__all__ = ["legacy_pair", "program_and_parameters"]

PROGRAM_SUFFIXES = (".pdmodel", ".json")
#: Of models in one file, parameters included.
WHOLE_SUFFIXES = (".nb", ".onnx")


def program_and_parameters(path: Union[str, Path]) -> Tuple[Path, Optional[Path]]:
    """Finds a model's program and parameter files.

    Args:
        path: a prefix, a program file, or a folder with one model.

    Returns:
        Absolute paths; the parameters are None for a ``.nb`` or ``.onnx`` file, which holds both.

    Raises:
        ModelError: nothing is there, a file is empty, or the folder has several models.
    """
    base = Path(path).absolute()
    if base.is_dir():
        base = _only_model_in(base)
    if base.is_file() and base.suffix in WHOLE_SUFFIXES:
        return _not_empty(base), None
    if base.suffix == ".pdiparams":
        base = base.with_suffix("")
    candidates = [base] if base.suffix in PROGRAM_SUFFIXES else [Path(f"{base}{s}") for s in PROGRAM_SUFFIXES]
    program = next((file for file in candidates if file.is_file()), None)
    if program is None:
        whole = next((file for file in (Path(f"{base}{s}") for s in WHOLE_SUFFIXES) if file.is_file()), None)
        if whole is not None:
            return _not_empty(whole), None
        names = " or ".join(file.name for file in candidates)
        raise ModelError(f"No model is at {path}: {names} is not in {base.parent}; give a prefix, a file or a folder.")
    stem = program.with_suffix("")
    parameters = next((f for f in (Path(f"{stem}.pdiparams"), stem.parent / "__params__") if f.is_file()), None)
    if parameters is None:
        raise ModelError(f"{program} has no parameters beside it; {stem.name}.pdiparams is needed in {stem.parent}.")
    return _not_empty(program), parameters


def legacy_pair(path: Union[str, Path], runtime: str) -> Tuple[str, str]:
    """Returns the ``.pdmodel`` and ``.pdiparams`` files as strings for a runtime that reads only that form.

    Raises:
        ModelError: see :func:`program_and_parameters`; or the model is a Paddle 3 ``.json`` program.
    """
    program, parameters = program_and_parameters(path)
    if parameters is None or program.suffix != ".pdmodel":
        raise ModelError(
            f"{runtime} reads .pdmodel models and {program} is a {program.suffix} file; "
            f"convert it with `slimkit convert {program.name} OUT`."
        )
    return str(program), str(parameters)


def _only_model_in(folder: Path) -> Path:
    programs: List[Path] = sorted(
        f for f in folder.iterdir() if f.suffix in (*PROGRAM_SUFFIXES, *WHOLE_SUFFIXES) and f.is_file()
    )
    with_parameters = [f for f in programs if f.suffix in WHOLE_SUFFIXES or f.with_suffix(".pdiparams").is_file()]
    if len(with_parameters) != 1:
        found = ", ".join(f.name for f in with_parameters) or "none"
        raise ModelError(f"{folder} should hold one model but has {len(with_parameters)} ({found}); name the file.")
    return with_parameters[0]


def _not_empty(file: Path) -> Path:
    if file.stat().st_size == 0:
        raise ModelError(f"{file} is empty; it was not written completely, export the model again.")
    return file
