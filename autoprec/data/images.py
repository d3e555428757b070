"""Samples from a folder of image files, which are decoded when they are read."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autoprec.data.dataset import Dataset
from autoprec.data.placement import Placement, placement, resized
from autoprec.errors import DataError
from autoprec.graph.interface import Batch
from autoprec.precision import Array
from autoprec.recipes.image import ImageRecipe

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
"""The endings of the names of image files that can be read, in small letters."""
_LABEL_FILES = {"labels.tsv": "\t", "labels.csv": ","}
_CLASS_FILE = "classes.txt"
_CHANNELS = (1, 3, 4)


def is_image(path: Path) -> bool:
    """Return whether the name of the file is that of an image that can be read."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


class ImageFolder:
    """A source over the images of a folder; it keeps only the images of one batch in memory.

    If the folder has a file `labels.tsv` or `labels.csv`, each of its lines holds the name of an image and its label,
    an integer. Otherwise the label follows from the sub-folder that an image lies in: it is the number of the line of
    `classes.txt` that names the sub-folder or, without that file, the index of the sub-folder among at least two in
    order of name. Both are counted from 0.
    """

    def __init__(self, folder: Path, input_name: str, recipe: ImageRecipe) -> None:
        """List the images of a folder.

        Args:
            folder: the folder.
            input_name: the name of the input of the model that takes the images.
            recipe: how images become arrays.

        Raises:
            DataError: there are no images, or labels and images do not fit together.
        """
        self._paths, self._labels = _list_images(folder)
        if not self._paths:
            raise DataError(f"{folder} has no images; put {', '.join(IMAGE_SUFFIXES)} files there")
        self._name = input_name
        self._recipe = recipe
        self.count = len(self._paths)
        self.input_names = (input_name,)
        self.has_labels = self._labels is not None
        self.origin = str(folder)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The image of each sample."""
        return tuple(self._paths)

    def placements(self) -> Iterator[tuple[tuple[int, int], Placement]]:
        """Yield for each image its height and width, and where its pixels lie in the sample; only headers are read.

        Raises:
            DataError: an image is broken.
        """
        for path in self._paths:
            with _opened(path) as file:
                width, height = file.size
            yield (height, width), placement((height, width), self._recipe)

    def read(self, indices: Sequence[int]) -> Batch:
        """Decode the images at `indices`.

        Raises:
            DataError: an image is broken, or the images have different sizes after the recipe.
        """
        images = [read_image(self._paths[index], self._recipe) for index in indices]
        for index, image in zip(indices, images, strict=True):
            if image.shape != images[0].shape:
                raise DataError(
                    f"all images must have one size after the recipe, but {self._paths[indices[0]]} has "
                    f"{images[0].shape} and {self._paths[index]} has {image.shape}; set crop, or an exact "
                    f"resize, in the [image] table"
                )
        labels = None if self._labels is None else self._labels[np.asarray(indices, dtype=np.int64)]
        return Batch({self._name: np.stack(images)}, labels)


def picture_of(data: Dataset) -> tuple[int, int] | None:
    """Return height and width of the first sample's picture as the model gets it; None where no input is a picture."""
    for array in data.read([0]).inputs.values():
        shape = array.shape[1:]
        if len(shape) == 3 and shape[0] in _CHANNELS:
            return shape[1], shape[2]
        if len(shape) == 3 and shape[2] in _CHANNELS:
            return shape[0], shape[1]
    return None


def read_image(path: Path, recipe: ImageRecipe) -> Array:
    """Return an image as float32[channels, height, width], or float32[height, width, channels] for NHWC.

    Sizes are rounded as in torchvision's Resize and CenterCrop, so that a model sees the images of its training.

    Raises:
        DataError: Pillow is not installed, the file is broken, or the image is smaller than the crop.
    """
    pixels = _decode(path, recipe).astype(np.float32)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if recipe.channels == "bgr":
        pixels = pixels[:, :, ::-1]
    mean, std = (np.asarray(values, dtype=np.float32) for values in (recipe.mean, recipe.std))
    values = (pixels * np.float32(recipe.scale) - mean) / std
    if values.shape != pixels.shape:
        raise DataError(f"mean and std must have one number per channel of {recipe.channels!r}; correct the recipe")
    return np.ascontiguousarray(values.transpose(2, 0, 1) if recipe.layout == "NCHW" else values)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("reading images needs Pillow, which is not installed; pip install pillow") from error
    try:
        with Image.open(path) as file:
            yield file
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot decode the image {path} ({error}); remove or replace it") from error


