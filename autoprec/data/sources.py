"""Data sets from what the user names: archives, folders, functions or arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoprec.data.annotations import BoxLabels, LabelledSource, labels_of_images, labels_of_samples
from autoprec.data.archives import ArchiveFolder, read_archive, read_array
from autoprec.data.buckets import ApartSource, BucketedArrays, by_shape, needs_runs_apart
from autoprec.data.dataset import Bucketed, Dataset, Source
from autoprec.data.images import IMAGE_SUFFIXES, ImageFolder, is_image
from autoprec.data.items import LABELS, array_of, is_array, named_arrays, samples_first
from autoprec.data.streams import Indexed, from_stream, items_of
from autoprec.errors import AutoprecError, DataError
from autoprec.files.functions import (
    DATA_FORMS,
    check_call,
    check_data_names,
    import_function,
    importable_folder,
    is_function_name,
    user_code,
)
from autoprec.graph.interface import Batch, Interface, check_names, check_samples
from autoprec.precision import Array
from autoprec.recipes.ranging import CalibrationRecipe


def load_data(
    source: Any,
    interface: Interface,
    recipe: CalibrationRecipe | None = None,
    labels: BoxLabels | None = None,
) -> Dataset:
    """Return the data set that `source` names, checked against the inputs of the model.

    Arrays in memory are checked completely at once. Of folders and data sets only the first sample is checked now,
    and each other sample when it is read. Samples of different shapes are never padded: those of one shape are brought
    together, and no batch mixes two shapes.

    Args:
        source: a `.npz` file; a folder of `.npz` files, which are taken in order of name; a folder of `.npy` files, one
            for each input or, for a model with one input, one for each sample or batch; a folder of images;
            "module:function", a function without arguments that returns a mapping of arrays, an iterable of such
            mappings, or a `Dataset`; a mapping of arrays; a tensor or array for the only input; a tuple of tensors, one
            for each input and perhaps the labels; an iterable of such, each for one batch or one sample, such as a
            DataLoader, which is read once and kept in a temporary folder; or a `Dataset`. The first axis of every array
            is the samples, also where the model has them on another axis or on none. An array called "labels" holds
            labels unless the model has an input of that name.
        interface: the interface of the model.
        recipe: the recipe that says how images are read; without one, images are refused.
        labels: the true boxes of the samples; those of a folder of images are found by name, others by their order.

    Raises:
        DataError: the data is missing, unreadable or empty, or it does not fit the model.
    """
    if labels is None:
        return _loaded(source, interface, recipe)
    if isinstance(source, (str, os.PathLike)) and (folder := Path(source)).is_dir() and _has_images(folder):
        return _from_images(folder, interface, recipe, labels)
    data = _loaded(source, interface, recipe)
    return Dataset(LabelledSource(data, labels_of_samples(labels, data)))


def _loaded(source: Any, interface: Interface, recipe: CalibrationRecipe | None) -> Dataset:
    if isinstance(source, Dataset):
        return _checked(source, interface)
    if isinstance(source, Mapping):
        return _from_mapping(source, interface, "the arrays given")
    if not isinstance(source, (str, os.PathLike)):
        plain = isinstance(source, (list, tuple)) or is_array(source)
        return _from_items(source, interface, "the arrays given" if plain else f"the {type(source).__name__} given")
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, interface, recipe)
    if path.is_file():
        return _from_file(path, interface)
    text = os.fspath(source)
    if is_function_name(text):
        return _from_function(text, interface)
    check_data_names(text)
    raise DataError(f"{text!r} is neither a file nor a folder; give {DATA_FORMS}")


def _from_items(source: Any, interface: Interface, origin: str) -> Dataset:
    """Return the data of tensors, or of anything that gives items one after the other."""
    if is_array(source) or (isinstance(source, tuple) and source and all(map(is_array, source))):
        return _from_mapping(named_arrays(source, interface, origin), interface, origin)
    if isinstance(source, (list, tuple)):
        items = [named_arrays(item, interface, f"batch {n} of {origin}") for n, item in enumerate(source)]
        return _from_batches(items, interface, origin)
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes, bytearray)):
        return from_stream(source, interface, origin)
    if isinstance(source, Indexed) and not isinstance(source, (str, bytes, bytearray)):
        return from_stream(items_of(source), interface, origin)
    raise DataError(
        f"data must be {DATA_FORMS}, a mapping of arrays, a tensor, an iterable of such, or a Dataset, got "
        f"{type(source).__name__} from {origin}"
    )


class CheckedSource:
    """A source that checks each sample against the inputs of a model, and casts it to their types, when it is read."""

    def __init__(self, source: Source, interface: Interface) -> None:
        """Wrap `source` for a model with this interface.

        Raises:
            DataError: the names of the arrays are not those of the model's inputs.
        """
        check_names(source.input_names, interface, source.origin)
        self._source = source
        self._interface = interface
        self.count = source.count
        self.input_names = tuple(spec.name for spec in interface.inputs)
        self.has_labels = source.has_labels
        self.origin = source.origin
        self.buckets = source.buckets if isinstance(source, Bucketed) else np.zeros(source.count, np.int64)

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples at `indices`.

        Raises:
            DataError: they cannot be read, or they do not fit the model.
        """
        try:
            batch = self._source.read(indices)
        except SystemExit as error:
            raise DataError(
                f"{self.origin} must return samples, but it ended the program by SystemExit: {error}; raise an error "
                f"that says what is wrong"
            ) from error
        return check_samples(batch, self._interface, self.origin, indices)


