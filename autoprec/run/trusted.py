"""What a process does of that which the files of a run directory name: they may come from others."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoprec.errors import AutoprecError, DataError, MetricError, ModelError, RecipeError, StorageError
from autoprec.files.functions import is_function_name
from autoprec.files.trust import Named, NamingFile
from autoprec.run.search_description import UNSHARED, SearchDescription

_SOURCES: Mapping[str, tuple[str, str, type[AutoprecError]]] = {
    "model": ("model", "--model", ModelError),
    "calib": ("calibration data", "--calib", DataError),
    "evaluate": ("evaluation data", "--eval", DataError),
    "labels": ("true boxes", "--labels", DataError),
}
_TABLES = {"space": "search space", "recipe": "calibration recipe"}


def trusted_search(
    file: Path, shared: SearchDescription, given: Mapping[str, Any], trusted: tuple[str | Path, ...]
) -> SearchDescription:
    """The description of a search, as far as a worker may follow what it names.

    Args:
        file: the search.json that it was read from.
        shared: the description.
        given: what the user gave instead, by the names of settings and as "storage"; None for what was not given.
        trusted: the files that the user trusts.

    Raises:
        StorageError: it names a database, to which this user's password would be sent, and is not trusted.
        AutoprecError: see `trusted_settings`.
    """
    if shared.storage is not None and given.get("storage") is None and not _naming(file, trusted).is_trusted:
        raise StorageError(
            f"{file} says that the study is at {shared.storage}; a file that may come from others does not decide "
            f"which host a worker connects to with your password: give --storage or AUTOPREC_STORAGE, or trust the "
            f"file by --trust {file}"
        )
    mine = {name for name, value in given.items() if value is not None}
    return replace(shared, settings=trusted_settings(file, shared.settings, mine, trusted))


def trusted_settings(
    file: Path, named: Mapping[str, Any], given: AbstractSet[str], trusted: tuple[str | Path, ...]
) -> dict[str, Any]:
    """The settings that a file of a run directory names, as far as they may be followed.

    Args:
        file: search.json or study.json.
        named: the settings.
        given: the names of those that the user gave instead, which are not looked at.
        trusted: the files that the user trusts.

    Raises:
        AutoprecError: the file names a function, or a path outside of what this command is about, and is not trusted.
    """
    naming, found = _naming(file, trusted), dict(named)
    texts = {name: text for name, text in named.items() if name not in given and isinstance(text, str)}
    for name, (what, option, raising) in _SOURCES.items():
        if texts.get(name, UNSHARED) != UNSHARED:
            found[name] = naming.source(Named(what=what, text=texts[name], option=option), raising)
    for name, what in _TABLES.items():
        text = texts.get(name, "")
        if Path(text).suffix == ".toml" or Path(text).name != text:
            found[name] = naming.source(Named(what=what, text=text), RecipeError)
    if is_function_name(texts.get("metric", "")):
        naming.refuse_function(Named(what="metric", text=texts["metric"], option="--metric"), MetricError)
    if is_function_name(texts.get("decode", "")):
        naming.refuse_function(Named(what="decoder", text=texts["decode"], option="--decode"), MetricError)
    return found


def named_model(file: Path, text: str, trusted: tuple[str | Path, ...]) -> Path:
    """The model that a file of a run directory names, whether it is there or not.

    Args:
        file: study.json or evidence.json.
        text: what it says.
        trusted: the files that the user trusts.

    Raises:
        ModelError: the model lies outside of what this command is about, and the file is not trusted.
    """
    naming = _naming(file, trusted)
    if naming.find(text) is None:
        return Path(text)
    return Path(naming.source(Named(what="model", text=text, option="--model"), ModelError))


def _naming(file: Path, trusted: tuple[str | Path, ...]) -> NamingFile:
    return NamingFile(path=file, near=(file.parent.parent, Path()), trusted=trusted)
