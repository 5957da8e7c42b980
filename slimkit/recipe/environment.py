"""What a run was made on: versions, processor, system."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Dict

from slimkit.version import __version__

__all__ = ["describe_environment"]

PACKAGES = (
    *("paddlepaddle", "paddlepaddle-gpu", "numpy", "opencv-python-headless", "pydantic"),
    *("onnx", "onnxruntime", "paddle2onnx"),
)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            for line in handle:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_environment() -> Dict[str, str]:
    """Returns versions of slimkit, Python and the packages that matter, processor, cores and system."""
    found = {"slimkit": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found.update(processor=_processor(), cores=str(_cores()), system=f"{platform.system()} {platform.release()}")
    return found
