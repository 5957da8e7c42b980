"""Run by Python at its start: slimkit under the name of paddleslim, if asked; then the sitecustomize it stands before.

It must run in any Python 3 and must not fail: it is imported by every process that a script starts.
"""

import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _ask() -> None:
    if os.environ.get("SLIMKIT_AS_PADDLESLIM") != "1" or sys.version_info < (3, 9):
        return
    if importlib.util.find_spec("slimkit") is None:
        sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(_HERE))))
    from slimkit.plugins.startup import install_if_asked

    install_if_asked()


def _chain() -> None:
    others = [entry for entry in sys.path if os.path.abspath(entry or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


try:
    _ask()
finally:
    _chain()
