"""Calibration recipes: how the ranges of activations are found."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from autoprec.errors import RecipeError
from autoprec.files.json import fingerprint
from autoprec.files.toml import Table
from autoprec.recipes.image import ImageRecipe, image_of
from autoprec.recipes.packaged import packaged_names, read_recipe

CalibrationMethod = Literal["auto", "minmax", "percentile", "entropy", "mse", "average", "blend"]
Rounding = Literal["gptq", "gptq-all", "nearest"]
BLENDED = ("minmax", "percentile", "entropy", "mse", "average")
"""The calibrators that may be blended."""
_SMOOTHING = 0.1
_CALIBRATION = "autoprec.calibration"
_CALIBRATION_KEYS = (
    *("description", "method", "percentile", "samples", "batch", "image"),
    *("rounding", "smoothing", "blend"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRecipe:
    """How the ranges of activations are found and how images are read.

    Attributes:
        name: the name of the recipe.
        description: one sentence that tells people what the recipe is for.
        method: the calibrator; "auto" tries four of them and keeps the best. "average" is the moving average of the
            extremes of batches, "blend" the weighted mean of several.
        percentile: the percentage of the values that the percentile method keeps in range.
        samples: the largest number of samples that calibration uses.
        batch: the number of samples of one run of the model.
        image: how image files are read, or None if the recipe does not say.
        rounding: how weights are rounded: by "gptq" those of 4 bits lose least at the outputs on the calibration
            samples and those of 8 bits take the nearest code, by "gptq-all" both lose least, "nearest" looks at no
            data.
        smoothing: the share of the newest batch in the moving average.
        blend: calibrator -> its weight in the blend.
    """

    name: str
    description: str = ""
    method: CalibrationMethod = "auto"
    percentile: float = 99.99
    samples: int = 512
    batch: int = 16
    image: ImageRecipe | None = None
    rounding: Rounding = "gptq"
    smoothing: float = _SMOOTHING
    blend: tuple[tuple[str, float], ...] = ()

    @property
    def fingerprint(self) -> str:
        """A fingerprint of everything that can change a range: all but the name, the description and the rounding."""
        fields = dataclasses.asdict(self)
        unused = {"smoothing", "blend"} if self.method not in ("average", "blend") else set()
        left_out = {"name", "description", "rounding", *unused}
        return fingerprint(f"{key}={fields[key]!r}" for key in fields if key not in left_out)


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
    method = cast(CalibrationMethod, table.choice("method", get_args(CalibrationMethod), plain.method))
    return CalibrationRecipe(
        name=name,
        description=table.text("description", plain.description),
        method=method,
        percentile=table.number("percentile", plain.percentile, low=50, high=100),
        samples=table.integer("samples", plain.samples, low=1),
        batch=table.integer("batch", plain.batch, low=1),
        image=image_of(table.table("image")) if "image" in table else None,
        rounding=cast(Rounding, table.choice("rounding", get_args(Rounding), plain.rounding)),
        smoothing=table.number("smoothing", plain.smoothing, low=0.001, high=1),
        blend=_blend(name, table, method),
    )


def _blend(name: str, table: Table, method: str) -> tuple[tuple[str, float], ...]:
    """The weights of the blend, of which there must be at least one where the method is the blend."""
    weights = table.table("blend") if "blend" in table else None
    if weights is not None:
        weights.allow(BLENDED)
    given = [] if weights is None else [calibrator for calibrator in BLENDED if calibrator in weights]
    blend = tuple((each, weights.number(each, 1.0, low=0)) for each in given if weights is not None)
    if not blend and method == "blend":
        raise RecipeError(
            f"the recipe {name!r} blends calibrators, so its table [blend] must give some of {', '.join(BLENDED)} a "
            f"weight"
        )
    return blend
