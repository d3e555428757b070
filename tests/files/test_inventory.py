"""What autoprec wrote into a folder it may replace; everything else stays, by whatever path or link it is reached."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autoprec.errors import AutoprecError, RunDirectoryError, UsageError
from autoprec.files.inventory import LIST, Inventory
from autoprec.graph.model import Model, load_model
from autoprec.run.directory import RunDirectory
from autoprec.run.owner import claimed_run, refuse_foreign
from autoprec.run.settings import Settings
from autoprec.testing import tiny_model

MINE = b"what the user keeps"


@pytest.fixture(name="out")
def _out(tmp_path: Path) -> Path:
    """A folder in which autoprec wrote model.onnx."""
    folder = tmp_path / "out"
    folder.mkdir()
    with Inventory(folder).replacing("model.onnx"):
        (folder / "model.onnx").write_bytes(b"of an earlier run")
    return folder


def put_file(path: Path) -> Path:
    path.write_bytes(MINE)
    return path


def put_link(path: Path) -> Path:
    path.unlink(missing_ok=True)
    path.symlink_to(put_file(path.parent.parent / "mine"))
    return path.parent.parent / "mine"


def put_dangling_link(path: Path) -> Path:
    path.unlink(missing_ok=True)
    path.symlink_to("/nowhere/at/all")
    return put_file(path.parent.parent / "mine")


def put_hard_link(path: Path) -> Path:
    """The same file under two names, with content that autoprec itself wrote."""
    path.exists() or path.write_bytes(MINE)
    os.link(path, path.parent.parent / "mine")
    return path.parent.parent / "mine"


WAYS = (put_file, put_link, put_dangling_link, put_hard_link)


@pytest.mark.parametrize("put", WAYS)
def test_what_autoprec_did_not_write_is_refused_and_stays(out: Path, put: Callable[[Path], Path]) -> None:
    kept = put(out / "model.onnx")
    before = kept.read_bytes()
    with pytest.raises(RunDirectoryError), Inventory(out).replacing("model.onnx"):
        raise AssertionError("it would be written")

    assert kept.read_bytes() == before


def test_what_autoprec_wrote_is_replaced_again_and_again(out: Path) -> None:
    for text in (b"second", b"third"):
        with Inventory(out).replacing("model.onnx"):
            (out / "model.onnx").write_bytes(text)

    assert (out / "model.onnx").read_bytes() == b"third"


def test_what_a_killed_process_left_half_done_is_replaced(out: Path) -> None:
    text = (out / LIST).read_text()
    with Inventory(out).replacing("model.onnx"):
        (out / "model.onnx").write_bytes(b"new")
        killed = (out / LIST).read_text()  # what a kill at this moment leaves
    (out / LIST).write_text(killed)

    Inventory(out).refuse_foreign(["model.onnx"])
    (out / LIST).write_text(text)
    with pytest.raises(RunDirectoryError, match="or it was changed since; move it away"):
        Inventory(out).refuse_foreign(["model.onnx"])


@pytest.mark.parametrize("path", ["out/model.onnx", "out/../out/./model.onnx", "link/model.onnx"])
def test_an_input_is_not_written_over_even_if_autoprec_wrote_it(out: Path, path: str) -> None:
    (out.parent / "link").symlink_to(out)
    with pytest.raises(UsageError, match="which you gave as input"):
        Inventory(out).refuse_foreign(["model.onnx"], [out.parent / path])


@pytest.mark.parametrize("text", ["[]", "{", '{"schema": 1, "files": {}}'])
def test_a_list_that_is_not_autoprecs_is_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / LIST).write_text(text)
    with pytest.raises(RunDirectoryError):
        Inventory(tmp_path).note(owner="me")

    assert (tmp_path / LIST).read_text() == text


@pytest.fixture(name="loaded", scope="module")
def _loaded(model: Path) -> Model:
    return load_model(model)


STAGES = (
    "causes.json",
    "network.json",
    "ranges.json",
    "profile.json",
    "latency.json",
    "study.json",
    "search.json",
    "study.log",
)
ANSWERS = ("plan.json", "model.onnx", "model.onnx.data", "result.json", "evidence.json")


@pytest.mark.parametrize("put", WAYS)
@pytest.mark.parametrize("name", [*STAGES, "profile.partial.jsonl", *ANSWERS, LIST])
def test_a_run_refuses_every_file_that_it_would_write_over(
    tmp_path: Path, loaded: Model, name: str, put: Callable[[Path], Path]
) -> None:
    (tmp_path / "run").mkdir()
    kept = put(tmp_path / "run" / name)
    settings = Settings(model=loaded.path)
    with (
        pytest.raises(RunDirectoryError, match=name),
        claimed_run(RunDirectory(tmp_path / "run"), loaded, settings),
    ):
        raise AssertionError("it would be written")

    assert kept.read_bytes() == MINE


@pytest.mark.parametrize("name", [".writable", ".model.onnx.original", ".plan.json.swp", "study.log.lock"])
def test_a_run_leaves_other_files_alone(tmp_path: Path, loaded: Model, name: str) -> None:
    (tmp_path / name).write_bytes(MINE)
    with claimed_run(RunDirectory(tmp_path), loaded, Settings(model=loaded.path)):
        pass

    assert (tmp_path / name).read_bytes() == MINE


def test_the_model_in_the_run_directory_is_refused_as_input(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path).rename(tmp_path / "model.onnx"))
    before = model.path.read_bytes()
    with pytest.raises(AutoprecError, match="which you gave as input"):
        refuse_foreign(RunDirectory(tmp_path / "x" / ".."), model, Settings(model=model.path))

    assert model.path.read_bytes() == before


def test_the_run_of_an_older_version_is_gone_on_with(tmp_path: Path, loaded: Model) -> None:
    old = Path(__file__).parents[1] / "compatibility" / "data" / "runs" / "finished"
    run = RunDirectory(shutil.copytree(old, tmp_path / "run"))
    run.inventory.refuse_foreign(run.answer_files)
    (run.root / "model.onnx").write_bytes(MINE)

    with pytest.raises(RunDirectoryError, match=r"model\.onnx would be written"):
        run.inventory.refuse_foreign(run.answer_files)
