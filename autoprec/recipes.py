"""Recipes in TOML: search spaces (which precisions may be chosen) and calibration (how ranges are found).

A recipe is found by name in the data packages `autoprec.search_spaces` and `autoprec.calibration`, or by the
path of a TOML file.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast, get_args

from autoprec.errors import RecipeError, UsageError
from autoprec.precision import FLOATS, Precision, parse_precision
from autoprec.records import fingerprint
from autoprec.toml_table import Table, is_integer, is_number, parse_table

CalibrationMethod = Literal["auto", "minmax", "percentile", "entropy", "mse"]
Layout = Literal["NCHW", "NHWC"]
Channels = Literal["rgb", "bgr", "gray"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Size = tuple[int, int]

_SPACES = "autoprec.search_spaces"
_CALIBRATION = "autoprec.calibration"
_SPACE_KEYS = ("description", "precisions", "carrier", "backend", "pins")
_PIN_KEYS = ("pattern", "precision")
_CALIBRATION_KEYS = ("description", "method", "percentile", "samples", "batch", "image")
_IMAGE_KEYS = ("resize", "crop", "scale", "mean", "std", "layout", "channels", "interpolation")


@dataclass(frozen=True, slots=True)
class Pin:
    """A precision that the user fixes for every unit whose name the regular expression finds."""

    pattern: str
    precision: Precision

    def matches(self, name: str) -> bool:
        """Whether the pattern occurs anywhere in `name`; anchor it with ^ and $ to match the whole."""
        return re.search(self.pattern, name) is not None


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Which precisions a search may choose from.

    Attributes:
        name: the recipe's name.
        description: one sentence for people.
        precisions: the candidates of every unit.
        carrier: the float precision of tensors between units, and of all that no unit covers.
        backend: the backend that the space is made for, or None for any.
        pins: precisions fixed in the recipe.
    """

    name: str
    description: str
    precisions: tuple[Precision, ...]
    carrier: Precision
    backend: str | None = None
    pins: tuple[Pin, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """How an image file becomes a sample: resize, crop, then (pixel * scale - mean) / std per channel.

    Attributes:
        resize: length in pixels of the shorter side, or exact (height, width), or None to keep the size.
        crop: (height, width) in pixels of the centre to keep, or None for all.
        scale: factor on the pixel values 0 to 255.
        mean: one number per channel in the order of `channels`, or one for all; subtracted after `scale`.
        std: one number per channel, or one for all; divided by.
        layout: whether channels come before or after height and width.
        channels: order of the channels, or one gray channel.
        interpolation: filter of `resize`.
    """

    resize: int | Size | None = None
    crop: Size | None = None
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "NCHW"
    channels: Channels = "rgb"
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True, slots=True)
class CalibrationRecipe:
    """How the ranges of activations are found, and how images are read.

    Attributes:
        name: the recipe's name.
        description: one sentence for people.
        method: the calibrator; "auto" tries them all and keeps the best.
        percentile: the share of values, in percent, that the percentile method keeps in range.
        samples: calibrate with at most so many samples.
        batch: samples per run of the model.
        image: how to read image files, or None where the recipe does not say.
    """

    name: str
    description: str = ""
    method: CalibrationMethod = "auto"
    percentile: float = 99.99
    samples: int = 512
    batch: int = 16
    image: ImageRecipe | None = None

    @property
    def fingerprint(self) -> str:
        """A fingerprint of all that can change a result: everything but name and description."""
        fields = dataclasses.asdict(self)
        return fingerprint(f"{key}={fields[key]!r}" for key in fields if key not in ("name", "description"))


def parse_pin(text: str) -> Pin:
    """The pin written as "REGEX=PRECISION"; the last equals sign divides.

    Raises:
        UsageError: there is no equals sign, the expression is broken, or the precision is unknown.
    """
    pattern, divider, precision = text.rpartition("=")
    if not divider or not pattern:
        raise UsageError(f"a pin must have the form REGEX=PRECISION, such as '^/head/=fp32', got {text!r}")
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"a pin must start with a valid regular expression, got {pattern!r}: {error}; "
            f"put a backslash before characters that stand for themselves"
        ) from error
    return Pin(pattern, parse_precision(precision))


def search_space_names() -> tuple[str, ...]:
    """Names of the search spaces that come with autoprec.

    Raises:
        RecipeError: the data package is not installed.
    """
    return tuple(sorted(_packaged(_SPACES)))


def calibration_recipe_names() -> tuple[str, ...]:
    """Names of the calibration recipes that come with autoprec.

    Raises:
        RecipeError: the data package is not installed.
    """
    return tuple(sorted(_packaged(_CALIBRATION)))


def load_search_space(source: str | Path) -> SearchSpace:
    """The search space of that name, or in that TOML file.

    Raises:
        RecipeError: no such name or file, no TOML, an unknown key, or a value of the wrong type or range.
    """
    name, table = _read(source, _SPACES, "search space")
    table.allow(_SPACE_KEYS)
    precisions = _precisions(table)
    carrier = Precision(table.choice("carrier", [p.value for p in FLOATS]))
    if carrier not in precisions:
        raise table.refuse("carrier", "one of the float types in 'precisions'")
    return SearchSpace(
        name=name,
        description=table.text("description", ""),
        precisions=precisions,
        carrier=carrier,
        backend=table.text("backend") if "backend" in table else None,
        pins=tuple(map(_pin, table.tables("pins"))),
    )


