"""Finding and reading the files of a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Optional, Union

from slimkit.errors import ModelError
from slimkit.ir.model import Model
from slimkit.ir.params import new_scope, persistable_names
from slimkit.ir.params_file import read_combined, read_separate
from slimkit.ir.program_file import read_program

__all__ = ["Files", "find_files", "load"]

MODEL_SUFFIXES = (".pdmodel", ".json")


class Files(NamedTuple):
    """Where a model is. ``params`` is None when every parameter has a file of its own in the model's folder."""

    model: Path
    params: Optional[Path]

    @property
    def is_pir(self) -> bool:
        """Whether the program is in Paddle 3's PIR form, by its first character, not its name."""
        with open(self.model, "rb") as stream:
            return stream.read(64).lstrip()[:1] == b"{"


def load(path: Union[str, Path], model_filename: Optional[str], params_filename: Optional[str]) -> Model:
    """Loads a model; see :meth:`Model.load`."""
    files = find_files(path, model_filename, params_filename)
    if files.is_pir:
        from slimkit.ir.pir_file import load_pir

        return load_pir(files.model, files.params)
    program, feeds, fetches = read_program(files.model)
    block = program.global_block()
    shapes = {name: block.var(name).shape for name in persistable_names(program)}
    if files.params is not None:
        arrays = read_combined(files.params, shapes)
    else:
        arrays = read_separate(files.model.parent, shapes)
    return Model(program, new_scope(arrays), feeds, fetches)


def find_files(
    path: Union[str, Path], model_filename: Optional[str] = None, params_filename: Optional[str] = None
) -> Files:
    """Finds the model and parameter files.

    Raises:
        ModelError: nothing there, or several models and no name given.
    """
    path = Path(path)
    model = _model_file(path, model_filename)
    if params_filename is not None:
        return Files(model, _existing(model.parent, params_filename, "parameter"))
    return Files(model, _params_beside(model))


def _existing(folder: Path, name: str, kind: str) -> Path:
    suffixes = MODEL_SUFFIXES if kind == "model" else (".pdiparams",)
    names = [name, *(f"{name}{suffix}" for suffix in suffixes)]
    if kind == "model" and name.endswith(".pdmodel"):  # Paddle 3 writes .json where scripts of Paddle 2 say .pdmodel
        names.append(f"{name[: -len('.pdmodel')]}.json")
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise ModelError(f"there is no {kind} file {name} in {folder}; it holds {_listing(folder)}.")


def _listing(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"


def _model_file(path: Path, name: Optional[str]) -> Path:
    if path.is_dir():
        return _existing(path, name, "model") if name is not None else _only_model_in(path)
    if name is not None:
        raise ModelError(f"model_filename was given, but {path} is not a folder; give the folder the file is in.")
    if path.is_file() and path.suffix != ".pdiparams":
        return path
    stem = path.with_suffix("") if path.suffix == ".pdiparams" else path
    found = [Path(f"{stem}{suffix}") for suffix in MODEL_SUFFIXES if Path(f"{stem}{suffix}").is_file()]
    if not found:
        raise ModelError(
            f"there is no model at {path}: neither a folder, nor {stem}.pdmodel, nor {stem}.json; "
            f"{stem.parent} holds {_listing(stem.parent)}."
        )
    return found[0]


def _only_model_in(folder: Path) -> Path:
    candidates: List[Path] = sorted(p for p in folder.glob("*.pdmodel"))
    candidates = candidates or sorted(p for p in folder.glob("*.json") if p.with_suffix(".pdiparams").is_file())
    if not candidates and (folder / "__model__").is_file():
        candidates = [folder / "__model__"]
    if len(candidates) > 1:
        names = ", ".join(p.name for p in candidates)
        raise ModelError(f"{folder} holds several models ({names}); name one with model_filename.")
    if not candidates:
        raise ModelError(
            f"there is no model in {folder} (no .pdmodel, no .json with a .pdiparams, no __model__): it holds "
            f"{_listing(folder)}; give the folder of a saved inference model."
        )
    return candidates[0]


def _params_beside(model: Path) -> Optional[Path]:
    beside = model.with_suffix(".pdiparams")
    if beside.is_file():
        return beside
    if model.suffix not in MODEL_SUFFIXES:
        for name in ("__params__", "params"):
            if (model.parent / name).is_file():
                return model.parent / name
        return None
    others = sorted(model.parent.glob("*.pdiparams"))
    if len(others) == 1:
        return others[0]
    raise ModelError(
        f"{model} has no parameter file {beside.name} beside it; copy it there, or name it with params_filename."
    )
