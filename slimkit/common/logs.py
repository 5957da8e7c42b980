"""``get_logger``: a logger of a name, with one handler of its own."""

from __future__ import annotations

import logging
from typing import Union

__all__ = ["get_logger"]


class _OwnHandler(logging.StreamHandler):
    """The handler that :func:`get_logger` gave a logger."""


def get_logger(
    name: str, level: Union[int, str] = logging.INFO, fmt: str = "%(asctime)s-%(levelname)s: %(message)s"
) -> logging.Logger:
    """The logger of a name, writing to stderr, and not to the root logger's handlers as well.

    Asked for twice it still has one handler; so a line is never printed twice.

    Args:
        name: as ``logging.getLogger``'s.
        level: such as ``logging.INFO``.
        fmt: of a line; empty: the message alone.
    """
    logger = logging.getLogger(name)
    logger.setLevel(level)
    logger.propagate = False
    own = [handler for handler in logger.handlers if isinstance(handler, _OwnHandler)]
    handler = own[0] if own else _OwnHandler()
    handler.setFormatter(logging.Formatter(fmt) if fmt else None)
    if not own:
        logger.addHandler(handler)
    return logger
