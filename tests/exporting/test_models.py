"""What is no file becomes one in the run directory, and the user's own files stay as they are."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from autoprec.errors import ModelError, RunDirectoryError, UsageError
from autoprec.exporting.models import Example, model_file
from autoprec.graph.model import load_model
from autoprec.run.directory import RunDirectory
from autoprec.run.owner import claimed_run
from autoprec.run.settings import Settings
from autoprec.testing import tiny_model


def begun(path: Path, folder: Path) -> None:
    """Have a run of the model begin in the folder."""
    with claimed_run(RunDirectory(folder), load_model(path), Settings(model=path)):
        pass


def test_a_path_stays_the_users_file(model: Path) -> None:
    with model_file(str(model), Example(), None) as file:
        assert (file.path, file.folder, file.signature) == (model, None, None)


def test_models_in_memory_become_a_file_of_the_run(model: Path, tmp_path: Path) -> None:
    given = onnx.load(model)
    for number, each in enumerate((given, ir.load(model))):
        with model_file(each, Example(), tmp_path / f"run{number}") as file:
            pass

        assert file.path == tmp_path / f"run{number}" / "exported.onnx"
        assert load_model(file.path).weights_fingerprint == load_model(model).weights_fingerprint
    assert given == onnx.load(model)


def test_a_file_that_is_the_same_is_not_written_again(model: Path, tmp_path: Path) -> None:
    times = []
    for _ in range(2):
        with model_file(onnx.load(model), Example(), tmp_path / "run") as file:
            times.append(file.path.stat().st_mtime_ns)

    assert times[0] == times[1]


def test_another_model_gets_a_folder_beside_unless_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = []
    for seed in (0, 1, 0):
        with model_file(onnx.load(tiny_model(tmp_path, seed=seed)), Example(), None) as file:
            folders.append(file.folder)
        assert file.folder is not None
        begun(file.path, file.folder)

    assert folders[0] == folders[2] == Path("autoprec-runs/tiny")
    assert str(folders[1]).startswith("autoprec-runs/tiny-")
    other = onnx.load(tiny_model(tmp_path, seed=2))
    with pytest.raises(RunDirectoryError, match="is the run directory of"), model_file(other, Example(), folders[0]):
        pass


def test_a_file_of_the_users_in_the_runs_folder_is_not_written_over(model: Path, tmp_path: Path) -> None:
    (tmp_path / "exported.onnx").write_text("mine")

    with (
        pytest.raises(RunDirectoryError, match="autoprec did not write"),
        model_file(onnx.load(model), Example(), tmp_path),
    ):
        pass
    assert (tmp_path / "exported.onnx").read_text() == "mine"


def test_a_dry_run_keeps_nothing(model: Path, tmp_path: Path) -> None:
    with model_file(onnx.load(model), Example(), tmp_path / "run", write=False) as file:
        assert load_model(file.path)

    assert not (tmp_path / "run").exists()
    assert not file.path.exists()


def test_a_function_may_make_the_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made_models.py").write_text(
        f"import onnx\ndef build(): return onnx.load({str(model)!r})\ndef number(): return 3\n"
        f"def leave(): raise SystemExit(0)\n"
    )

    with model_file("made_models:build", Example(), tmp_path / "run") as file:
        assert load_model(file.path)
    for name, message in (("number", "must return the path .* got int"), ("leave", "raised SystemExit: 0")):
        with pytest.raises(ModelError, match=message), model_file(f"made_models:{name}", Example(), None):
            pass


def test_what_is_no_model_is_refused(model: Path) -> None:
    with pytest.raises(ModelError, match=r"a torch\.nn\.Module.* got int"), model_file(3, Example(), None):
        pass
    given = Example(inputs=(1,))
    with pytest.raises(UsageError, match=r"are for a torch\.nn\.Module"), model_file(model, given, None):
        pass
