"""Small data for PaddleOCR's tools in its own format: pictures and label files, drawn by slimkit's renderers.

``python tests/clones/ocr_data.py DIR`` makes what docs/paddleocr.md uses: ``DIR/{cls,rec,det,digits}_{train,test}``,
each with ``images/`` and ``label.txt`` (``path<tab>label``).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Dict, Iterable, List, Tuple

import cv2
import numpy as np

from slimkit.files import atomic_write
from slimkit.recipe.data.fonts import find_fonts
from slimkit.recipe.data.text_folders import write_text_folder
from slimkit.recipe.data.text_render import LineRenderer

#: Part -> pictures of training and test.
COUNTS: Dict[str, Tuple[int, int]] = {"cls": (512, 256), "rec": (384, 128), "det": (32, 16), "digits": (1536, 256)}


def number(_script: str, generator: np.random.Generator) -> str:
    """A text of three to six digits: what a CRNN learns to read within minutes."""
    return "".join(map(str, generator.integers(0, 10, int(generator.integers(3, 7)))))


def write_digits(folder: Path, count: int, seed: int) -> Path:
    """Renders lines of digits and their label file; returns the label file."""
    renderer = LineRenderer(find_fonts(["latin"]), 0.3)
    labels: List[str] = []
    for index in range(count):
        picture, text = renderer.line_and_text(np.random.default_rng((seed, index)), make_text=number)
        atomic_write(folder / f"images/{index}.png", cv2.imencode(".png", picture)[1].tobytes())
        labels.append(f"images/{index}.png\t{text}\n")
    return atomic_write(folder / "label.txt", "".join(labels).encode())


def write_ocr_data(folder: Path, parts: Iterable[str] = COUNTS, scale: float = 1.0) -> None:
    """Renders the parts that are not there yet.

    Args:
        folder: receives ``PART_train`` and ``PART_test``.
        parts: of :data:`COUNTS`.
        scale: of the counts; a test takes fewer pictures.
    """
    for part in parts:
        for seed, (name, count) in enumerate(zip(("train", "test"), COUNTS[part])):
            place = Path(folder) / f"{part}_{name}"
            if (place / "label.txt").is_file():
                continue
            few = max(2, int(count * scale))
            if part == "digits":
                write_digits(place, few, seed)
            else:
                write_text_folder(part, str(place), few, seed=seed)


def options(folder: Path, part: str) -> List[str]:
    """PaddleOCR's ``-o`` arguments that name a part as training and test data."""
    rows = []
    for section, name in (("Train", "train"), ("Eval", "test")):
        place = Path(folder) / f"{part}_{name}"
        rows += [f"{section}.dataset.data_dir={place}", f"{section}.dataset.label_file_list=[{place}/label.txt]"]
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", nargs="+", default=list(COUNTS), choices=list(COUNTS))
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    write_ocr_data(arguments.folder, arguments.parts, arguments.scale)


if __name__ == "__main__":
    main()
