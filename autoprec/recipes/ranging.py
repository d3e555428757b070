"""Calibration recipes: how the ranges of activations are found."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from autoprec.files.json import fingerprint
from autoprec.recipes.image import ImageRecipe, image_of
from autoprec.recipes.packaged import packaged_names, read_recipe

CalibrationMethod = Literal["auto", "minmax", "percentile", "entropy", "mse"]
Rounding = Literal["gptq", "gptq-all", "nearest"]
_CALIBRATION = "autoprec.calibration"
_CALIBRATION_KEYS = ("description", "method", "percentile", "samples", "batch", "image", "rounding")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRecipe:
    """How the ranges of activations are found and how images are read.

    Attributes:
        name: the name of the recipe.
        description: one sentence that tells people what the recipe is for.
        method: the calibrator; "auto" tries all of them and keeps the best.
        percentile: the percentage of the values that the percentile method keeps in range.
        samples: the largest number of samples that calibration uses.
        batch: the number of samples of one run of the model.
        image: how image files are read, or None if the recipe does not say.
        rounding: how weights are rounded: by "gptq" those of 4 bits lose least at the outputs on the calibration
            samples and those of 8 bits take the nearest code, by "gptq-all" both lose least, "nearest" looks at no
            data.
    """

    name: str
    description: str = ""
    method: CalibrationMethod = "auto"
    percentile: float = 99.99
    samples: int = 512
    batch: int = 16
    image: ImageRecipe | None = None
    rounding: Rounding = "gptq"

    @property
    def fingerprint(self) -> str:
        """A fingerprint of everything that can change a range: all but the name, the description and the rounding."""
        fields = dataclasses.asdict(self)
        return fingerprint(f"{key}={fields[key]!r}" for key in fields if key not in ("name", "description", "rounding"))


def calibration_recipe_names() -> tuple[str, ...]:
    """Return the names of the calibration recipes that come with autoprec, sorted.

    Raises:
        RecipeError: the data package is not installed.
    """
    return tuple(sorted(packaged_names(_CALIBRATION)))


def load_calibration_recipe(source: str | Path) -> CalibrationRecipe:
    """Load the calibration recipe of that name, or the one in that TOML file.

    Raises:
        RecipeError: there is no such recipe, the file is not TOML, a key is unknown, or a value has the wrong type or
            is out of range.
    """
    name, table = read_recipe(source, _CALIBRATION, "calibration recipe")
    table.allow(_CALIBRATION_KEYS)
    plain = CalibrationRecipe(name=name)
    return CalibrationRecipe(
        name=name,
        description=table.text("description", plain.description),
        method=cast(CalibrationMethod, table.choice("method", get_args(CalibrationMethod), plain.method)),
        percentile=table.number("percentile", plain.percentile, low=50, high=100),
        samples=table.integer("samples", plain.samples, low=1),
        batch=table.integer("batch", plain.batch, low=1),
        image=image_of(table.table("image")) if "image" in table else None,
        rounding=cast(Rounding, table.choice("rounding", get_args(Rounding), plain.rounding)),
    )