def _checked(source: Source, interface: Interface) -> Dataset:
    checked = CheckedSource(source, interface)
    first = Dataset(checked).read([0])  # an error should come now, not after minutes of work
    return Dataset(ApartSource(checked) if needs_runs_apart(first, interface) else checked)


def _from_file(path: Path, interface: Interface) -> Dataset:
    if path.suffix.lower() == ".npy":
        return _from_files([path], interface, str(path))
    if path.suffix.lower() != ".npz":
        raise DataError(
            f"{path} must be {DATA_FORMS}; store arrays with np.savez(file, input_name=array, labels=labels)"
        )
    return _from_mapping(read_archive(path), interface, str(path))


def _from_folder(folder: Path, interface: Interface, recipe: CalibrationRecipe | None) -> Dataset:
    try:
        archives = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".npz" and not p.name.startswith("."))
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".npy" and not p.name.startswith("."))
        has_images = _has_images(folder)
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror or error}") from error
    if (bool(archives) + bool(files) + has_images) > 1:
        raise DataError(f"{folder} has two of .npz files, .npy files and images; keep them in folders of their own")
    if files:
        return _from_files(files, interface, str(folder))
    if archives:
        return _checked(ArchiveFolder(folder, archives, labels=_takes_labels(interface)), interface)
    if has_images:
        return _from_images(folder, interface, recipe)
    raise DataError(f"{folder} has no data; put .npz or .npy files there, or images ({', '.join(IMAGE_SUFFIXES)})")


def _has_images(folder: Path) -> bool:
    return any(is_image(path) for path in folder.rglob("*"))


def _from_images(
    folder: Path, interface: Interface, recipe: CalibrationRecipe | None, labels: BoxLabels | None = None
) -> Dataset:
    if recipe is None or recipe.image is None:
        has = "no calibration recipe was given" if recipe is None else f"the recipe {recipe.name!r} has none"
        raise DataError(
            f"{folder} holds images, which need a calibration recipe with an [image] table (resize, crop, "
            f"mean, std, layout), but {has}; use --recipe NAME_OR_FILE, for example --recipe imagenet"
        )
    if len(interface.inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in interface.inputs)
        raise DataError(f"a folder of images can feed one input, but the model has {names}; store arrays in .npz files")
    try:
        images = ImageFolder(folder, interface.inputs[0].name, recipe.image)
        source = images if labels is None else LabelledSource(images, labels_of_images(labels, images))
        return _checked(source, interface)
    except DataError as error:
        raise DataError(f"{error} (images are prepared by the [image] table of recipe {recipe.name!r})") from error