def load_calibration_recipe(source: str | Path) -> CalibrationRecipe:
    """The calibration recipe of that name, or in that TOML file.

    Raises:
        RecipeError: no such name or file, no TOML, an unknown key, or a value of the wrong type or range.
    """
    name, table = _read(source, _CALIBRATION, "calibration recipe")
    table.allow(_CALIBRATION_KEYS)
    plain = CalibrationRecipe(name)
    return CalibrationRecipe(
        name=name,
        description=table.text("description", plain.description),
        method=cast(CalibrationMethod, table.choice("method", get_args(CalibrationMethod), plain.method)),
        percentile=table.number("percentile", plain.percentile, low=50, high=100),
        samples=table.integer("samples", plain.samples, low=1),
        batch=table.integer("batch", plain.batch, low=1),
        image=_image(table.table("image")) if "image" in table else None,
    )


def _packaged(package: str) -> dict[str, str]:
    """The TOML texts of a data package by name; from a folder or from within a zipped wheel."""
    try:
        entries = list(_data_folder(package).iterdir())
    except (ModuleNotFoundError, FileNotFoundError, NotADirectoryError) as error:
        raise RecipeError(
            f"the recipes of {package} are not installed; "
            f"install autoprec with pip, or a checkout of it with pip install -e ."
        ) from error
    return {e.name.removesuffix(".toml"): e.read_text("utf-8") for e in entries if e.name.endswith(".toml")}


def _data_folder(package: str) -> Any:
    """The installed package; or its folder in a checkout that is only on the path, installed by nobody."""
    try:
        return resources.files(package)
    except ModuleNotFoundError:
        checkout = Path(__file__).resolve().parents[1]
        if not (checkout / "pyproject.toml").is_file():  # beside an installed package lies somebody else's folder
            raise
        return checkout / package.rpartition(".")[2]


def _read(source: str | Path, package: str, what: str) -> tuple[str, Table]:
    """Name and table of a recipe: a plain word is a name, anything like a path is a file."""
    path = Path(source)
    if isinstance(source, Path) or path.suffix == ".toml" or path.name != source:
        try:
            return path.stem, parse_table(path.read_text(encoding="utf-8"), str(source))
        except OSError as error:
            raise RecipeError(f"cannot read the {what} {source}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"the {what} {source} must be a TOML file in UTF-8: {error}") from error
    texts = _packaged(package)
    if source not in texts:
        close = difflib.get_close_matches(source, texts, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise RecipeError(
            f"there is no {what} {source!r}; {hint}Available are {', '.join(sorted(texts))}, "
            f"or give the path of a .toml file"
        )
    return source, parse_table(texts[source], f"{package}/{source}.toml")


def _precisions(table: Table) -> tuple[Precision, ...]:
    words = table.items("precisions")
    names = [p.value for p in Precision]
    if not words or any(word not in names for word in words) or len(set(words)) < len(words):
        raise table.refuse("precisions", "a list of different precisions out of " + ", ".join(names))
    return tuple(map(Precision, words))


def _pin(table: Table) -> Pin:
    table.allow(_PIN_KEYS)
    pattern = table.text("pattern")
    try:
        re.compile(pattern)
    except re.error as error:
        raise table.refuse("pattern", f"a valid regular expression ({error})") from error
    return Pin(pattern, Precision(table.choice("precision", [p.value for p in Precision])))


def _image(table: Table) -> ImageRecipe:
    table.allow(_IMAGE_KEYS)
    plain = ImageRecipe()
    channels = cast(Channels, table.choice("channels", get_args(Channels), plain.channels))
    resize = _size(table, "resize")
    crop = _size(table, "crop")
    std = _per_channel(table, "std", channels, 1.0)
    if any(value <= 0 for value in std):
        raise table.refuse("std", "above 0 in every channel")
    return ImageRecipe(
        resize=resize,
        crop=(crop, crop) if isinstance(crop, int) else crop,
        scale=table.number("scale", plain.scale, low=0),
        mean=_per_channel(table, "mean", channels, 0.0),
        std=std,
        layout=cast(Layout, table.choice("layout", get_args(Layout), plain.layout)),
        channels=channels,
        interpolation=cast(Interpolation, table.choice("interpolation", get_args(Interpolation), plain.interpolation)),
    )


def _size(table: Table, key: str) -> int | Size | None:
    """A length in pixels, or a pair [height, width]."""
    if key not in table:
        return None
    value: Any = table.value(key)
    if is_integer(value) and value >= 1:
        return int(value)
    if isinstance(value, list) and len(value) == 2 and all(is_integer(v) and v >= 1 for v in value):
        return value[0], value[1]
    raise table.refuse(key, "a number of pixels of at least 1, or a pair [height, width] of such")


def _per_channel(table: Table, key: str, channels: Channels, default: float) -> tuple[float, ...]:
    """One number per channel; a single number stands for all channels."""
    count = 1 if channels == "gray" else 3
    value: Any = table.value(key) if key in table else default
    if is_number(value):
        return (float(value),) * count
    if isinstance(value, list) and len(value) == count and all(map(is_number, value)):
        return tuple(map(float, value))
    raise table.refuse(key, f"a number, or a list of {count} numbers for channels = {channels!r}")
