"""The data sets of a run."""

from __future__ import annotations

from pathlib import Path

from autoprec.data.annotations import BoxLabels
from autoprec.data.dataset import Dataset
from autoprec.data.sources import load_data
from autoprec.graph.interface import Interface
from autoprec.metrics.detection.heads import counts_as_coco
from autoprec.metrics.offered import DecoderLike
from autoprec.recipes.ranging import CalibrationRecipe
from autoprec.run.settings import Settings


def load_sets(
    settings: Settings, interface: Interface, recipe: CalibrationRecipe
) -> tuple[Dataset | None, Dataset | None]:
    """Load the data that the settings name: to calibrate, and to judge by; None where there is none.

    Raises:
        DataError: it is missing, or does not fit the model.
    """
    boxes = box_labels(settings.labels, settings.decode)
    split = boxes if settings.evaluate is None else None  # then the calibration data is to judge by too
    calib = None if settings.calib is None else load_data(settings.calib, interface, recipe, split)
    evaluate = None if settings.evaluate is None else load_data(settings.evaluate, interface, recipe, boxes)
    return calib, evaluate


def box_labels(path: str | Path | None, decoder: DecoderLike | None) -> BoxLabels | None:
    """Return where true boxes are, counted as the detector counts its classes; None where none are named."""
    return None if path is None else BoxLabels(path, counts_as_coco(decoder))
