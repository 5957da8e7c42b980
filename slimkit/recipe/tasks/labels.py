"""Label files: ``path<TAB>label`` lines of PaddleOCR, ``path label`` lines of PaddleClas."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

from slimkit.errors import DataError
from slimkit.recipe.data.image_index import EXTENSIONS
from slimkit.recipe.tasks.image_samples import Entry, images_below

__all__ = ["Found", "find_entries", "tab_line"]

#: Line -> (path, label); None when the line is not of the form.
Parse = Callable[[str], Optional[Tuple[str, Any]]]
#: The images, and what the report says of their choice.
Found = Tuple[List[Entry], List[str]]

_PROBED = 50  # lines of a file that are looked at to tell whether it holds labels


def tab_line(line: str) -> Optional[Tuple[str, str]]:
    """Splits ``path<TAB>label``."""
    path, tab, label = line.partition("\t")
    return (path.strip(), label) if tab and path.strip() and label.strip() else None


def find_entries(data: str, labels: Optional[str], names: Sequence[str], parse: Parse, form: str) -> Found:
    """Finds images and their labels.

    Args:
        data: a folder, a label file or an image.
        labels: the label file, in the folder or anywhere; None: looked for in the folder; "none": no labels.
        names: patterns of names of label files, best first; then any ``.txt`` that reads as one.
        parse: reads a line.
        form: what a line looks like, for messages.

    Raises:
        DataError: no image; a label file that is missing, malformed, or names no file that exists.
    """
    path = Path(data).expanduser()
    if path.is_file() and path.suffix.lower() not in EXTENSIONS:
        return _read(path, path.parent, parse, form)
    file, notes = None, []  # type: Tuple[Optional[Path], List[str]]
    if labels and labels != "none":
        file = next((p for p in (Path(labels).expanduser(), path / labels) if p.is_file()), None)
        if file is None:
            raise DataError(f"The label file {labels} does not exist; give one with `{form}` lines.")
    elif labels is None and path.is_dir():
        file, notes = _look(path, names, parse, form)
    if file is None:
        return [Entry(image) for image in images_below(path)], notes
    return _read(file, path, parse, form)


def _look(folder: Path, names: Sequence[str], parse: Parse, form: str) -> Tuple[Optional[Path], List[str]]:
    """Returns the folder's label file: by name, else any text file whose lines name images that exist; and notes.

    A file of the right name with some lines of the form is taken, so that the others are told as errors.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".txt" and p.is_file())
    ranked = [p for name in names for p in files if fnmatch.fnmatchcase(p.name, name)]
    notes: List[str] = []
    for file in dict.fromkeys([*ranked, *files]):
        try:
            with open(file, encoding="utf-8-sig") as stream:
                lines = [line.rstrip("\r\n") for _, line in zip(range(_PROBED), stream)]
        except (UnicodeDecodeError, OSError):
            lines = []
        parsed = [parse(line) for line in lines if line.strip()]
        if file in ranked and any(parsed):
            return file, []
        if parsed and all(parsed) and any(p and _place(p[0], file, folder) for p in parsed):
            return file, []
        if file in ranked:
            notes.append(f"{file} was not read: its lines are not `{form}`")
    return None, notes


def _place(name: str, file: Path, folder: Path) -> Optional[Path]:
    """Where an image of a label file is: below the label file's folder, the data's, or the folder above."""
    for base in (file.parent, folder, folder.parent, file.parent.parent):
        if (base / name).is_file():
            return base / name
    beside = file.parent / Path(name).name
    return beside if beside.is_file() else None


def _read(file: Path, folder: Path, parse: Parse, form: str) -> Found:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{file} is not UTF-8 text; save the labels as UTF-8.") from None
    entries: List[Entry] = []
    missing: List[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parsed = parse(line)
        if parsed is None:
            raise DataError(f"{file}:{number}: {line[:80]!r} is not `{form}`; correct the line.")
        place = _place(parsed[0], file, folder)
        if place is None:
            missing.append(parsed[0])
        else:
            entries.append(Entry(place, parsed[1]))
    if not entries and not missing:
        raise DataError(f"{file} has no line; write one `{form}` line an image, or pass labels=none.")
    if not entries:
        raise DataError(
            f"{file} names {len(missing)} images and none of them exists (the first is {missing[0]}); paths must be "
            "relative to the label file's folder, or pass labels=none."
        )
    notes = [f"labels from {file}"]
    if missing:
        count = len(missing) + len(entries)
        notes.append(f"{len(missing)} of {count} images of {file} do not exist: {missing[0]}, ...")
    return entries, notes
