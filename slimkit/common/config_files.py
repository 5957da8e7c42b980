"""``load_config`` and ``save_config``: YAML files to dicts and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Union

from slimkit.errors import ConfigError
from slimkit.files import atomic_write

__all__ = ["load_config", "save_config"]


def load_config(config: Union[str, Path, None]) -> Optional[Dict[str, Any]]:
    """A YAML file as a dict; nothing in it is checked, and nothing is printed.

    Args:
        config: the file; None gives None.

    Raises:
        ConfigError: there is no such file, or it is not YAML.
    """
    import yaml

    if config is None:
        return None
    try:
        text = Path(config).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(
            f"The config file '{config}' cannot be read: {reason}; give the path of a YAML file."
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{config}:{mark.line + 1}" if mark is not None else str(config)
        raise ConfigError(f"{where} is not YAML: {getattr(error, 'problem', error)}; correct that line.") from None


def save_config(config: Mapping[str, Any], config_path: Union[str, Path]) -> None:
    """Writes a dict as a YAML file, whole or not at all.

    Raises:
        SlimkitError: it cannot be written.
    """
    import yaml

    atomic_write(config_path, yaml.safe_dump(dict(config), allow_unicode=True).encode())
