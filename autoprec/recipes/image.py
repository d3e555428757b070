"""Image recipes: how image files become input tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from autoprec.files.toml import Table, is_integer, is_number

Layout = Literal["NCHW", "NHWC"]
Channels = Literal["rgb", "bgr", "gray"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Place = Literal["centre", "corner"]
Size = tuple[int, int]
"""Height and width in pixels."""
_IMAGE_KEYS = (
    "resize",
    "crop",
    "scale",
    "mean",
    "std",
    "layout",
    "channels",
    "interpolation",
    "letterbox",
    "fill",
    "place",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe:
    """The steps that turn an image file into a sample: resize, crop, then (pixel * scale - mean) / std per channel.

    Attributes:
        resize: the length of the shorter side in pixels, or the exact (height, width), or None to keep the size.
        crop: the (height, width) in pixels of the centre that is kept, or None to keep all.
        scale: the factor for the pixel values, which run from 0 to 255.
        mean: the numbers that are subtracted after scaling, one for each channel in the order of `channels`.
        std: the numbers that the difference is divided by, one for each channel.
        layout: the order of the axes, without the batch axis: channels before height and width, or after them.
        channels: the order of the colour channels, or "gray" for a single channel.
        interpolation: the filter that `resize` and `letterbox` use.
        letterbox: the (height, width) that the image is put into with its proportions kept, after `resize` and `crop`,
            as detectors want it; None for no such step.
        fill: the value from 0 to 255 of the pixels around it.
        place: whether the image lies in the centre of the letterbox, or in its left upper corner.
    """

    resize: int | Size | None = None
    crop: Size | None = None
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "NCHW"
    channels: Channels = "rgb"
    interpolation: Interpolation = "bilinear"
    letterbox: Size | None = None
    fill: int = 114
    place: Place = "centre"


def image_of(table: Table) -> ImageRecipe:
    """Read the table of an image recipe.

    Raises:
        RecipeError: a key or a value is not allowed.
    """
    table.allow(_IMAGE_KEYS)
    plain = ImageRecipe()
    channels = cast(Channels, table.choice("channels", get_args(Channels), plain.channels))
    resize = _size(table, "resize")
    crop = _size(table, "crop")
    letterbox = _size(table, "letterbox")
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
        letterbox=(letterbox, letterbox) if isinstance(letterbox, int) else letterbox,
        fill=_fill(table, plain.fill),
        place=cast(Place, table.choice("place", get_args(Place), plain.place)),
    )


def _fill(table: Table, default: int) -> int:
    if "fill" not in table:
        return default
    value: Any = table.value("fill")
    if is_integer(value) and 0 <= value <= 255:
        return int(value)
    raise table.refuse("fill", "a whole number from 0 to 255")


def _size(table: Table, key: str) -> int | Size | None:
    """Return a length in pixels or a pair of height and width."""
    if key not in table:
        return None
    value: Any = table.value(key)
    if is_integer(value) and value >= 1:
        return int(value)
    if isinstance(value, list) and len(value) == 2 and all(is_integer(v) and v >= 1 for v in value):
        return value[0], value[1]
    raise table.refuse(key, "a number of pixels of at least 1, or a pair [height, width] of such")


def _per_channel(table: Table, key: str, channels: Channels, default: float) -> tuple[float, ...]:
    """Return one number for each channel; in the file a single number stands for all channels."""
    count = 1 if channels == "gray" else 3
    value: Any = table.value(key) if key in table else default
    if is_number(value):
        return (float(value),) * count
    if isinstance(value, list) and len(value) == count and all(map(is_number, value)):
        return tuple(map(float, value))
    raise table.refuse(key, f"a number, or a list of {count} numbers for channels = {channels!r}")
