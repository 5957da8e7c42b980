"""slimkit: compression of PaddlePaddle models."""

from slimkit.version import __version__

__all__ = ["__version__"]
