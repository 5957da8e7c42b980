"""From a config's ``data`` section to a training and a test set."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Tuple, Union

from slimkit.errors import DataError
from slimkit.recipe.data.dataset import Dataset

__all__ = ["build_datasets"]

Pair = Tuple[Dataset, Dataset]


def build_datasets(config: Mapping[str, Any], *, num_classes: int, seed: int = 0) -> Pair:
    """Makes the training and the test set of a config.

    Args:
        config: the ``data`` section as a mapping (``config.data.model_dump()``).
        num_classes: outputs of the network.
        seed: of order, augmentation, limits and rendering.

    Raises:
        DataError: one sentence: what is missing or wrong, where, and the remedy.
    """
    kind = config["kind"]
    if kind == "fashion_mnist" and config["root"]:
        kind = "imagenet"
    return _KINDS[kind](config, num_classes, seed)


def _common(config: Mapping[str, Any], seed: int) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Returns :class:`Dataset`'s own arguments for training and for test."""
    both = {key: config[key] for key in ("workers", "prefetch", "on_corrupt")}
    both["seed"] = seed
    train = dict(both, train=True, batch_size=config["batch_size"], limit=config["train_limit"])
    train["drop_last"] = config["drop_last"]
    return train, dict(both, train=False, batch_size=config["eval_batch_size"], limit=config["eval_limit"])


def _given(config: Mapping[str, Any], *keys: str) -> Dict[str, Any]:
    """Returns those of the keys that the config sets; the datasets have their own defaults."""
    return {key: config[key] for key in keys if config[key] is not None}


def image_size(value: Union[int, List[int]]) -> Tuple[int, int]:
    """Returns (height, width) of ``data.image_size``."""
    sides = [value] if isinstance(value, int) else list(value)
    return sides[0], sides[-1]


def check_classes(num_classes: int, names: List[str], what: str) -> None:
    """Refuses a network whose outputs are not the data's classes."""
    if num_classes != len(names):
        raise DataError(
            f"{what} has {len(names)} classes, but the network has {num_classes} outputs; set "
            f"network.num_classes={len(names)}."
        )


def _fashion_mnist(config: Mapping[str, Any], num_classes: int, seed: int) -> Pair:
    from slimkit.recipe.data.fashion_mnist import CLASS_NAMES, FashionMnist

    check_classes(num_classes, list(CLASS_NAMES), "fashion_mnist")
    train, test = _common(config, seed)
    shared = dict(_given(config, "mean", "std"), size=image_size(config["image_size"]))
    augmentation = _given(config, "augment", "flip", "shift", "erase")
    return FashionMnist(**train, **shared, **augmentation), FashionMnist(**test, **shared)


def _imagenet(config: Mapping[str, Any], num_classes: int, seed: int) -> Pair:
    from slimkit.recipe.data.image_folder import ImageFolder
    from slimkit.recipe.data.image_index import index_folder

    if not config["root"]:
        raise DataError("data.kind is imagenet, but data.root is not set; set it to the folder of the images.")
    index = index_folder(
        config["root"], train_list=config["train_list"], val_list=config["val_list"], num_classes=num_classes
    )
    train, test = _common(config, seed)
    shared = dict(_given(config, "mean", "std", "channel_order"), size=image_size(config["image_size"]))
    augmentation = _given(config, "augment", "flip", "erase")
    return (
        ImageFolder(index.train, index.class_names, **train, **shared, **augmentation),
        ImageFolder(index.val, index.class_names, **test, **shared, **_given(config, "resize_short")),
    )


def _text_lines(config: Mapping[str, Any], num_classes: int, seed: int) -> Pair:
    from slimkit.recipe.data.text_lines import CLASS_NAMES, INPUT_SIZE, TextLines

    check_classes(num_classes, list(CLASS_NAMES), "text_lines")
    if config["root"]:
        raise DataError("data.root is set, but text_lines are rendered, not read; remove data.root.")
    size = image_size(config["image_size"])
    if size != INPUT_SIZE:
        raise DataError(
            f"data.image_size is {list(size)}, but text lines are {list(INPUT_SIZE)} (PP-OCR's direction "
            f"classifier); set data.image_size={list(INPUT_SIZE)}."
        )
    train, test = _common(config, seed)
    shared = _given(config, "mean", "std", "channel_order", "difficulty", "languages", "fonts", "cache_dir")
    return (
        TextLines(config["train_samples"], **train, **shared, augment=config["augment"]),
        TextLines(config["eval_samples"], **test, **shared),
    )


_KINDS: Dict[str, Callable[[Mapping[str, Any], int, int], Pair]] = {
    "fashion_mnist": _fashion_mnist,
    "imagenet": _imagenet,
    "text_lines": _text_lines,
}
