"""The version of slimkit."""

__version__ = "0.1.0"
