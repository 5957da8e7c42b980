"""Checkpoints of a run: one ``.npz`` file each, written atomically, only the last and the best kept.

A checkpoint holds the trainer's arrays (parameters, scales, alphas, optimizer state) and, as JSON, the
position in the run, the curves, the seed and the whole config. It holds no pickled objects.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from typing import Any, Dict, Mapping, NamedTuple, Optional

import numpy as np

from slimkit.errors import ConfigError, SlimkitError, TrainingError
from slimkit.files import atomic_write

__all__ = ["BEST", "LAST", "Checkpoint", "CheckpointFolder", "prepare_folder"]

LAST, BEST = "last", "best"
_META = "__slimkit_meta__"
_VERSION = 1


class Checkpoint(NamedTuple):
    """What is saved: the trainer's arrays and everything else as JSON-able values."""

    arrays: Dict[str, np.ndarray]
    meta: Dict[str, Any]


def prepare_folder(path: str) -> None:
    """Creates an output folder and tries that it can be written.

    Raises:
        ConfigError: it cannot be created or written.
    """
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"slimkit")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"the output folder {path} cannot be written ({reason}); set another one with -o run.output=DIR."
        ) from None


class CheckpointFolder:
    """The checkpoints below a run's output folder."""

    def __init__(self, output: str) -> None:
        self.folder = os.path.join(output, "checkpoints")

    def path(self, name: str) -> str:
        """Returns the file of the checkpoint called ``name`` (:data:`LAST` or :data:`BEST`)."""
        return os.path.join(self.folder, f"{name}.npz")

    def exists(self, name: str) -> bool:
        """Whether that checkpoint was written."""
        return os.path.exists(self.path(name))

    def clear(self) -> bool:
        """Removes the checkpoints of an earlier run; returns whether there were any."""
        found = [name for name in (LAST, BEST) if self.exists(name)]
        for name in found:
            os.remove(self.path(name))
        return bool(found)

    def save(self, name: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> str:
        """Writes a checkpoint in place of the one of that name; returns its path."""
        path = self.path(name)
        text = json.dumps({**meta, "version": _VERSION})
        buffer = io.BytesIO()
        np.savez(buffer, **{_META: np.frombuffer(text.encode(), np.uint8)}, **dict(arrays))  # type: ignore[arg-type]
        try:
            atomic_write(path, buffer.getvalue())
        except SlimkitError as error:
            raise TrainingError(f"{error} The one before it is untouched: go on with --resume.") from None
        return path

    def load(self, name: str) -> Optional[Checkpoint]:
        """Reads a checkpoint; None when there is none.

        Raises:
            TrainingError: the file is damaged or of another version of slimkit.
        """
        path = self.path(name)
        if not os.path.exists(path):
            return None
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
            meta = json.loads(arrays.pop(_META).tobytes().decode())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise TrainingError(
                f"the checkpoint {path} is damaged ({type(error).__name__}); start again without --resume."
            ) from None
        if meta.get("version") != _VERSION:
            raise TrainingError(
                f"the checkpoint {path} has version {meta.get('version')}, this slimkit reads {_VERSION}; "
                "start again without --resume."
            )
        return Checkpoint(arrays, meta)
