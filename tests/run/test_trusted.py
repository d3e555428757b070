"""A worker follows what a run directory names only as far as its own user allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoprec.errors import AutoprecError, DataError, MetricError, ModelError, StorageError
from autoprec.run.search_description import SearchDescription
from autoprec.run.trusted import named_model, trusted_search

DATABASE = "postgresql+psycopg://me@elsewhere/db"


@pytest.fixture(name="search")
def _search(tmp_path: Path) -> Path:
    """search.json in the folder of a run, with data beside that folder."""
    for name in ("run/search.json", "data.npz", "model.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path / "run" / "search.json"


def shared(search: Path, storage: str | None = None, **changed: Any) -> SearchDescription:
    data = str(search.parent.parent / "data.npz")
    settings = {"model": str(search.parent.parent / "model.onnx"), "calib": data, "evaluate": None, "metric": "top1"}
    return SearchDescription(
        storage=storage, settings={**settings, **changed}, threads=1, targets=(), halves="", profile=""
    )


def test_a_run_that_names_what_lies_beside_it_is_followed(search: Path) -> None:
    assert trusted_search(search, shared(search), {}, ()) == shared(search)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"storage": DATABASE}, StorageError),
        ({"metric": "module:function"}, MetricError),
        ({"calib": "module:function"}, DataError),
        ({"evaluate": "/etc/hostname"}, DataError),
        ({"recipe": "/etc/hostname"}, AutoprecError),
    ],
)
def test_functions_databases_and_far_paths_need_trust(search: Path, changed: dict[str, Any], error: type) -> None:
    with pytest.raises(error, match=f"--trust {search}"):
        trusted_search(search, shared(search, **changed), {}, ())

    assert trusted_search(search, shared(search, **changed), {}, (search.parent,)) == shared(search, **changed)


def test_what_the_user_gave_instead_needs_none(search: Path) -> None:
    named = shared(search, storage=DATABASE, metric="module:function", calib="module:function")
    given = {"storage": "postgresql://me@here/db", "metric": "mine:function", "calib": "mine.npz", "model": None}

    assert trusted_search(search, named, given, ()) == replace(named)


def test_a_model_that_a_run_names_is_read_beside_it_or_where_the_run_is_trusted(
    search: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    studied, far = search.with_name("study.json"), tmp_path_factory.mktemp("elsewhere") / "model.onnx"
    far.write_text("")
    studied.write_text("")
    near = search.parent.parent / "model.onnx"

    assert named_model(studied, str(near), ()) == near
    with pytest.raises(ModelError, match=r"names .* as its model, which lies outside .* give --model, or trust it"):
        named_model(studied, str(far), ())
    assert named_model(studied, str(far), (studied.parent,)) == far
    assert named_model(studied, "/not/there.onnx", ()) == Path("/not/there.onnx")
