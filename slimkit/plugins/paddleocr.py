"""Repairs of PaddleOCR (2.6 to 2.9) for Paddle 3 and numpy 2, and for PP-OCRv4 in its ``deploy/slim`` scripts.

``deploy/slim`` was not kept up with ``tools/train.py``: its scripts take every multi-head recognizer to be PP-OCRv3's,
and the prune scripts know detectors and lines 32 high only. Their ``main`` is rewritten when they call
``program.preprocess``, which they all do first; the files stay as they are.
"""

from __future__ import annotations

import ast
import functools
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, List, Optional, Sequence, Tuple

from slimkit.plugins.both_formats import beside_json
from slimkit.plugins.hooks import Undo
from slimkit.plugins.paddleocr_pact import started
from slimkit.plugins.paddleocr_rep import merge_branches, merged_first, note_checkpoint
from slimkit.plugins.repairs import Repair, with_attribute

__all__ = ["REPAIRS", "input_shape", "mended_main"]

_logger = logging.getLogger("slimkit")

#: Inserted by name into the scripts' globals: what gives the shape that the config says, what merges branches.
_SHAPE, _MERGE = "_slimkit_input_shape", "_slimkit_merge_branches"


def _one_number(module: ModuleType) -> Optional[Undo]:
    """``int(np.random.choice(axis, size=1))``: from numpy 2.4 on an array of one element is no number."""
    import numpy as np

    def region_wise_random_select(regions: Sequence[Any], max_size: int) -> Tuple[int, int]:
        chosen = [int(np.random.choice(regions[index])) for index in np.random.choice(len(regions), 2)]
        return min(chosen), max(chosen)

    if not hasattr(module, "region_wise_random_select"):
        return None
    return with_attribute(module, "region_wise_random_select", region_wise_random_select)


def _both_formats(exporting: ModuleType) -> Undo:
    """Writes ``inference.pdmodel`` beside the ``inference.json`` of a float model."""
    original = exporting.export_single_model

    @functools.wraps(original)
    def export_single_model(
        model: Any, arch_config: Any, save_path: str, logger: Any, input_shape: Any = None, quanter: Any = None
    ) -> Any:
        result = original(model, arch_config, save_path, logger, input_shape, quanter)
        if quanter is None:
            beside_json(save_path)
        return result

    return with_attribute(exporting, "export_single_model", export_single_model)


def _slim_scripts(program: ModuleType) -> Undo:
    """Lets ``tools.program.preprocess`` mend the ``deploy/slim`` script that calls it."""
    original = program.preprocess

    @functools.wraps(original)
    def preprocess(*args: Any, **kwargs: Any) -> Any:
        script = sys._getframe(1).f_globals
        path = Path(script.get("__file__") or "")
        if path.parent.parent.name == "slim" and callable(script.get("main")):
            _mend(path, script)
        found = original(*args, **kwargs)
        note_checkpoint(found[0])
        return found

    return with_attribute(program, "preprocess", preprocess)


def _mend(path: Path, script: Dict[str, Any]) -> None:
    train = path.resolve().parents[3] / "tools" / "train.py"
    try:
        sources = path.read_text(encoding="utf-8"), train.read_text(encoding="utf-8")
    except OSError:
        return
    found = mended_main(*sources)
    if found is None:
        return
    main, changes = found
    script[_SHAPE], script[_MERGE] = input_shape, merge_branches
    exec(compile(ast.Module([main], []), str(path), "exec"), script)
    _logger.info("%s: %s; see docs/paddleocr.md", path.name, "; ".join(changes))


