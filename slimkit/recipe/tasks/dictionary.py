"""The characters a text recognizer tells apart, and CTC's greedy decoding."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np

from slimkit.errors import DataError

__all__ = ["Dictionary"]


class Dictionary:
    """Class number -> character; class 0 is CTC's blank.

    Attributes:
        source: where it comes from, for messages.
    """

    def __init__(self, characters: Sequence[str], source: str = "given", *, space: bool = True) -> None:
        """
        Args:
            characters: in the order of the classes from 1 on.
            source: for messages.
            space: add a blank character at the end.
        """
        self._characters = np.array(["", *characters, *([" "] if space else [])], dtype=object)
        self.source = source

    @classmethod
    def load(cls, path: Optional[str] = None, *, space: bool = True) -> Dictionary:
        """Reads a dictionary file: a character a line, UTF-8.

        Args:
            path: the file, or the ``inference.yml`` beside a model of PaddleOCR 3, which has the characters in it;
                None: PP-OCR's ``ppocr_keys_v1.txt``.
            space: add a blank character at the end.

        Raises:
            DataError: the file cannot be read, or PP-OCR's cannot be had.
        """
        if path is None:
            from slimkit.recipe.data.real_models import ppocr_dictionary

            file = ppocr_dictionary()
        else:
            file = Path(path).expanduser()
        try:
            text = file.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise DataError(f"The dictionary {file} cannot be read ({error.strerror}); give a text file.") from None
        except UnicodeDecodeError:
            raise DataError(f"The dictionary {file} is not UTF-8 text; save it as UTF-8, a character a line.") from None
        if file.suffix in (".yml", ".yaml"):
            return cls(_listed(text, file), str(file), space=space)
        lines = text.replace("\r\n", "\n").split("\n")
        return cls(lines[:-1] if lines[-1] == "" else lines, str(file), space=space)

    def __len__(self) -> int:
        return len(self._characters)

    @property
    def classes(self) -> int:
        """How many classes a model of this dictionary has: the characters and the blank."""
        return len(self._characters)

    def __contains__(self, character: str) -> bool:
        return bool((self._characters[1:] == character).any())

    def decode(self, scores: np.ndarray) -> List[str]:
        """Decodes greedily: the best class of each step, repeats merged, blanks removed.

        Source: Graves et al. 2006, Connectionist Temporal Classification, section 3.2 (best path decoding).

        Args:
            scores: (N, steps, classes).

        Returns:
            N texts.

        Raises:
            DataError: the scores have another number of classes than the dictionary.
        """
        if scores.ndim != 3 or scores.shape[2] != self.classes:
            raise DataError(
                f"The recognizer's output has shape {scores.shape}, but the dictionary {self.source} makes "
                f"{self.classes} classes; give the dictionary the model was trained with (option dictionary)."
            )
        best = scores.argmax(axis=2)
        kept = best != 0
        kept[:, 1:] &= best[:, 1:] != best[:, :-1]
        return ["".join(self._characters[row[keep]]) for row, keep in zip(best, kept)]


def _listed(text: str, file: Path) -> List[str]:
    """The characters in ``PostProcess.character_dict`` of PaddleOCR's ``inference.yml``."""
    import yaml

    try:
        found = yaml.safe_load(text)["PostProcess"]["character_dict"]
    except (yaml.YAMLError, TypeError, KeyError):
        found = None
    if not isinstance(found, list) or not found:
        raise DataError(f"{file} has no list PostProcess.character_dict; give a text file with a character a line.")
    return [str(character) for character in found]