def _decode(path: Path, recipe: ImageRecipe) -> Array:
    from PIL import Image

    with _opened(path) as file:
        image = file.convert("L" if recipe.channels == "gray" else "RGB")
    if recipe.resize is not None:
        width, height = resized(image.size, recipe.resize)
        image = image.resize((width, height), Image.Resampling[recipe.interpolation.upper()])
    if recipe.crop is not None:
        image = _crop(image, recipe.crop, path)
    return np.asarray(image if recipe.letterbox is None else _letterboxed(image, recipe))


def _letterboxed(image: Any, recipe: ImageRecipe) -> Any:
    from PIL import Image

    width, height = image.size
    place = placement((height, width), replace(recipe, resize=None, crop=None))
    assert recipe.letterbox is not None
    inner = round(width * place.scale[0]), round(height * place.scale[1])
    canvas = Image.new(image.mode, recipe.letterbox[::-1], (recipe.fill,) * len(image.getbands()))
    resized = image.resize(inner, Image.Resampling[recipe.interpolation.upper()])
    canvas.paste(resized, (round(place.shift[0]), round(place.shift[1])))
    return canvas


def _crop(image: Any, crop: tuple[int, int], path: Path) -> Any:
    (width, height), (crop_height, crop_width) = image.size, crop
    if width < crop_width or height < crop_height:
        raise DataError(
            f"{path} is {height} x {width} pixels before the crop of {crop_height} x {crop_width}; "
            f"set a larger resize in the [image] table, or remove the image"
        )
    left, top = round((width - crop_width) / 2), round((height - crop_height) / 2)
    return image.crop((left, top, left + crop_width, top + crop_height))


def _list_images(folder: Path) -> tuple[list[Path], Array | None]:
    """Return the image files in order, and their labels if there are any."""
    files = [folder / name for name in _LABEL_FILES if (folder / name).is_file()]
    if len(files) > 1:
        raise DataError(f"{folder} has both labels.tsv and labels.csv; keep one")
    top = sorted(path for path in folder.iterdir() if is_image(path))
    below = {
        child.name: images
        for child in sorted(folder.iterdir())
        if child.is_dir() and (images := sorted(path for path in child.rglob("*") if is_image(path)))
    }
    if files:
        return _labelled_by_file(files[0], [*top, *(path for images in below.values() for path in images)])
    if top and below:
        raise DataError(
            f"{folder} has images of its own and in sub-folders; keep them in one place, or name all in labels.tsv"
        )
    if top or not below:
        return top, None
    return _labelled_by_folder(folder, below)


def _labelled_by_folder(folder: Path, below: dict[str, list[Path]]) -> tuple[list[Path], Array | None]:
    paths = [path for images in below.values() for path in images]
    classes = _read_classes(folder)
    if classes is None:
        if len(below) == 1:
            return paths, None  # a single sub-folder only holds the files and does not mean a class
        classes = list(below)
    for name in below:
        if name not in classes:
            raise DataError(
                f"the sub-folder {name!r} of {folder} is not in {_CLASS_FILE}; list every class on a line of its own"
            )
    numbers = [classes.index(name) for name, images in below.items() for _ in images]
    return paths, np.array(numbers, dtype=np.int64)


def _read_classes(folder: Path) -> list[str] | None:
    path = folder / _CLASS_FILE
    if not path.is_file():
        return None
    classes = [line.strip() for line in _read_text(path).splitlines() if line.strip()]
    if len(set(classes)) < len(classes):
        raise DataError(f"{path} must list each class once; remove the repeated lines")
    return classes


def _labelled_by_file(path: Path, images: list[Path]) -> tuple[list[Path], Array]:
    labels: dict[Path, int] = {}
    known = set(images)
    rows = csv.reader(_read_text(path).splitlines(), delimiter=_LABEL_FILES[path.name])
    for number, row in enumerate(rows, start=1):
        fields = [field.strip() for field in row]
        if not any(fields):
            continue
        image = path.parent / fields[0]
        label = _integer(fields[1]) if len(fields) > 1 else None
        if number == 1 and label is None and not image.is_file():
            continue  # the first line holds the names of the columns
        if label is None:
            raise DataError(f"line {number} of {path} must hold a file and an integer label, got {row}; correct it")
        if image not in known:
            raise DataError(f"line {number} of {path} names {fields[0]!r}, which is not an image in the folder")
        if labels.setdefault(image, label) != label:
            raise DataError(f"line {number} of {path} gives {fields[0]!r} a second label; keep one")
    missing = [image for image in images if image not in labels]
    if missing:
        raise DataError(
            f"{len(missing)} images have no label in {path}, the first is {missing[0].name}; label or remove them"
        )
    return images, np.array([labels[image] for image in images], dtype=np.int64)


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} must be a text file in UTF-8, but cannot be read: {error}") from error
