"""True boxes of pictures, from a COCO file or from YOLO text files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoprec.data.dataset import Bucketed, Dataset, Source
from autoprec.data.images import ImageFolder, picture_of
from autoprec.data.placement import Placement
from autoprec.errors import DataError
from autoprec.graph.interface import Batch
from autoprec.precision import Array

Picture = tuple[int, int]
"""Height and width in pixels."""
_PADDING = -1.0


@dataclass(frozen=True, slots=True)
class Boxes:
    """The true boxes of one picture.

    Attributes:
        rows: float64[boxes, 6]: class, left, top, right and bottom, and whether it is a crowd.
        size: height and width that the corners are counted in; None where they are shares of the picture.
    """

    rows: Array
    size: Picture | None


class Annotations:
    """The true boxes of many pictures, by the name of the file and in the order of the annotations.

    Attributes:
        path: the path of the annotations.
        by_name: name of the file without folders and ending -> its boxes.
    """

    def __init__(self, path: Path, by_name: Mapping[str, Boxes]) -> None:
        self.path, self.by_name = path, by_name

    def of_files(self, files: Sequence[Path]) -> list[Boxes]:
        """Return the boxes of each file.

        Raises:
            DataError: a file is not in the annotations.
        """
        missing = [file.name for file in files if file.stem not in self.by_name]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(files)} images are not in {self.path}, the first is {missing[0]}; annotate "
                f"or remove them"
            )
        return [self.by_name[file.stem] for file in files]

    def in_order(self, count: int, origin: str) -> list[Boxes]:
        """Return the boxes of so many samples in the order of the annotations.

        Raises:
            DataError: there are not as many.
        """
        if len(self.by_name) != count:
            raise DataError(
                f"{origin} has {count} samples without names, and {self.path} annotates {len(self.by_name)} images; "
                f"give the annotations of exactly these samples in their order, or a folder of images"
            )
        return list(self.by_name.values())


@dataclass(frozen=True, slots=True)
class BoxLabels:
    """Where true boxes are.

    Attributes:
        path: a COCO file, or a folder of YOLO text files.
        own_numbers: whether classes are the numbers of COCO's categories, which have gaps, and are not counted from 0.
    """

    path: str | Path
    own_numbers: bool = False


def labels_of_images(labels: BoxLabels, images: ImageFolder) -> Array:
    """Return the labels of a folder of images, found by the names of files, in pixels of the samples.

    Raises:
        DataError: the annotations are damaged, or an image is not among them.
    """
    found = read_annotations(labels).of_files(images.paths)
    return as_labels([placed(boxes, *place) for boxes, place in zip(found, images.placements(), strict=True)])


def labels_of_samples(labels: BoxLabels, data: Dataset) -> Array:
    """Return the labels of samples without names, whose pictures were resized plainly, in pixels of the samples.

    Raises:
        DataError: the annotations are damaged or of another number of samples, or the samples are no pictures.
    """
    picture = picture_of(data)
    if picture is None:
        raise DataError(f"--labels has boxes of images, but no input of {data.origin} is an image")
    found = read_annotations(labels).in_order(data.count, data.origin)
    sizes = [boxes.size or (1, 1) for boxes in found]
    scales = [(picture[1] / width, picture[0] / height) for height, width in sizes]
    return as_labels(
        [
            placed(boxes, size, Placement(scale, (0.0, 0.0)))
            for boxes, size, scale in zip(found, sizes, scales, strict=True)
        ]
    )


def read_annotations(labels: BoxLabels) -> Annotations:
    """Read a COCO file, or a folder of YOLO text files.

    COCO numbers its categories with gaps; classes are counted from 0 in the order of their numbers, as most detectors
    do. A YOLO file has a line for each box: class, centre, width and height as shares of the picture; an empty file is
    a picture without boxes.

    Raises:
        DataError: it is neither, or is damaged.
    """
    path = Path(labels.path)
    if path.is_dir():
        return _of_yolo(path)
    if path.is_file():
        return _of_coco(path, labels.own_numbers)
    raise DataError(f"--labels must be a COCO file or a folder of YOLO text files, but there is no {path}")


def _of_coco(path: Path, own_numbers: bool) -> Annotations:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        categories = sorted(int(category["id"]) for category in record["categories"])
        numbers = {number: number if own_numbers else index for index, number in enumerate(categories)}
        rows: dict[Any, list[list[float]]] = {image["id"]: [] for image in record["images"]}
        for found in record["annotations"]:
            left, top, width, height = (float(value) for value in found["bbox"])
            kind, crowd = numbers[int(found["category_id"])], float(found.get("iscrowd", 0) or 0)
            rows[found["image_id"]].append([kind, left, top, left + width, top + height, crowd])
        boxes = {
            Path(str(image["file_name"])).stem: Boxes(
                _checked(rows[image["id"]], path), (int(image["height"]), int(image["width"]))
            )
            for image in record["images"]
        }
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not a COCO file of boxes ({type(error).__name__}: {error}); it must have images with id, "
            f"file_name, height and width, categories with id, and annotations with image_id, category_id and bbox"
        ) from error
    if len(boxes) != len(record["images"]):
        raise DataError(f"{path} has two images of the same name; give each its own name")
    return Annotations(path, boxes)


def _of_yolo(folder: Path) -> Annotations:
    files = sorted(file for file in folder.iterdir() if file.suffix == ".txt" and file.name != "classes.txt")
    if not files:
        raise DataError(f"{folder} has no .txt files; a YOLO file is named like its picture")
    return Annotations(folder, {file.stem: Boxes(_yolo_rows(file), None) for file in files})


def _yolo_rows(file: Path) -> Array:
    rows = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            kind, x, y, width, height = (float(field) for field in fields)
        except ValueError:
            raise DataError(
                f"line {number} of {file} must have five numbers: class, centre x and y, width and height, got {line!r}"
            ) from None
        rows.append([kind, x - width / 2, y - height / 2, x + width / 2, y + height / 2, 0.0])
    return _checked(rows, file)


def _checked(rows: list[list[float]], path: Path) -> Array:
    array = np.array(rows, np.float64).reshape(-1, 6)
    if not np.isfinite(array).all() or (array[:, 0] < 0).any() or (array[:, 0] % 1 != 0).any():
        raise DataError(f"{path} must have finite boxes and classes counted from 0")
    return array


def placed(boxes: Boxes, size: Picture, place: Placement) -> Array:
    """Return the boxes in pixels of what the model gets, float64[boxes, 6].

    Args:
        boxes: the boxes.
        size: height and width of the picture's file.
        place: where its pixels lie.
    """
    rows: Array = boxes.rows.copy()
    height, width = boxes.size or (1, 1)
    for axis, (length, given) in enumerate(((size[1], width), (size[0], height))):
        for column in (1 + axis, 3 + axis):
            rows[:, column] = rows[:, column] * (length / given) * place.scale[axis] + place.shift[axis]
    return rows


def as_labels(boxes: Sequence[Array]) -> Array:
    """Return the boxes of all pictures as labels, float32[pictures, most boxes, 6]; padding has class -1."""
    most = max(1, *(len(rows) for rows in boxes)) if boxes else 1
    labels = np.full((len(boxes), most, 6), _PADDING, np.float32)
    for row, found in zip(labels, boxes, strict=True):
        row[: len(found)] = found
    return labels


class LabelledSource:
    """A source with other labels than its own."""

    def __init__(self, source: Source, labels: Array) -> None:
        """Wrap `source`; `labels` has one entry for each of its samples."""
        self._source, self._labels = source, labels
        self.count, self.input_names, self.origin = source.count, source.input_names, source.origin
        self.has_labels = True
        self.buckets = source.buckets if isinstance(source, Bucketed) else np.zeros(source.count, np.int64)

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples at `indices` with their labels."""
        return Batch(self._source.read(indices).inputs, self._labels[np.asarray(indices, np.int64)])
