"""Which images a folder holds, and their labels: PaddleClas list files, or one folder a class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Tuple

from slimkit.errors import DataError

__all__ = ["Entry", "FolderIndex", "index_folder"]

Entry = Tuple[Path, int]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class FolderIndex:
    """The images of a folder: (path, label) for training and for evaluation, and the classes' names."""

    train: List[Entry]
    val: List[Entry]
    class_names: List[str]


def index_folder(root: str, *, train_list: str, val_list: str, num_classes: int) -> FolderIndex:
    """Finds the images of an ImageNet-style folder.

    With ``train_list`` or ``val_list`` present under ``root``, both are read: lines of ``path label``, the
    path below ``root``. Otherwise ``root`` must hold ``train/<class>/`` and ``val/<class>/``, where a class's
    label is its place in the sorted names.

    Args:
        root: the folder.
        train_list: name of the list of training images, below ``root`` or absolute.
        val_list: name of the list of evaluation images.
        num_classes: outputs of the network.

    Raises:
        DataError: a folder or list is missing, a line is malformed, or labels do not fit ``num_classes``.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.root is {root}, which is no folder; give the folder of the images.")
    lists = [folder / train_list, folder / val_list]
    if any(path.is_file() for path in lists):
        train, val = (_read_list(path, folder, num_classes) for path in lists)
        return FolderIndex(train, val, [str(label) for label in range(num_classes)])
    if not (folder / "train").is_dir():
        raise DataError(
            f"{folder} has neither {train_list} nor a folder train; it needs list files of `path label` "
            "lines, or train/<class>/ and val/<class>/ with images."
        )
    names = _class_names(folder / "train", num_classes)
    return FolderIndex(_walk(folder / "train", names), _walk(folder / "val", names), names)


def _read_list(path: Path, root: Path, num_classes: int) -> List[Entry]:
    """Reads `path label` lines; the path may contain blanks, blank lines are left out."""
    if not path.is_file():
        raise DataError(
            f"The list file {path} does not exist; write one `path label` line an image, or set "
            "data.train_list and data.val_list."
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save the list as UTF-8.") from None
    entries: List[Entry] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().replace("\t", " ").rpartition(" ")
        if not name or not label.lstrip("-").isdigit():
            raise DataError(
                f"{path}:{number}: {line.strip()[:80]!r} is not `path label` with an integer label; correct the line."
            )
        if not 0 <= int(label) < num_classes:
            raise DataError(
                f"{path}:{number}: label {label} is outside 0 to {num_classes - 1}; correct it, or set "
                "network.num_classes."
            )
        entries.append((root / name.strip(), int(label)))
    if not entries:
        raise DataError(f"{path} lists no image; write one `path label` line an image.")
    return entries


def _class_names(folder: Path, num_classes: int) -> List[str]:
    names = sorted(child.name for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")
    if len(names) != num_classes:
        raise DataError(
            f"{folder} has {len(names)} class folders, but the network has {num_classes} outputs; set "
            f"network.num_classes={len(names)}."
            if names
            else f"{folder} has no class folders; it needs one folder of images a class."
        )
    return names


def _walk(folder: Path, names: List[str]) -> List[Entry]:
    """Lists the images of ``folder/<class>/``, in sorted order, with each class's label."""
    if not folder.is_dir():
        raise DataError(f"The folder {folder} does not exist; it needs one folder of images a class.")
    unknown = sorted({child.name for child in folder.iterdir() if child.is_dir() and child.name[0] != "."} - {*names})
    if unknown:
        raise DataError(f"{folder / unknown[0]} is a class that train has not; classes must be the same in both.")
    entries = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in EXTENSIONS and path.name[0] != "."
    ]
    if not entries:
        raise DataError(f"No image under {folder}; the formats read are {', '.join(EXTENSIONS)}.")
    return entries
