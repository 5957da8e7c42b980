"""Size on disk: what a user downloads or ships, all files of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Union

from slimkit.deploy.model_files import program_and_parameters

__all__ = ["ModelSize", "model_size"]


@dataclass(frozen=True)
class ModelSize:
    """Bytes of a model's files.

    Attributes:
        files: file name -> bytes.
        total: their sum.
    """

    files: Dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.files.values())

    def __str__(self) -> str:
        return f"{self.total / 1e6:.2f} MB"


def model_size(path: Union[str, Path]) -> ModelSize:
    """Measures a model on disk.

    Args:
        path: a prefix, a program file, a ``.nb`` or ``.onnx`` file, or a folder with one model.

    Raises:
        ModelError: there is no such model.
    """
    program, parameters = program_and_parameters(path)
    files = [program] if parameters is None else [program, parameters]
    return ModelSize({file.name: file.stat().st_size for file in files})
