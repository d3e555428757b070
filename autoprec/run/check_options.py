"""What is wrong with the options of a tune whatever the model says: told before anything heavy is imported or read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from autoprec.data.archives import read_headers
from autoprec.data.items import LABELS
from autoprec.data.sources import data_function
from autoprec.errors import DataError
from autoprec.files.functions import check_data_names, is_function_name
from autoprec.files.onnx_message import refuse_no_onnx
from autoprec.metrics.bounds import refuse_bound
from autoprec.metrics.metric import choose_metric, load_metric
from autoprec.metrics.offered import Decoding
from autoprec.recipes.ranging import load_calibration_recipe
from autoprec.recipes.space import load_search_space, parse_pin
from autoprec.run.directory import RunDirectory
from autoprec.run.settings import Settings, check_numbers


def check_options(settings: Settings, out: str | Path | None = None) -> None:
    """Refuse what can be refused without the graph of the model: files are looked at, and no weight or sample is read.

    Args:
        settings: the options.
        out: the run directory that the user gave.

    Raises:
        UsageError: a number is out of range, or options exclude each other.
        ModelError: there is no such model, or its file is no whole ONNX file.
        DataError: there is no data, it is no archive, or its function cannot be called.
        MetricError: the metric cannot be imported, or it takes other arguments than a metric gets.
        RecipeError: there is no such recipe or search space, or it is damaged.
        RunDirectoryError: the run directory has files that autoprec did not write.
    """
    check_numbers(settings)
    others = not settings.model or _is_function(settings.model) or (Path(settings.model) / "config.json").is_file()
    if not others:  # a module in memory has no name, and the folder of a transformers model becomes an ONNX file
        refuse_no_onnx(Path(settings.model))
    load_calibration_recipe(settings.recipe)
    if settings.space is not None:
        load_search_space(settings.space)
    for pin in settings.pins:
        parse_pin(pin)
    if settings.metric is not None:
        load_metric(settings.metric, settings.direction, Decoding(decoder=settings.decode))
    _check_sources(settings)
    if out is not None:
        directory = RunDirectory(Path(out))
        directory.refuse_unusable()
        directory.inventory.refuse_foreign(directory.answer_files, settings.inputs)


def _check_sources(settings: Settings) -> None:
    """Check the data as far as its names say, and the metric and its bound beside whether there are labels."""
    sources = [source for source in (settings.calib, settings.evaluate) if source is not None]
    if not sources:
        raise DataError(
            "tuning needs data to calibrate on and to judge plans by; give --calib and --eval, or one of them "
            "to be split"
        )
    for source in sources:
        if isinstance(source, (str, os.PathLike)):
            check_data_names(os.fspath(source))
            if _is_function(source):
                data_function(os.fspath(source))
    names = [_array_names(source) for source in sources]
    judged = names[-1]  # the evaluation data, if there is any
    if judged is None and settings.metric is None:
        return
    # An input of the model may be called "labels" too, so that only their absence is certain.
    metric = choose_metric(
        settings.metric, judged is None or LABELS in judged, settings.direction, Decoding(decoder=settings.decode)
    )
    refuse_bound(metric, settings.max_drop)


def _is_function(source: str | os.PathLike[str]) -> bool:
    return is_function_name(os.fspath(source)) and not Path(source).exists()


def _array_names(source: object) -> frozenset[str] | None:
    """Return the names of the arrays of a source, labels among them; None where only reading it would tell."""
    if isinstance(source, Mapping):
        return frozenset(map(str, source))
    if isinstance(source, (str, os.PathLike)) and (path := Path(source)).suffix.lower() == ".npz" and path.is_file():
        return frozenset(read_headers(path))
    return None
