"""Tasks: from what users have (arrays, folders of images, label files) to feeds, labels and metrics.

``open_samples(model, data)`` is all that callers need; a new task is one row of :data:`TASKS`.
"""

from __future__ import annotations

import importlib
from typing import Any, Dict, Optional, Tuple, Type, Union

from slimkit.errors import ConfigError, nearest
from slimkit.recipe.data.rendered import RENDERED, rendered_folder
from slimkit.recipe.tasks.guess import guess_task
from slimkit.recipe.tasks.samples import Batch, Samples, Stream
from slimkit.recipe.tasks.signature import Signature, TensorSpec
from slimkit.recipe.tasks.task import Metric, Task, make_task

__all__ = ["TASKS", "Batch", "Metric", "Samples", "Signature", "Stream", "Task", "TensorSpec", "guess_task",
           "open_samples", "task_type"]  # fmt: skip

#: Task -> where its class is.
TASKS: Dict[str, str] = {
    "array": "slimkit.recipe.tasks.array:ArrayTask",
    "image": "slimkit.recipe.tasks.image:ImageTask",
    "classification": "slimkit.recipe.tasks.classification:ClassificationTask",
    "ppocr_cls": "slimkit.recipe.tasks.ppocr_cls:PpocrClsTask",
    "ppocr_rec": "slimkit.recipe.tasks.ppocr_rec:PpocrRecTask",
    "ppocr_det": "slimkit.recipe.tasks.ppocr_det:PpocrDetTask",
}


def task_type(name: str) -> Type[Task]:
    """Returns a task's class.

    Raises:
        ConfigError: there is no such task; with the nearest.
    """
    if name not in TASKS:
        close = nearest(name, TASKS)
        hint = f"did you mean {close}?" if close else f"the tasks are {', '.join(TASKS)}."
        raise ConfigError(f"There is no task {name}; {hint}")
    module, _, attribute = TASKS[name].partition(":")
    found: Type[Task] = getattr(importlib.import_module(module), attribute)
    return found


def open_samples(
    model: Union[Signature, Any], data: str, task: Optional[str] = None, **options: Any
) -> Tuple[Task, Samples]:
    """Opens data for a model.

    Args:
        model: a :class:`slimkit.ir.Model`, or its :class:`Signature`.
        data: a ``.npy`` or ``.npz`` file, a folder, a label file, an image, ``fashion_mnist``, or
            ``rendered:rec:200`` (see :mod:`slimkit.recipe.data.rendered`).
        task: a key of :data:`TASKS`; None: guessed from the model's inputs and outputs and the data.
        **options: of the task; those that are None are left at their defaults.

    Returns:
        The task and its samples.

    Raises:
        ConfigError: there is no such task or option.
        DataError: the data is missing, empty or does not fit the model.
    """
    signature = Signature.of(model)
    if str(data).startswith(RENDERED):
        data = str(rendered_folder(str(data)))
    name = task or guess_task(signature, data)
    found = make_task(task_type(name), signature, options)
    return found, found.open(str(data))
