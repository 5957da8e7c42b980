"""Saved models and layers as legacy programs, as ``paddleslim.common`` and ``paddleslim.core`` give them."""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple, Union

import paddle

from slimkit.errors import ModelError
from slimkit.ir import Model

__all__ = ["dygraph2program", "get_feed_vars", "get_model_dir", "load_inference_model"]


def get_feed_vars(model_dir: str, model_filename: Optional[str], params_filename: Optional[str]) -> List[str]:
    """The names of a saved model's inputs. Unlike PaddleSlim's it leaves Paddle in the mode it is in.

    Raises:
        ModelError: the model cannot be read.
    """
    return list(_load(model_dir, model_filename, params_filename).feeds)


def load_inference_model(
    path_prefix: str, executor: Any, model_filename: Optional[str] = None, params_filename: Optional[str] = None
) -> List[Any]:
    """Loads a saved model of any format of Paddle's into the global scope, as a legacy program.

    Args:
        path_prefix: folder or prefix.
        executor: not needed, for PaddleSlim's sake.
        model_filename, params_filename: in the folder.

    Returns:
        ``[program, names of the feeds, variables to fetch]``.

    Raises:
        ModelError: the model cannot be read.
    """
    model = _load(path_prefix, model_filename, params_filename)
    scope = paddle.static.global_scope()
    for name in model.params:
        scope.var(name).get_tensor().set(model.params[name], paddle.CPUPlace())
    block = model.program.global_block()
    return [model.program, list(model.feeds), [block.var(name) for name in model.fetches]]


def get_model_dir(
    model_dir: str, model_filename: Optional[str], params_filename: Optional[str]
) -> Tuple[str, str, str]:
    """The folder and files of a model, with PaddleSlim's defaults filled in.

    Raises:
        ModelError: a model file without its file of parameters.
    """
    if model_filename is not None and params_filename is None:
        raise ModelError(f"params_filename is needed with model_filename = '{model_filename}'; give both, or none.")
    return str(model_dir).rstrip("/"), model_filename or "model.pdmodel", params_filename or "model.pdiparams"


def dygraph2program(layer: Any, inputs: Any, dtypes: Optional[Sequence[str]] = None) -> Any:
    """The legacy program of a layer.

    Args:
        layer: a ``paddle.nn.Layer``.
        inputs: a shape, shapes, or tensors, one an argument of its forward.
        dtypes: of the shapes; None: float32.

    Raises:
        ModelError: the layer cannot be traced with these inputs.
    """
    shapes = [inputs] if all(isinstance(side, int) for side in inputs) else list(inputs)
    kinds = list(dtypes) if dtypes is not None else ["float32"] * len(shapes)
    specs = [
        shape if isinstance(shape, paddle.Tensor) else paddle.static.InputSpec(list(shape), kind)
        for shape, kind in zip(shapes, kinds)
    ]
    return Model.from_layer(layer, specs).program


def _load(folder: Union[str, Path], model_filename: Optional[str], params_filename: Optional[str]) -> Model:
    return Model.load(folder, model_filename=model_filename, params_filename=params_filename)
