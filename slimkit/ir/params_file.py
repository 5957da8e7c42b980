"""``.pdiparams``: Paddle's file of tensors, read and written without Paddle's executor.

One tensor is (little endian; source: ``SerializeToStream`` in Paddle's ``lod_tensor.cc`` and ``tensor_utils``)::

    uint32 version (0) | uint64 LoD levels, each: uint64 bytes + data | uint32 tensor version (0)
    | int32 length of the TensorDesc | TensorDesc (protobuf: dtype, dims) | raw data

A combined file is the tensors one after another in the order of their sorted names; it holds no names. Older
models have one such file per parameter, named after it.
"""

from __future__ import annotations

import struct
import zlib  # noqa: F401  (must precede paddle)
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Sequence, Tuple, Union

import numpy as np
from paddle.base.proto import framework_pb2

from slimkit.errors import ModelError
from slimkit.files import atomic_write

__all__ = ["pack_tensors", "read_combined", "read_separate", "write_combined"]

_Type = framework_pb2.VarType
_HEADER = struct.Struct("<I")
_LENGTH = struct.Struct("<i")
_LEVEL = struct.Struct("<Q")

NUMPY_OF_PROTO: Dict[int, np.dtype] = {
    _Type.BOOL: np.dtype("bool"),
    _Type.INT8: np.dtype("int8"),
    _Type.UINT8: np.dtype("uint8"),
    _Type.INT16: np.dtype("int16"),
    _Type.INT32: np.dtype("int32"),
    _Type.INT64: np.dtype("int64"),
    _Type.FP16: np.dtype("float16"),
    _Type.FP32: np.dtype("float32"),
    _Type.FP64: np.dtype("float64"),
    _Type.BF16: np.dtype("uint16"),  # numpy has no bfloat16; Paddle shows its bits as uint16
    _Type.COMPLEX64: np.dtype("complex64"),
    _Type.COMPLEX128: np.dtype("complex128"),
}
_PROTO_OF_NUMPY = {dtype: proto for proto, dtype in NUMPY_OF_PROTO.items()}


class _Cursor:
    """Reads a file's bytes in order, with an error that names the file when they run out."""

    def __init__(self, data: bytes, path: Path) -> None:
        self.data = memoryview(data)
        self.path = path
        self.at = 0

    def take(self, count: int, name: str) -> memoryview:
        if count < 0 or self.at + count > len(self.data):
            raise ModelError(
                f"{self.path} ends in the middle of parameter {name} ({len(self.data)} bytes): the file is "
                "truncated or belongs to another model; copy it again, with the model file of the same export."
            )
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece


def _read_tensor(cursor: _Cursor, name: str) -> np.ndarray:
    corrupt = ModelError(
        f"{cursor.path} does not hold a tensor where parameter {name} should be (byte {cursor.at}): it is not a "
        "Paddle parameter file or is damaged; give the .pdiparams written with the model."
    )
    version = _HEADER.unpack(cursor.take(4, name))[0]
    if version != 0:
        raise corrupt
    levels = _LEVEL.unpack(cursor.take(8, name))[0]
    if levels > 64:
        raise corrupt
    for _ in range(levels):
        cursor.take(_LEVEL.unpack(cursor.take(8, name))[0], name)
    if _HEADER.unpack(cursor.take(4, name))[0] != 0:
        raise corrupt
    desc = _Type.TensorDesc()
    try:
        desc.ParseFromString(bytes(cursor.take(_LENGTH.unpack(cursor.take(4, name))[0], name)))
        dtype = NUMPY_OF_PROTO[desc.data_type]
    except ModelError:
        raise
    except Exception:
        raise corrupt from None
    shape = tuple(desc.dims)
    if any(side < 0 for side in shape):
        raise corrupt
    count = int(np.prod(shape, dtype=np.int64))
    raw = cursor.take(count * dtype.itemsize, name)
    return np.frombuffer(raw, dtype=dtype).reshape(shape).copy()


def _fit(path: Path, name: str, array: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
    """Returns the array in the program's shape; PaddleSlim writes scales of [8] as [1, 8], of [1] as []."""
    without_ones = [size for size in shape if size != 1]
    if without_ones != [size for size in array.shape if size != 1]:
        raise ModelError(
            f"{path} has shape {list(array.shape)} where the model's parameter {name} is {list(shape)}: model and "
            "parameter file are of different models; give the pair written by one export."
        )
    return array.reshape(shape)


def read_combined(path: Union[str, Path], shapes: Mapping[str, Sequence[int]]) -> Dict[str, np.ndarray]:
    """Reads a combined parameter file.

    Args:
        path: the file.
        shapes: the names of the model's parameters with their shapes; the file holds them in sorted order.

    Returns:
        Name -> array. bfloat16 comes as the uint16 of its bits.

    Raises:
        ModelError: missing, truncated, damaged, or of another model (other shapes, other number of tensors).
    """
    path = Path(path)
    cursor = _Cursor(_bytes_of(path), path)
    found = {}
    for name in sorted(shapes):
        found[name] = _fit(path, name, _read_tensor(cursor, name), tuple(shapes[name]))
    if cursor.at != len(cursor.data):
        raise ModelError(
            f"{path} holds more than the model's {len(shapes)} parameters ({len(cursor.data) - cursor.at} bytes are "
            "left over): model and parameter file are of different models; give the pair written by one export."
        )
    return found


def read_separate(folder: Union[str, Path], shapes: Mapping[str, Sequence[int]]) -> Dict[str, np.ndarray]:
    """Reads parameters kept one to a file, each named after its parameter. See :func:`read_combined`."""
    found = {}
    for name in sorted(shapes):
        path = Path(folder) / name
        cursor = _Cursor(_bytes_of(path), path)
        found[name] = _fit(path, name, _read_tensor(cursor, name), tuple(shapes[name]))
    return found


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"the parameter file {path} cannot be read: {error.strerror}; give the folder or prefix of a whole model, "
            "or name the file with params_filename."
        ) from None


def pack_tensors(arrays: Iterable[np.ndarray], bfloat16: Iterable[bool] = ()) -> bytes:
    """Returns ``arrays`` in the combined format, in the order given.

    Args:
        arrays: the tensors.
        bfloat16: per tensor, whether its uint16 values are the bits of bfloat16; default none.
    """
    flags = list(bfloat16)
    pieces: List[bytes] = []
    for index, value in enumerate(arrays):
        array = np.asarray(value)
        desc = _Type.TensorDesc()
        proto = _PROTO_OF_NUMPY.get(array.dtype)
        is_bfloat16 = index < len(flags) and flags[index]
        if proto is None or (array.dtype == np.uint16 and not is_bfloat16):
            raise ModelError(f"a parameter of dtype {array.dtype} cannot be saved: Paddle has no such tensor; cast it.")
        desc.data_type = proto
        desc.dims.extend(array.shape)
        encoded = desc.SerializeToString()
        pieces.append(_HEADER.pack(0) + _LEVEL.pack(0) + _HEADER.pack(0) + _LENGTH.pack(len(encoded)) + encoded)
        pieces.append(np.ascontiguousarray(array).tobytes())
    return b"".join(pieces)


def write_combined(path: Union[str, Path], params: Mapping[str, np.ndarray], bfloat16: Iterable[str] = ()) -> Path:
    """Writes a combined parameter file, atomically.

    Args:
        path: the file.
        params: name -> array.
        bfloat16: names whose uint16 arrays are the bits of bfloat16.
    """
    names = sorted(params)
    special = set(bfloat16)
    return atomic_write(path, pack_tensors((params[n] for n in names), [n in special for n in names]))
