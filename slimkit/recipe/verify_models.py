"""A model as given on the command line -> the form that each runtime reads, exported on the fly where it must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from slimkit.deploy.model_files import PROGRAM_SUFFIXES, program_and_parameters
from slimkit.deploy.runtime import RUNTIMES
from slimkit.errors import ConfigError, ModelError, SlimkitError

__all__ = ["Form", "default_runtimes", "for_runtimes", "signature_of"]

#: Suffix -> the runtimes that read such a file as it is.
READS: Dict[str, Sequence[str]] = {".onnx": ("onnx",), ".nb": ("lite-x86", "lite-arm"), ".pdmodel": ("paddle",)}

#: A runtime's form of a model, or why there is none.
Form = Union[str, Path, SlimkitError]


def default_runtimes(model: str) -> List[str]:
    """The runtimes that a model was exported for: those of a folder with one for each, else those that read the file.

    Raises:
        ModelError: there is no model.
    """
    parts = _parts(model)
    if parts:
        return [name for name in RUNTIMES if name in parts]
    suffix = program_and_parameters(model)[0].suffix
    return [name for name in READS.get(suffix, ("paddle",)) if RUNTIMES[name].runs_here]


def _parts(model: str) -> Dict[str, Path]:
    """Runtime -> its subfolder, of a folder that `slimkit ptq` or `slimkit export` wrote; empty for any other."""
    folder = Path(model)
    if not folder.is_dir():
        return {}
    return {name: folder / name for name in RUNTIMES if (folder / name).is_dir()}


def for_runtimes(model: str, runtimes: Sequence[str], folder: Path, *, quantized: bool) -> Dict[str, Form]:
    """Finds or makes the form of a model for each runtime.

    Args:
        model: a file, a prefix, a folder with one model, or one with a subfolder for each runtime.
        runtimes: keys of ``RUNTIMES``.
        folder: where exports go.
        quantized: the model is to be the quantized one; else a quantized one is refused.

    Returns:
        Runtime -> path; or the error that says why there is none, which becomes that runtime's row.

    Raises:
        ModelError: there is no such model, or it cannot be read.
        ConfigError: a quantized model where the float one is asked for.
    """
    parts = _parts(model)
    own: Dict[str, Form] = {name: program_and_parameters(path)[0] for name, path in parts.items() if name in runtimes}
    missing = [name for name in runtimes if name not in own]
    if not missing:
        return own
    source = parts.get("paddle") if parts else Path(model)
    if source is None:
        listed = ", ".join(parts)
        nothing = ModelError(f"{model} has a model for {listed} only; export it for the others with `slimkit export`.")
        return {**own, **dict.fromkeys(missing, nothing)}
    program = program_and_parameters(source)[0]
    maker = _Maker(program, folder, quantized)
    return {**own, **{name: maker.form_for(name) for name in missing}}


class _Maker:
    """Exports one model file for runtimes, reading it once, and only when it must be read."""

    def __init__(self, program: Path, folder: Path, quantized: bool) -> None:
        self.program, self.folder, self.quantized = program, folder, quantized
        self._read: Optional[Any] = None

    def form_for(self, runtime: str) -> Form:
        suffix = self.program.suffix
        if suffix == ".pdmodel" and not self.quantized:
            self._refuse_quantized()
        if runtime in READS.get(suffix, ()):
            return self.program
        if suffix not in PROGRAM_SUFFIXES:
            return ModelError(
                f"{self.program.name} cannot be read by {RUNTIMES[runtime].title}; give the Paddle model that it was "
                f"made from, or leave {runtime} out of --on."
            )
        try:
            return self._export(runtime)
        except ConfigError:
            raise
        except SlimkitError as error:
            return error

    def _export(self, runtime: str) -> Path:
        from slimkit.recipe.exporters import export_for

        if runtime == "paddle":  # a .json, which Paddle Inference's int8 path does not read
            target = self.folder / "paddle" / ("quantized" if self.quantized else "float")
            self._model().model.save(target)
            return target.with_suffix(".pdmodel")
        name = "quantized" if self.quantized else "float"
        return export_for(runtime, self._model(), self.folder / runtime, name)

    def _model(self) -> Any:
        from slimkit.ir.model import Model
        from slimkit.quant.load_quantized import is_quantized, read_quantized
        from slimkit.quant.quantized import Quantized
        from slimkit.quant.table import QuantTable

        if self._read is None:
            model = Model.load(self.program)
            quantized = is_quantized(model)
            if quantized and not self.quantized:
                raise _not_float(self.program)
            self._read = read_quantized(model, str(self.program)) if quantized else Quantized(model, QuantTable())
        return self._read

    def _refuse_quantized(self) -> None:
        from slimkit.deploy.grid import is_quantized
        from slimkit.deploy.program_desc import read_program

        if is_quantized({op.type for op in read_program(self.program).ops}):
            raise _not_float(self.program)


def _not_float(program: Path) -> ConfigError:
    return ConfigError(
        f"--against takes the float model, and {program} is a quantized one; give the model it came from."
    )


def signature_of(forms: Mapping[str, Form]) -> Any:
    """The inputs and outputs of a model, from the first of its forms that tells them.

    Raises:
        ModelError: none does.
    """
    import numpy as np

    from slimkit.deploy.inspect import inspect
    from slimkit.recipe.tasks.signature import Signature, TensorSpec

    for form in forms.values():
        if isinstance(form, SlimkitError) or Path(form).suffix == ".nb":
            continue
        found = inspect(form)
        if found.feeds:
            specs = [
                [TensorSpec(t.name, tuple(t.shape), np.dtype(t.dtype)) for t in tensors]
                for tensors in (found.feeds, found.fetches)
            ]
            return Signature(*specs)
    raise next(
        (form for form in forms.values() if isinstance(form, SlimkitError)),
        ModelError("A .nb file does not tell its inputs; give the float model as .pdmodel."),
    )
