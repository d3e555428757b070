"""Where the pixels of an image lie after the steps of a recipe, so that boxes can be moved with them."""

from __future__ import annotations

from dataclasses import dataclass

from autoprec.recipes.image import ImageRecipe


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the pixels of an image lie in what the model gets: position = pixel * scale + shift.

    Attributes:
        scale: the factors for x and y.
        shift: the pixels that are added to x and y.
    """

    scale: tuple[float, float]
    shift: tuple[float, float]


def placement(size: tuple[int, int], recipe: ImageRecipe) -> Placement:
    """Return where the pixels of an image of this height and width lie after the steps of a recipe."""
    height, width = size
    scale, shift = [1.0, 1.0], [0.0, 0.0]
    if recipe.resize is not None:
        new_width, new_height = resized((width, height), recipe.resize)
        scale = [new_width / width, new_height / height]
        width, height = new_width, new_height
    if recipe.crop is not None:
        shift = [-float(round((width - recipe.crop[1]) / 2)), -float(round((height - recipe.crop[0]) / 2))]
        height, width = recipe.crop
    if recipe.letterbox is not None:
        factor = min(recipe.letterbox[0] / height, recipe.letterbox[1] / width)
        lengths = round(width * factor), round(height * factor)
        spare = recipe.letterbox[1] - lengths[0], recipe.letterbox[0] - lengths[1]
        left = [0.0, 0.0] if recipe.place == "corner" else [float(round(space / 2 - 0.1)) for space in spare]
        ratios = lengths[0] / width, lengths[1] / height
        shift = [s * ratio + start for s, ratio, start in zip(shift, ratios, left, strict=True)]
        scale = [s * ratio for s, ratio in zip(scale, ratios, strict=True)]
    return Placement((scale[0], scale[1]), (shift[0], shift[1]))


def resized(size: tuple[int, int], resize: int | tuple[int, int]) -> tuple[int, int]:
    """Return the new (width, height), in the order of Pillow; the recipe has (height, width)."""
    if not isinstance(resize, int):
        return resize[1], resize[0]
    width, height = size
    if width <= height:
        return resize, int(resize * height / width)
    return int(resize * width / height), resize