def mended_main(script: str, train: str) -> Optional[Tuple[ast.FunctionDef, List[str]]]:
    """The function ``main`` of a ``deploy/slim`` script, with what PP-OCRv4 needs.

    Args:
        script: the script's source.
        train: the source of the same PaddleOCR's ``tools/train.py``.

    Returns:
        The function and what was changed in it; None: nothing is to be changed.
    """
    main, good = _main(script), _main(train)
    if main is None or good is None:
        return None
    changes: List[str] = []
    theirs = _heads(good.body)
    own = _heads(main.body)
    if own is not None and theirs is not None and "NRTRLabelDecode" not in ast.dump(main.body[own]):
        main.body[own] = good.body[theirs]
        changes.append("heads are set up as tools/train.py does it")
    for name, given in (("input_shape", "[1, 3, 640, 640]"), ("infer_shape", "[3, -1, -1]")):
        place = next((i for i, row in enumerate(main.body) if isinstance(row, ast.If) and _assigns(row, name)), None)
        if place is not None:  # a network that the condition does not know gets `given`
            main.body[place:place] = ast.parse(f"{name} = {given}").body
            main.body[place + 2 : place + 2] = ast.parse(f"{name} = {_SHAPE}(config, {name})").body
            changes.append(f"{name} is the config's image_shape")
    place = next((i for i, row in enumerate(main.body) if ast.unparse(row).startswith("model = to_static(")), None)
    if place is not None:
        main.body[place:place] = ast.parse(f"model.eval()\n{_MERGE}(model)").body
        changes.append("the network is exported in eval mode, its branches merged")
    return (ast.fix_missing_locations(main), changes) if changes else None


def input_shape(config: Dict[str, Any], given: Sequence[int]) -> List[int]:
    """The shape of a network's input: of lines as the config's ``Eval`` resizes them, else the one given.

    Args:
        config: PaddleOCR's.
        given: [N,] C, H, W; -1 stays.
    """
    steps = config["Eval"]["dataset"]["transforms"]
    named = [value["image_shape"] for step in steps for value in step.values() if "image_shape" in (value or {})]
    if config["Architecture"]["model_type"] not in ("rec", "cls") or not named:
        return list(given)
    own = [*given[:-3], *named[0]]
    return [old if old == -1 else new for old, new in zip(given, own)]


def _main(source: str) -> Optional[ast.FunctionDef]:
    rows = ast.parse(source).body
    return next((row for row in rows if isinstance(row, ast.FunctionDef) and row.name == "main"), None)


def _heads(rows: Sequence[ast.stmt]) -> Optional[int]:
    """Where the networks' numbers of classes are set: ``if hasattr(post_process_class, "character")``."""
    for place, row in enumerate(rows):
        if (
            isinstance(row, ast.If)
            and "post_process_class" in ast.unparse(row.test)
            and "hasattr" in ast.unparse(row.test)
        ):
            return place
    return None


def _assigns(row: ast.If, name: str) -> bool:
    """Whether a condition gives a variable a list."""
    return any(
        isinstance(inner, ast.Assign)
        and isinstance(inner.value, ast.List)
        and any(isinstance(t, ast.Name) and t.id == name for t in inner.targets)
        for inner in ast.walk(row)
    )


REPAIRS: Tuple[Repair, ...] = (
    Repair(
        "ppocr.data.imaug.random_crop_data",
        _one_number,
        "TypeError: only 0-dimensional arrays can be converted to Python scalars, logged for most pictures of a "
        "detector's training, which it then leaves out, on numpy 2.4 and later",
        "not reported; numpy 2.4 made a deprecation of numpy 1.25 an error",
    ),
    Repair(
        "ppocr.utils.export_model",
        _both_formats,
        "ValueError: Please set inference model dir, from deploy/slim/quantization/quant_kl.py, which reads "
        "inference.pdmodel: tools/export_model.py writes inference.json",
        "PaddlePaddle/PaddleOCR#14223",
    ),
    Repair(
        "tools.program",
        _slim_scripts,
        "deploy/slim/quantization on PP-OCRv4's recognizer: AssertionError, as its second loss is not SARLoss; "
        "deploy/slim/prune on it or the direction classifier: a pooling of height 0, UnboundLocalError of input_shape",
        "PaddlePaddle/PaddleOCR#11409, #11897",
    ),
    Repair(
        "slimkit.quant.layers.qat",
        merged_first,
        "what is exported of PP-OCRv4's networks was not trained quantized: deploy/slim quantizes the branches that "
        "its export merges, and exports a pruned network with them",
        "quant.py quantizes, then ppocr/utils/export_model.py merges",
    ),
    Repair(
        "slimkit.quant.layers.wrappers",
        started,
        "hmean 0 after QAT of PP-OCRv4's detector: alpha of quant.py's PACT starts at 20, activations reach 2000",
        "deploy/slim/quantization/quant.py is of the time of MobileNetV3",
    ),
)
