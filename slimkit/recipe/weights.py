"""Weights of the recipes' networks: the embedded checkpoint, ``.npz`` and ``.pdparams`` files.

An ``.npz`` holds a layer's ``state_dict`` under its own keys; matrices may be float16, to be small.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Dict, List, Mapping, Optional

import numpy as np

from slimkit.errors import ModelError
from slimkit.files import atomic_write

__all__ = ["embedded_path", "load_weights", "save_weights"]

ASSETS = Path(__file__).resolve().parent / "assets"
# (network, scale) -> file in assets/; its card is the .json of the same name.
EMBEDDED = {
    ("mobilenet_v1", 0.5): "mobilenet_v1_x0_5_fashion_mnist.npz",
    ("mobilenet_v3_small", 1.0): "mobilenet_v3_small_fashion_mnist.npz",
    ("resnet20", 1.0): "resnet20_fashion_mnist.npz",
}


def embedded_path(name: Optional[str], scale: float) -> Path:
    """Returns the file of the weights that come with slimkit for a network.

    Raises:
        ModelError: there are none for this network.
    """
    file = EMBEDDED.get((name or "", float(scale)))
    if file is None:
        have = ", ".join(f"{n} with scale {s}" for n, s in EMBEDDED)
        raise ModelError(
            f"network.weights is embedded, but slimkit embeds weights only for {have}, not for "
            f"{name} with scale {scale}; give a .pdparams or .npz file, or null."
        )
    return ASSETS / file


def read_weights(path: Path) -> Dict[str, np.ndarray]:
    """Reads a ``.npz`` or ``.pdparams`` file as float32 (integers stay).

    Raises:
        ModelError: missing, or not such a file.
    """
    if not path.is_file():
        raise ModelError(f"The weights file {path} does not exist; check network.weights.")
    try:
        if path.suffix == ".npz":
            with np.load(path) as archive:
                values = {key: archive[key] for key in archive.files}
        else:
            import paddle

            loaded = paddle.load(str(path))
            values = {key: np.asarray(value) for key, value in loaded.items() if hasattr(value, "shape")}
    except (
        OSError,
        ValueError,
        AttributeError,
        zipfile.BadZipFile,
        EOFError,
        RuntimeError,
        pickle.PickleError,
    ) as error:
        raise ModelError(
            f"{path} cannot be read as weights ({type(error).__name__}); it must be a .npz or .pdparams file."
        ) from None
    return {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in values.items()}


def load_weights(layer, source: Path, *, new_head: bool = False) -> List[str]:
    """Puts weights into a layer.

    Args:
        layer: a ``paddle.nn.Layer``.
        source: a ``.npz`` or ``.pdparams`` of its ``state_dict``.
        new_head: leave the classifier (the last two parameters) as it is when its shape differs, as for
            another number of classes.

    Returns:
        Parameters left as they were, by name.

    Raises:
        ModelError: the file cannot be read, or lacks a parameter, or one has another shape.
    """
    values, state = read_weights(source), layer.state_dict()
    missing = [key for key in state if key not in values]
    if missing:
        raise ModelError(
            f"{source} has no weights for {missing[0]} ({len(missing)} of {len(state)} are missing); it "
            "belongs to another network."
        )
    wrong = [key for key in state if tuple(state[key].shape) != values[key].shape]
    head = list(state)[-2:] if new_head else []
    for key in wrong:
        if key not in head:
            raise ModelError(
                f"{source} has {key} of shape {values[key].shape}, but the network's is "
                f"{tuple(state[key].shape)}; check network.scale and "
                "network.num_classes, or set network.weights=null."
            )
    kept = head if wrong else []
    for key, tensor in state.items():
        if key not in kept:
            tensor.set_value(values[key].astype(str(tensor.numpy().dtype)))
    return kept


def save_weights(state: Mapping[str, np.ndarray], path: Path, *, half: bool = True) -> None:
    """Writes a ``.npz`` atomically.

    Args:
        state: a ``state_dict`` as arrays.
        path: where to.
        half: keep arrays of two or more axes as float16; vectors (biases, batch-norm) stay float32.
    """
    stored = {k: v.astype(np.float16) if half and v.ndim > 1 and v.dtype == np.float32 else v for k, v in state.items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, **stored)  # type: ignore[arg-type]
    atomic_write(path, stream.getvalue())
