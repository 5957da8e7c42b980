"""Fonts to render text lines with: DejaVu from matplotlib, Chinese from a package or the system.

A new place to look is one row of :data:`PACKAGES` or :data:`SYSTEM_NAMES`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Dict, List, Sequence

from slimkit.errors import DataError

__all__ = ["find_fonts"]

# A character that a font of the script has and others have not.
PROBES = {"latin": "g", "chinese": "的"}

# Python packages that carry Chinese fonts of a free licence: module -> files in it.
PACKAGES = {"pylopdf_fonts_zh_cn": ("NotoSansSC-Regular.otf", "NotoSerifSC-Regular.otf")}

LATIN = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSansMono.ttf",
         "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-Italic.ttf")  # fmt: skip

# Chinese fonts of Debian, Fedora, macOS and Windows, best first; the first two found are used.
SYSTEM_NAMES = (
    "NotoSansSC-Regular.otf",
    "NotoSerifSC-Regular.otf",
    "NotoSansCJK-Regular.ttc",
    "NotoSerifCJK-Regular.ttc",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "PingFang.ttc",
    "STHeiti Light.ttc",
    "msyh.ttc",
    "simhei.ttf",
    "simsun.ttc",
)

_REMEDY = (
    "run `pip install 'slimkit[ocr]'` (Python 3.10 or newer) or `apt-get install fonts-wqy-microhei`, name "
    "a font in data.fonts, or set data.languages=[latin]."
)


def find_fonts(languages: Sequence[str], given: Sequence[str] = ()) -> Dict[str, List[Path]]:
    """Finds font files for each script.

    Args:
        languages: of ``latin`` and ``chinese``.
        given: files or folders that take the place of the usual ones, for the scripts they have.

    Returns:
        Script -> files, in a fixed order.

    Raises:
        DataError: a given font does not exist or is none, or a script has no font; with the remedy.
    """
    own = _given(given)
    found: Dict[str, List[Path]] = {}
    for language in languages:
        found[language] = [path for path in own if _covers(path, PROBES[language])]
        if not found[language]:
            found[language] = _chinese() if language == "chinese" else _dejavu()
    return found


def _given(given: Sequence[str]) -> List[Path]:
    files: List[Path] = []
    for text in given:
        path = Path(text).expanduser()
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in (".ttf", ".otf", ".ttc")]
            if not inside:
                raise DataError(f"data.fonts has the folder {path}, which holds no .ttf, .otf or .ttc file.")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"data.fonts has {path}, which does not exist; give a font file or a folder of them.")
    return files


def _covers(path: Path, character: str) -> bool:
    """Whether a font has a glyph for a character.

    Raises:
        DataError: the file is no font.
    """
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            return ord(character) in (font.getBestCmap() or {})
    except (TTLibError, OSError) as error:
        raise DataError(f"data.fonts has {path}, which is no TrueType or OpenType font ({error}).") from None


def _dejavu() -> List[Path]:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [folder / name for name in LATIN if (folder / name).is_file()]
    if not files:
        raise DataError(f"matplotlib's DejaVu fonts are not in {folder}; reinstall matplotlib or set data.fonts.")
    return files


def _font_folders() -> List[Path]:
    home = Path.home()
    if sys.platform == "win32":
        folders = [
            Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts",
            home / "AppData/Local/Microsoft/Windows/Fonts",
        ]
    elif sys.platform == "darwin":
        folders = [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    else:
        data = os.environ.get("XDG_DATA_HOME", str(home / ".local/share"))
        folders = [
            Path(data) / "fonts",
            home / ".fonts",
            Path("/usr/local/share/fonts"),
            Path("/usr/share/fonts"),
        ]
    return [folder for folder in folders if folder.is_dir()]


def _chinese() -> List[Path]:
    for module, names in PACKAGES.items():
        spec = importlib.util.find_spec(module)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            files = [Path(place) / name for name in names if (Path(place) / name).is_file()]
            if files:
                return files
    present: Dict[str, Path] = {}
    for folder in reversed(_font_folders()):  # so that the user's own come last and win
        for path in sorted(folder.rglob("*")):
            present[path.name] = path
    files = [present[name] for name in SYSTEM_NAMES if name in present][:2]
    if not files:
        raise DataError(f"Chinese text lines need a font with Chinese characters, and none was found; {_REMEDY}")
    return files
