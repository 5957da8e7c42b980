"""A tiny data set in COCO's format: discs, squares and triangles on a noisy ground, drawn from a seed.

``python tests/plugins/coco_data.py FOLDER`` writes what PaddleDetection's ``dataset_dir`` is to name: ``train2017/``,
``val2017/`` with JPEG files and ``annotations/instances_{train,val}2017.json``; and ``val_SIDE.npz``, the pictures of
``val2017`` as a detector takes them, for ``slimkit verify``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["CLASSES", "make_coco", "mean_average_precision"]

CLASSES = ("disc", "square", "triangle")
#: Mean colours, so that a network learns the classes in a few minutes; single objects differ by up to 40 a channel.
COLOURS = ((205, 70, 60), (60, 185, 90), (70, 90, 215))
#: Sides of the objects, in shares of the image's.
SIDES = (0.22, 0.45)


def make_coco(folder: Path, train: int = 48, val: int = 16, side: int = 160, seed: int = 0) -> Path:
    """Writes the data set, the same for the same arguments.

    Args:
        folder: made if missing; the data set's root.
        train, val: images.
        side: of an image, in pixels.
        seed: of everything drawn.

    Returns:
        ``folder``.
    """
    for part, (name, count) in enumerate((("train2017", train), ("val2017", val))):
        random = np.random.RandomState(1000 * seed + part)
        (folder / name).mkdir(parents=True, exist_ok=True)
        images: List[Dict[str, Any]] = []
        annotations: List[Dict[str, Any]] = []
        for number in range(count):
            picture, objects = _picture(random, side)
            file = f"{number:06d}.jpg"
            picture.save(folder / name / file, quality=95)
            images.append({"id": number, "file_name": file, "width": side, "height": side})
            annotations += [
                {
                    "id": len(annotations) + offset + 1, "image_id": number, "category_id": kind + 1, "iscrowd": 0,
                    "bbox": [float(value) for value in box], "area": float(box[2] * box[3]),
                }
                for offset, (kind, box) in enumerate(objects)
            ]  # fmt: skip
        (folder / "annotations").mkdir(exist_ok=True)
        categories = [{"id": index + 1, "name": title, "supercategory": "shape"} for index, title in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    files = sorted((folder / "val2017").glob("*.jpg"))
    feeds = [_feed(file, side) for file in files]
    np.savez(folder / f"val_{side}.npz", **{name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]})
    return folder


def _picture(random: Any, side: int) -> Tuple[Any, List[Tuple[int, Tuple[int, int, int, int]]]]:
    """An image with one to three objects that do not overlap; boxes are x, y, width, height."""
    ground = random.randint(90, 170, (1, 1, 3)) + random.normal(0, 12, (side, side, 3))
    picture = Image.fromarray(ground.clip(0, 255).astype("uint8"))
    draw = ImageDraw.Draw(picture)
    objects: List[Tuple[int, Tuple[int, int, int, int]]] = []
    wanted = random.randint(1, 4)
    for _ in range(50):
        size = int(side * random.uniform(*SIDES))
        x, y = (int(value) for value in random.randint(0, side - size, 2))
        if any(x < a + w and a < x + size and y < b + h and b < y + size for _, (a, b, w, h) in objects):
            continue
        kind = int(random.randint(len(CLASSES)))
        colour = tuple(int(value) for value in np.clip(np.add(COLOURS[kind], random.randint(-40, 41, 3)), 0, 255))
        corner = (x, y, x + size, y + size)
        if kind == 0:
            draw.ellipse(corner, fill=colour)
        elif kind == 1:
            draw.rectangle(corner, fill=colour)
        else:
            draw.polygon([(x + size // 2, y), (x, y + size), (x + size, y + size)], fill=colour)
        objects.append((kind, (x, y, size, size)))
        if len(objects) == wanted:
            break
    return picture, objects


def mean_average_precision(folder: Path, side: int, run: Callable[[List[Dict[str, np.ndarray]]], Any]) -> float:
    """COCO's mAP (IoU 0.5 to 0.95) of a detector with PaddleDetection's inputs and outputs, on ``val2017``.

    Args:
        folder: the data set.
        side: what images are resized to.
        run: feeds -> for each its outputs: boxes [M, 6] of class, score, x1, y1, x2, y2; then their number.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(folder / "annotations" / "instances_val2017.json"))
    images = truth.loadImgs(sorted(truth.getImgIds()))
    feeds = [_feed(folder / "val2017" / image["file_name"], side) for image in images]
    found = [
        {
            "image_id": image["id"], "category_id": int(kind) + 1, "score": float(score),
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
        }
        for image, outputs in zip(images, run(feeds))
        for kind, score, x1, y1, x2, y2 in outputs[0] if kind >= 0
    ]  # fmt: skip
    if not found:
        return 0.0
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def _feed(file: Path, side: int) -> Dict[str, np.ndarray]:
    """An image as PaddleDetection's TestReader prepares it."""
    import cv2

    image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    scale = [side / image.shape[0], side / image.shape[1]]
    resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    normal = (resized / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return {
        "image": normal.transpose(2, 0, 1)[None].astype("float32"),
        "im_shape": np.array([[side, side]], "float32"),
        "scale_factor": np.array([scale], "float32"),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=48)
    parser.add_argument("--val", type=int, default=16)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(make_coco(arguments.folder, arguments.train, arguments.val, arguments.side, arguments.seed))
