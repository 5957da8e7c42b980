"""Making an inference program trainable: parameters, batch norm, dropout and a loss.

Inference models carry no training information: their weights are plain persistable variables and their batch norms
are frozen. ``to_training`` turns such a ``Model`` into one that ``optimizer.minimize`` accepts.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from paddle.base import core

from slimkit.errors import ModelError
from slimkit.ir.graph import promote_to_parameter
from slimkit.ir.guards import legacy_ir

__all__ = ["to_imitation", "to_training"]

_FLOATS = (core.VarDesc.VarType.FP32, core.VarDesc.VarType.FP16, core.VarDesc.VarType.BF16)
#: Slots whose variables are statistics or constants, not weights: op type -> slots.
_STATISTICS: Dict[str, List[str]] = {
    "batch_norm": ["Mean", "Variance"],
    "sync_batch_norm": ["Mean", "Variance"],
}


#: Variables of the losses that ``to_training`` and ``to_imitation`` append.
_LOSS_NAMES = ("train_loss.softmax", "train_loss.each", "train_loss")
_IMITATION_NAMES = ("imitation_loss.softmax", "imitation_loss.difference", "imitation_loss.each", "imitation_loss")


def _statistics(block: Any) -> set:
    names = set()
    for op in block.ops:
        for slot in _STATISTICS.get(op.type, []):
            names.update(op.input(slot))
    return names


def _promote(block: Any) -> List[str]:
    """Makes every float weight a Parameter; returns their names."""
    fixed = _statistics(block)
    names = []
    for name, var in list(block.vars.items()):
        held = core.VarDesc.VarType.FEED_MINIBATCH, core.VarDesc.VarType.FETCH_LIST, core.VarDesc.VarType.RAW
        if not var.persistable or var.type in held or var.dtype not in _FLOATS:
            continue
        if name in fixed:
            var.stop_gradient = True
            continue
        promote_to_parameter(block, name, trainable=True)
        names.append(name)
    return names


def _clear_stop_gradient(block: Any, fixed: List[str]) -> None:
    for name, var in block.vars.items():
        if not var.persistable and name not in fixed and var.dtype in _FLOATS:
            var.stop_gradient = False


def _train_mode(block: Any, batch_norm: bool) -> None:
    for op in block.ops:
        if op.type in _STATISTICS:
            op._set_attr("is_test", not batch_norm)
            op._set_attr("use_global_stats", not batch_norm)
            _restore_outputs(block, op)
        elif op.has_attr("is_test"):  # dropout is live again, and oneDNN refuses gradients of ops in test mode
            op._set_attr("is_test", False)


def _restore_outputs(block: Any, op: Any) -> None:
    """Gives a batch norm the outputs its gradient needs, which saving for inference drops."""
    channels = [int(block.vars[op.input("Scale")[0]].shape[0])]
    for slot in ("SavedMean", "SavedVariance", "ReserveSpace"):
        if slot not in op.output_names or not op.output(slot):
            var = block.create_var(
                name=f"{op.output('Y')[0]}.{slot.lower()}", shape=channels, dtype="float32"
            )
            op.desc.set_output(slot, [var.name])
    for slot, source in (("MeanOut", "Mean"), ("VarianceOut", "Variance")):
        op.desc.set_output(slot, list(op.input(source)))


def to_training(
    model: Any, label: str = "label", output: Optional[str] = None, train_batch_norm: bool = False
) -> str:
    """Adds a softmax cross-entropy loss to a classification model and makes it trainable, in place.

    Args:
        model: a ``slimkit.ir.Model`` for inference with one or more fetches of shape [N, classes].
        label: name of the new feed, int64, shape [N, 1].
        output: the fetch to train; None: the first. If a softmax makes it, the loss starts from the softmax's input.
        train_batch_norm: batch norm uses and updates the statistics of each batch; otherwise it stays frozen, which
            suits fine-tuning with few or narrow data.

    Returns:
        Name of the loss variable, shape [1]; it is also appended to ``model.fetches``, and ``label`` to ``feeds``.

    Raises:
        ModelError: the fetch is unknown or not of rank 2, or a variable of the label's or the loss's name is there.
    """
    with legacy_ir():
        block = model.program.global_block()
        name = output or model.fetches[0]
        _check_names(model, name, (label, *_LOSS_NAMES))
        if len(block.vars[name].shape) != 2:
            raise ModelError(
                f"The output '{name}' has shape {list(block.vars[name].shape)}; a cross-entropy loss needs [batch, "
                "classes]. Choose another output or train with your own loss layer through Model.from_layer."
            )
        _promote(block)
        _clear_stop_gradient(block, [*model.feeds, label])
        _train_mode(block, train_batch_norm)
        producer = next((op for op in reversed(block.ops) if name in op.output_arg_names), None)
        logits = producer.input("X")[0] if producer is not None and producer.type == "softmax" else name
        loss = _append_loss(block, logits, label)
        model.feeds.append(label)
        model.fetches.append(loss)
        return loss


def to_imitation(model: Any, teacher: str = "teacher", output: Optional[str] = None) -> str:
    """Adds a loss that pulls an output towards another network's, and makes the model trainable, in place.

    No labels are needed. Behind a sigmoid it is the binary cross-entropy with the teacher's probabilities, behind a
    softmax the cross-entropy with them (Hinton et al., arXiv:1503.02531, eq. 1 at temperature 1), else the mean
    squared difference. Batch norms stay frozen.

    Args:
        model: a ``slimkit.ir.Model`` for inference.
        teacher: name of the new feed: the other network's output for the same input.
        output: the fetch that imitates; None: the first.

    Returns:
        Name of the loss variable, a scalar; it is also appended to ``model.fetches``, and ``teacher`` to ``feeds``.

    Raises:
        ModelError: the fetch is unknown, or a variable of the teacher's or the loss's name is there.
    """
    with legacy_ir():
        block = model.program.global_block()
        name = output or model.fetches[0]
        _check_names(model, name, (teacher, *_IMITATION_NAMES))
        _promote(block)
        _clear_stop_gradient(block, [*model.feeds, teacher])
        _train_mode(block, False)
        loss = _append_imitation(block, name, teacher)
        model.feeds.append(teacher)
        model.fetches.append(loss)
        return loss


def _append_imitation(block: Any, name: str, teacher: str) -> str:
    producer: Any = next((op for op in reversed(block.ops) if name in op.output_arg_names), None)
    kind = producer.type if producer is not None else ""
    shape = [-1, *block.vars[name].shape[1:]]
    block.create_var(
        name=teacher, shape=shape, dtype="float32", stop_gradient=True, is_data=True, need_check_feed=True
    )
    probabilities, difference, each, loss = (
        block.create_var(name=new, shape=shape if index < 3 else [], dtype="float32")
        for index, new in enumerate(_IMITATION_NAMES)
    )
    if kind == "sigmoid":
        block.append_op(
            type="sigmoid_cross_entropy_with_logits",
            inputs={"X": [producer.input("X")[0]], "Label": [teacher]},
            outputs={"Out": [each]},
            attrs={"normalize": False, "ignore_index": -100},
        )
    elif kind == "softmax":
        block.append_op(
            type="softmax_with_cross_entropy",
            inputs={"Logits": [producer.input("X")[0]], "Label": [teacher]},
            outputs={"Softmax": [probabilities], "Loss": [each]},
            attrs={"soft_label": True, "axis": producer.attr("axis"), "numeric_stable_mode": True},
        )
    else:
        block.append_op(
            type="elementwise_sub", inputs={"X": [name], "Y": [teacher]}, outputs={"Out": [difference]},
            attrs={"axis": -1},
        )  # fmt: skip
        block.append_op(type="square", inputs={"X": [difference]}, outputs={"Out": [each]})
    block.append_op(type="mean", inputs={"X": [each]}, outputs={"Out": [loss]})
    for var in (probabilities, difference, each, loss):
        var.stop_gradient = False
    return str(loss.name)


def _check_names(model: Any, output: str, new: Sequence[str]) -> None:
    """Refuses an output that is not there, and new variables that are."""
    block = model.program.global_block()
    if output not in block.vars:
        raise ModelError(f"The model has no output '{output}'; its outputs are {', '.join(model.fetches)}.")
    for name in new:
        if name in block.vars:
            raise ModelError(
                f"The model has a variable '{name}' already, so the loss cannot have it; give another name for the new "
                "feed, or the inference model if this one was made trainable before."
            )


def _append_loss(block: Any, logits: str, label: str) -> str:
    classes = int(block.vars[logits].shape[-1])
    block.create_var(
        name=label, shape=[-1, 1], dtype="int64", stop_gradient=True, is_data=True, need_check_feed=True
    )
    softmax = block.create_var(name="train_loss.softmax", shape=[-1, classes], dtype="float32")
    each = block.create_var(name="train_loss.each", shape=[-1, 1], dtype="float32")
    loss = block.create_var(name="train_loss", shape=[], dtype="float32")
    block.append_op(
        type="softmax_with_cross_entropy",
        inputs={"Logits": [logits], "Label": [label]},
        outputs={"Softmax": [softmax], "Loss": [each]},
        attrs={"soft_label": False, "ignore_index": -100, "axis": -1, "numeric_stable_mode": True},
    )
    block.append_op(type="mean", inputs={"X": [each]}, outputs={"Out": [loss]})
    for var in (softmax, each, loss):  # append_op marks outputs as stopping the gradient
        var.stop_gradient = False
    return str(loss.name)