def _from_function(name: str, interface: Interface) -> Dataset:
    def told(error: BaseException) -> DataError:
        return DataError(
            f"the data function {name!r} raised {type(error).__name__}: {error}; "
            f"it is called without arguments and must return arrays by input name"
        )

    function = data_function(name)
    with user_code(told, (AutoprecError,)):
        result = function()
    with importable_folder():  # a generator runs the user's code only when it is read
        if isinstance(result, Dataset):
            return _checked(result, interface)
        if isinstance(result, Mapping):
            return _from_mapping(result, interface, name)
        return _from_items(result, interface, f"the data function {name!r}")


def data_function(name: str) -> Callable[[], Any]:
    """Import the data function that `name` names.

    Raises:
        DataError: it cannot be imported, or it needs arguments.
    """
    function = import_function(name, DataError)
    check_call(function, (), f"the data function {name!r} is called without arguments", DataError)
    return function


def _from_files(paths: Sequence[Path], interface: Interface, origin: str) -> Dataset:
    """Return the data of `.npy` files: one for each input and the labels, or each with samples of the only input."""
    arrays = {path.stem: read_array(path) for path in paths}
    names = [spec.name for spec in interface.inputs]
    if set(arrays) - {LABELS} == set(names):
        return _from_mapping(arrays, interface, origin)
    if len(names) != 1:
        raise DataError(
            f"{origin} must have one .npy file for each input of the model, called {', '.join(map(repr, names))}, and "
            f"labels.npy if there are labels, but has {sorted(arrays)}"
        )
    labels = arrays.pop(LABELS, None) if _takes_labels(interface) else None
    batches = [samples_first({names[0]: array}, interface, str(path)) for path, array in arrays.items()]
    if labels is not None:
        bounds = np.cumsum([0, *(len(batch[names[0]]) for batch in batches)])
        if len(labels) != bounds[-1]:
            raise DataError(f"labels.npy of {origin} must have {bounds[-1]} labels, one per sample, not {len(labels)}")
        batches = [b | {LABELS: labels[i:j]} for b, i, j in zip(batches, bounds, bounds[1:], strict=False)]
    return _from_batches(batches, interface, origin)


def _from_batches(batches: Sequence[Mapping[str, Any]], interface: Interface, origin: str) -> Dataset:
    if not batches:
        raise DataError(f"{origin} has no samples; give at least one")
    keys = list(batches[0])
    for number, batch in enumerate(batches):
        if set(batch) != set(keys):
            raise DataError(
                f"all batches of {origin} must hold the same arrays, but batch {number} holds "
                f"{sorted(batch)} and batch 0 holds {sorted(keys)}"
            )
    named = [{key: array_of(batch[key], key, origin) for key in keys if batch[key] is not None} for batch in batches]
    alone = [samples_first(batch, interface, f"batch {number} of {origin}") for number, batch in enumerate(named)]
    groups = by_shape(alone)
    return _from_groups(groups, interface, origin)


def _from_mapping(arrays: Mapping[str, Any], interface: Interface, origin: str) -> Dataset:
    named = {str(name): array_of(value, str(name), origin) for name, value in arrays.items() if value is not None}
    return _from_groups([named], interface, origin)


def _from_groups(groups: Sequence[dict[str, Array]], interface: Interface, origin: str) -> Dataset:
    """Return the data of arrays of which each group has samples of one shape."""
    checked: list[Batch] = []
    for group in groups:
        labels = group.pop(LABELS, None) if _takes_labels(interface) else None
        check_names(group, interface, origin)
        if labels is not None and labels.ndim == 0:
            raise DataError(f"the labels of {origin} are a single number; give one label per sample")
        checked.append(check_samples(Batch(group, labels), interface, origin))
    apart = any(needs_runs_apart(batch, interface) for batch in checked)
    if len(checked) == 1 and not apart:
        return Dataset.from_arrays(checked[0].inputs, checked[0].labels, origin)
    return Dataset(BucketedArrays(checked, origin, apart=apart))


def _takes_labels(interface: Interface) -> bool:
    return all(spec.name != LABELS for spec in interface.inputs)
