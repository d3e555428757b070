"""True boxes from COCO files and YOLO text files, in pixels of what the model gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoprec.data.annotations import BoxLabels, labels_of_images, labels_of_samples
from autoprec.data.dataset import Dataset
from autoprec.data.images import ImageFolder
from autoprec.errors import DataError
from autoprec.recipes.image import ImageRecipe

SIZES = {"a.png": (40, 20), "b.png": (20, 40)}
WHITE = {"a.png": (10, 5, 30, 15), "b.png": (4, 8, 16, 20)}
"""Width and height of each image, and its white box: left, top, right, bottom."""


def folder_of(path: Path) -> Path:
    """Two black images with a white box each."""
    path.mkdir()
    for name, (width, height) in SIZES.items():
        image = Image.new("RGB", (width, height))
        left, top, right, bottom = WHITE[name]
        image.paste((255, 255, 255), (left, top, right, bottom))
        image.save(path / name)
    return path


def coco(path: Path) -> Path:
    boxes = [
        {"image_id": n, "category_id": 7 + n, "bbox": [left, top, right - left, bottom - top], "iscrowd": n % 2}
        for n, (left, top, right, bottom) in enumerate(WHITE.values())
    ]
    images = [{"id": n, "file_name": name, "width": w, "height": h} for n, (name, (w, h)) in enumerate(SIZES.items())]
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 8}, {"id": 7}]}))
    return path


def yolo(path: Path) -> Path:
    path.mkdir()
    for number, (name, (left, top, right, bottom)) in enumerate(WHITE.items()):
        width, height = SIZES[name]
        shares = [
            (left + right) / 2 / width,
            (top + bottom) / 2 / height,
            (right - left) / width,
            (bottom - top) / height,
        ]
        (path / name.replace("png", "txt")).write_text(f"{number} {' '.join(map(str, shares))}\n")
    return path


RECIPES = [
    ImageRecipe(resize=(64, 64)),
    ImageRecipe(resize=(80, 80), crop=(60, 60)),
    ImageRecipe(letterbox=(64, 64)),
    ImageRecipe(letterbox=(64, 96), place="corner"),
]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("make", [coco, yolo])
def test_a_box_lies_where_its_pixels_lie_after_the_recipe(tmp_path: Path, make: object, recipe: ImageRecipe) -> None:
    images = ImageFolder(folder_of(tmp_path / "images"), "x", recipe)
    labels = labels_of_images(BoxLabels(make(tmp_path / "labels")), images)  # type: ignore[operator]

    for pixels, (kind, *corners, _), number in zip(images.read([0, 1]).inputs["x"], labels[:, 0], (0, 1), strict=True):
        rows, columns = np.nonzero(pixels[0] > 0.7)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(seen, np.clip(corners, 0, max(pixels.shape)), atol=1.01)
        assert kind == number


def test_classes_are_counted_from_zero_unless_the_detector_has_the_numbers_of_coco(tmp_path: Path) -> None:
    images, path = ImageFolder(folder_of(tmp_path / "images"), "x", RECIPES[0]), coco(tmp_path / "coco.json")

    assert labels_of_images(BoxLabels(path), images)[:, 0, 0].tolist() == [0, 1]
    assert labels_of_images(BoxLabels(path, own_numbers=True), images)[:, 0, 0].tolist() == [7, 8]
    assert labels_of_images(BoxLabels(path), images)[:, 0, 5].tolist() == [0, 1]


def test_samples_without_names_take_the_boxes_in_their_order(tmp_path: Path) -> None:
    data = Dataset.from_arrays({"x": np.zeros((2, 3, 60, 80), np.float32)})
    labels = labels_of_samples(BoxLabels(coco(tmp_path / "coco.json")), data)

    np.testing.assert_allclose(labels[0, 0, 1:5], [20, 15, 60, 45])
    with pytest.raises(DataError, match=r"has 3 samples without names, and .* annotates 2 images"):
        labels_of_samples(BoxLabels(tmp_path / "coco.json"), Dataset.from_arrays({"x": np.zeros((3, 3, 60, 80))}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is not a COCO file of boxes"),
        ('{"images": [], "categories": [], "annotations": [{"image_id": 1}]}', "must have images with id"),
        ("{" * 100_000, "is not a COCO file of boxes"),
        ("\x00", "is not a COCO file of boxes"),
    ],
)
def test_a_damaged_coco_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "coco.json").write_text(text)
    images = ImageFolder(folder_of(tmp_path / "images"), "x", RECIPES[0])

    with pytest.raises(DataError, match=message):
        labels_of_images(BoxLabels(tmp_path / "coco.json"), images)


def test_a_damaged_yolo_file_and_a_picture_without_one_are_refused(tmp_path: Path) -> None:
    images = ImageFolder(folder_of(tmp_path / "images"), "x", RECIPES[0])
    labels = yolo(tmp_path / "labels")
    (labels / "a.txt").write_text("0 0.5 0.5 0.1\n")
    with pytest.raises(DataError, match=r"line 1 of .*a\.txt must have five numbers"):
        labels_of_images(BoxLabels(labels), images)
    (labels / "a.txt").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images are not in .*, the first is a\.png"):
        labels_of_images(BoxLabels(labels), images)
