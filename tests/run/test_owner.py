"""A run directory belongs to one model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from autoprec.errors import RunDirectoryError
from autoprec.graph.model import Model, load_model
from autoprec.run.directory import RunDirectory
from autoprec.run.owner import claimed_run, default_out, owner_of, refuse_foreign, run_folder
from autoprec.run.settings import Settings


@pytest.fixture(name="loaded")
def _loaded(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model, with a current folder in which it has a run in the default directory."""
    monkeypatch.chdir(tmp_path)
    loaded = load_model(model)
    begin(loaded)
    return loaded


def begin(model: Model, out: Path | None = None) -> Path:
    folder = run_folder(out, model)
    with claimed_run(RunDirectory(folder), model, Settings(model=model.path)):
        return folder


@pytest.mark.parametrize("what", ["graph", "weights"])
def test_another_model_of_the_same_name_gets_a_directory_of_its_own(loaded: Model, what: str) -> None:
    other = replace(loaded, path=Path("/b/tiny.onnx"), **{f"{what}_fingerprint": "another"})
    own = begin(other)

    assert own != default_out(loaded.path)
    assert own.name.startswith("tiny-")
    assert run_folder(None, other) == own
    assert run_folder(None, loaded) == default_out(loaded.path)


def test_the_same_model_in_another_place_goes_on(loaded: Model) -> None:
    assert begin(replace(loaded, path=Path("/moved/tiny.onnx"))) == default_out(loaded.path)


@pytest.mark.parametrize("what", ["graph", "weights"])
def test_a_directory_that_was_given_is_refused_with_both_named(loaded: Model, what: str) -> None:
    other = replace(loaded, path=Path("/b/tiny.onnx"), **{f"{what}_fingerprint": "another"})
    message = rf"the run directory of {loaded.path} .*, not of /b/tiny.onnx \({what} another\); choose another by --out"
    with pytest.raises(RunDirectoryError, match=message):
        begin(other, default_out(loaded.path))


def test_a_directory_of_an_older_version_says_in_its_study_to_whom_it_belongs(loaded: Model, tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "compatibility" / "data" / "runs" / "finished"
    run = RunDirectory(shutil.copytree(old, tmp_path / "old"))
    owner = owner_of(run)

    assert owner is not None
    assert owner.model == "/somewhere/digits/digits.onnx"
    with pytest.raises(RunDirectoryError, match=r"digits\.onnx"):
        refuse_foreign(run, loaded, Settings(model=loaded.path))
