"""``.json``: a PIR program on disk, Paddle 3's own format."""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import paddle
from paddle.base import core
from paddle.base.libpaddle import pir

from slimkit.errors import ModelError
from slimkit.ir.model import Model
from slimkit.ir.params import new_scope
from slimkit.ir.params_file import read_combined, read_separate
from slimkit.ir.translate import translate

__all__ = ["from_pir", "load_pir", "read_pir"]


def read_pir(path: Path) -> Any:
    """Reads a PIR program.

    Raises:
        ModelError: the file is damaged or not a PIR program of a version this Paddle knows.
    """
    with paddle.pir_utils.DygraphPirGuard():
        program = pir.Program()
        try:
            core.deserialize_pir_program(str(path), program)
            sound = program.global_block().num_ops() > 0
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise ModelError(
                f"{path} is not a PIR program that paddle {paddle.__version__} can read "
                f"({reason[0] if reason else type(error).__name__}): the file is truncated, damaged or newer; "
                "give the .json that Paddle wrote."
            ) from None
    if not sound:
        raise ModelError(f"{path} holds an empty PIR program; give the .json that Paddle wrote.")
    return program


def load_pir(model: Path, params: Optional[Path]) -> Model:
    """Loads a PIR model from its two files and translates it."""
    program = read_pir(model)
    shapes = _saved_parameters(program)
    if params is not None:
        arrays = read_combined(params, shapes)
    else:
        arrays = read_separate(model.parent, shapes)
    return from_pir(program, arrays)


def _saved_parameters(program: Any) -> Dict[str, List[int]]:
    """Returns name -> shape of what the parameter file holds: the persistable parameters."""
    found = {}
    for op in program.global_block().ops:
        if op.name() == "builtin.parameter":
            value = op.result(0)
            if value.persistable:
                found[op.attrs()["parameter_name"]] = list(value.shape)
    return found


def from_pir(program: Any, params: Dict[str, np.ndarray], outputs: Any = None) -> Model:
    """Makes a model of a PIR program.

    Args:
        program: ``paddle.pir.Program``.
        params: name -> array.
        outputs: the PIR values to fetch; default: what the program's fetch ops name.

    Raises:
        TranslationError: an op slimkit does not know.
    """
    translated = translate(program, outputs)
    if not translated.fetches:
        raise ModelError("the PIR program fetches nothing; save it with paddle.jit.save or save_inference_model.")
    kept = {name: params[name] for name in params if translated.program.global_block().has_var(name)}
    return Model(translated.program, new_scope(kept), translated.feeds, translated.fetches)
