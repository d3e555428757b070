"""The data of a run, loaded and split into samples to calibrate, to select and to report with."""

from __future__ import annotations

from pathlib import Path

from autoprec.data.annotations import BoxLabels
from autoprec.data.sources import load_data
from autoprec.data.splits import Splits, make_splits
from autoprec.graph.interface import Interface
from autoprec.metrics.detection.heads import counts_as_coco
from autoprec.metrics.offered import DecoderLike
from autoprec.recipes.ranging import CalibrationRecipe
from autoprec.run.settings import Settings


def split_data(settings: Settings, interface: Interface, recipe: CalibrationRecipe) -> Splits:
    """Load the data that the settings name, and split it.

    Raises:
        DataError: it is missing, or does not fit the model.
    """
    boxes = box_labels(settings.labels, settings.decode)
    split = boxes if settings.evaluate is None else None  # then the calibration data is to judge by too
    calib = None if settings.calib is None else load_data(settings.calib, interface, recipe, split)
    evaluate = None if settings.evaluate is None else load_data(settings.evaluate, interface, recipe, boxes)
    return make_splits(calib, evaluate, settings.seed)


def box_labels(path: str | Path | None, decoder: DecoderLike | None) -> BoxLabels | None:
    """Return where true boxes are, counted as the detector counts its classes; None where none are named."""
    return None if path is None else BoxLabels(path, counts_as_coco(decoder))
