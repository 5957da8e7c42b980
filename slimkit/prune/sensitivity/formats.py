"""How sensitivities lie in files.

A finished file is one JSON object. While points are being measured it is a header line and one line a point, each
appended with one write: a killed run loses no point that was reported, and a torn last line is left out when the file
is read. Writing the whole file anew for every point costs a rename, which on common file systems waits for the disk
(4 to 12 ms); appending a line costs hundredths of a millisecond.

PaddleSlim pickles a dict, or in its dygraph form an object that holds it. They are read by an unpickler that makes
nothing but numbers, text, arrays and dicts.
"""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from slimkit.errors import DataError, SlimkitError
from slimkit.files import atomic_write

__all__ = ["FORMAT", "Journal", "document", "read"]

FORMAT = "slimkit.sensitivities"
VERSION = 1

Losses = Mapping[str, Mapping[float, float]]


def _head(header: Mapping[str, Any]) -> Dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, **header}


def document(header: Mapping[str, Any], losses: Losses) -> bytes:
    """A finished file."""
    points = {name: {repr(ratio): loss for ratio, loss in each.items()} for name, each in losses.items()}
    return (json.dumps({**_head(header), "losses": points}, indent=1) + "\n").encode()


def _line(parameter: str, ratio: float, loss: float) -> bytes:
    return (json.dumps({"parameter": parameter, "ratio": ratio, "loss": loss}) + "\n").encode()


class Journal:
    """A file that grows by a line a point.

    Args:
        path: the file; it is replaced by one with the same points in lines.
        header: all but the points.
        losses: points that are known already.

    Raises:
        SlimkitError: it cannot be written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], losses: Losses) -> None:
        lines = [(json.dumps(_head(header)) + "\n").encode()]
        lines += [_line(name, ratio, loss) for name, each in losses.items() for ratio, loss in each.items()]
        self._path = atomic_write(path, b"".join(lines))
        self._stream = open(self._path, "ab", buffering=0)

    def add(self, parameter: str, ratio: float, loss: float) -> None:
        """Appends a point.

        Raises:
            SlimkitError: the disk is full.
        """
        line = _line(parameter, ratio, loss)
        try:
            written = self._stream.write(line)
        except OSError as error:
            raise SlimkitError(f"{self._path} could not be written: {error.strerror}; free space.") from None
        if written != len(line):
            raise SlimkitError(f"{self._path} could not be written whole; free space.")

    def close(self) -> None:
        os.fsync(self._stream.fileno())
        self._stream.close()


# ------------------------------------------------------------------------------------------------ reading


def read(path: Path) -> Tuple[Dict[str, Any], Any]:
    """The header and ``{parameter: {ratio: loss}}`` of a file of any kind.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; give a file of sensitivities.") from None
    return _json(data, path) if data.lstrip()[:1] == b"{" else ({}, _pickled(data, path))


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path} holds no sensitivities: {what}; give a file that slimkit or PaddleSlim wrote.")


def _json(data: bytes, path: Path) -> Tuple[Dict[str, Any], Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return _lines(data, path)
    if not isinstance(found, dict):
        raise _damaged(path, "it is no JSON object")
    if found.get("format") != FORMAT:
        return {}, found  # {parameter: {ratio: loss}} as it is
    _check_version(found, path)
    return found, found.get("losses", {})


def _lines(data: bytes, path: Path) -> Tuple[Dict[str, Any], Any]:
    """A header and a line a point; the last one may be torn."""
    lines: List[bytes] = data.split(b"\n")
    whole, tail = lines[:-1], lines[-1]
    try:
        header, *points = (json.loads(line) for line in whole)
        if header.get("format") != FORMAT:
            raise ValueError("no header")
        losses: Dict[str, Dict[float, float]] = {}
        for point in points:
            losses.setdefault(point["parameter"], {})[point["ratio"]] = point["loss"]
    except (ValueError, KeyError, TypeError, AttributeError):
        where = f" ({len(tail)} bytes of a torn line)" if tail else ""
        raise _damaged(path, f"its JSON is damaged{where}") from None
    _check_version(header, path)
    return header, losses


def _check_version(header: Mapping[str, Any], path: Path) -> None:
    if header.get("version", VERSION) > VERSION:
        raise DataError(f"{path} was written by a newer slimkit (version {header['version']} of the format); update.")


class _Status:
    """Stands for the object that PaddleSlim's dygraph pruner pickles."""


def _numpy_functions() -> Dict[Tuple[str, str], Any]:
    """What numpy's scalars and arrays are pickled with, under the names of numpy 1 and 2."""
    made = np.zeros(1).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    buffer = np.zeros(1).__reduce_ex__(5)[0]  # type: ignore[arg-type]
    found: Dict[Tuple[str, str], Any] = {("numpy", "dtype"): np.dtype, ("numpy", "ndarray"): np.ndarray}
    for core in ("numpy.core", "numpy._core"):
        found[f"{core}.multiarray", "_reconstruct"] = made
        found[f"{core}.multiarray", "scalar"] = scalar
        found[f"{core}.numeric", "_frombuffer"] = buffer
    return found


class _NumbersOnly(pickle.Unpickler):
    """Makes dicts, text, numbers and arrays; anything else a pickle could call is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "Status" and module.startswith("paddleslim."):
            return _Status
        found = _numpy_functions().get((module, name))
        if found is not None:
            return found
        if (module, name) == ("_codecs", "encode"):  # how Python 3 pickles bytes for Python 2
            return lambda text, encoding: str(text).encode(encoding)
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}")


def _pickled(data: bytes, path: Path) -> Any:
    try:
        found = _NumbersOnly(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise _damaged(path, f"as a pickle it is refused ({error})") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise _damaged(path, f"it is neither JSON nor a whole pickle ({type(error).__name__})") from None
    if isinstance(found, _Status):
        found = vars(found).get("sensitivies", {})
    if not isinstance(found, dict):
        raise _damaged(path, f"the pickle is of {type(found).__name__}")
    return found
