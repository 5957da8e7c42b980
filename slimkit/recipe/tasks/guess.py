"""Which task a model and data are for, by their shapes and names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

from slimkit.errors import DataError
from slimkit.recipe.tasks.image import takes_images
from slimkit.recipe.tasks.signature import Signature

__all__ = ["ARRAYS", "guess_task"]

ARRAYS = (".npy", ".npz")


def guess_task(model: Any, data: Any) -> str:
    """Guesses the task.

    Arrays are fed as they are. Otherwise the model's one input must be an image, and its first output decides: a map
    of one channel (text detection), a row of class scores a step (text recognition), two classes on 48x192 or open
    sides (text direction), a row of class scores (classification). What else takes an image is fed with images.

    Args:
        model: a Model or :class:`Signature`.
        data: the data, as for ``open_samples``.

    Returns:
        A key of ``TASKS``.

    Raises:
        DataError: the model is for none of them; with the remedy.
    """
    signature = Signature.of(model)
    if str(data) != "fashion_mnist" and _is_arrays(Path(data).expanduser()):
        return "array"
    shape = list(signature.inputs[0].shape) if len(signature.inputs) == 1 and takes_images(signature) else []
    out = list(signature.outputs[0].shape) if signature.outputs else []
    if str(data) == "fashion_mnist":
        return "classification"
    if shape and len(out) == 4 and out[1] == 1 and out[2:] != [1, 1]:
        return "ppocr_det"
    if shape and len(out) == 3 and shape[2] in (32, 48):
        return "ppocr_rec"
    if shape and len(out) == 2 and out[1] == 2 and shape[2] in (-1, 48) and shape[3] in (-1, 192):
        return "ppocr_cls"
    if shape and signature.scores_classes:
        return "classification"
    if takes_images(signature):
        return "image"
    inputs = ", ".join(f"{spec.name} {spec.text}" for spec in signature.inputs)
    outputs = ", ".join(spec.text for spec in signature.outputs[:3])
    raise DataError(
        f"No task fits a model with the inputs {inputs} and outputs {outputs}; name one with --task, or give a "
        "FILE.npy or FILE.npz with arrays as the model takes them."
    )


def _is_arrays(path: Path) -> bool:
    """Whether data is an array file, or a folder that holds such files and no images."""
    if not path.is_dir():
        return path.suffix.lower() in ARRAYS
    from slimkit.recipe.data.image_index import EXTENSIONS

    endings: List[str] = [p.suffix.lower() for p in path.iterdir() if p.name[0] != "."]
    return any(e in ARRAYS for e in endings) and not any(e in EXTENSIONS for e in endings)
