"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Union

from slimkit.errors import SlimkitError

__all__ = ["atomic_write"]


def atomic_write(path: Union[str, Path], data: bytes) -> Path:
    """Writes ``data`` to a temporary file beside ``path`` and renames it into place.

    Args:
        path: where to; missing folders are made.
        data: the whole content.

    Returns:
        The path.

    Raises:
        SlimkitError: the folder cannot be written or the disk is full; ``path`` is then as it was.
    """
    target = Path(path)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        raise SlimkitError(
            f"{target} could not be written: {error.strerror}; free space or choose another output folder."
        ) from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
    return target
