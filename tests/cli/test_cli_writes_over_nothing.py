"""No verb writes over what autoprec did not make, by whatever path its output is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import autoprec
from autoprec.api import SearchResult
from autoprec.cli import main
from autoprec.errors import EXIT_OK, EXIT_USAGE, AutoprecError
from autoprec.plan import load_plan
from autoprec.testing import tiny_data, tiny_model

FOREIGN = b"\0what nobody may lose\n"
DATA = ("--calib", "data.npz", "--metric", "top1", "--max-drop", "0.5", "--threads", "1", "--quiet")
WRITES: dict[str, tuple[str, tuple[str, ...]]] = {
    "tune": ("model.onnx", ("tune", "tiny.onnx", *DATA, "--out", "FOLDER")),
    "tune, its plan": ("plan.json", ("tune", "tiny.onnx", *DATA, "--out", "FOLDER")),
    "tune, its study": ("study.log", ("tune", "tiny.onnx", *DATA, "--out", "FOLDER")),
    "tune, its storage": ("kept.log", ("tune", "tiny.onnx", *DATA, "--storage", "FILE", "--out", "new-run")),
    "profile": ("profile.json", ("profile", "tiny.onnx", "--calib", "data.npz", "--threads", "1", "--out", "FOLDER")),
    "front": ("model.onnx", ("front", "run", "--point", "best", "--out", "FOLDER")),
    "front, its plan": ("plan.json", ("front", "run", "--point", "best", "--out", "FOLDER")),
    "build": ("lowered.onnx", ("build", "run/plan.json", "tiny.onnx", "--out", "FILE")),
    "baseline": ("baseline.json", ("baseline", "run", "--out", "FILE")),
    "report": ("page.html", ("report", "run", "--out", "FILE")),
    "report, Markdown": ("page.md", ("report", "run", "--format", "md", "--out", "FILE")),
    "gate, JUnit": ("report.xml", ("gate", "tiny.onnx", "--baseline", "kept.json", "--junit", "FILE")),
    "gate, Markdown": ("report.md", ("gate", "tiny.onnx", "--baseline", "kept.json", "--markdown", "FILE")),
}
"""What is written -> the name of the file, and the command with FOLDER or FILE for where it is to be."""
READS = (
    ("units", "tiny.onnx", "--json"),
    ("front", "run", "--json"),
    ("doctor", "--json"),
    ("tune", "tiny.onnx", *DATA, "--dry-run", "--out", "FOLDER"),
)
"""Verbs that write no file at all."""


@pytest.fixture(name="result", scope="module")
def _result(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchResult]:
    """A run in the current folder, which holds the model, its data, the run and a baseline of it."""
    folder = tmp_path_factory.mktemp("mine")
    np.savez(folder / "data.npz", **tiny_data(tiny_model(folder), 48))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = autoprec.search(
            "tiny.onnx", calib="data.npz", metric="top1", max_drop=0.5, threads=1, trials=2, out="run"
        )
        result.save()
        assert CliRunner().invoke(main, ["baseline", "run", "-o", "kept.json"]).exit_code == EXIT_OK
        yield result


@pytest.fixture(name="work", scope="module")
def _work(result: SearchResult) -> Path:
    return Path()


def plain(place: Path, name: str, theirs: Path) -> str:
    theirs.rename(place / name)
    return str(place)


def relative(place: Path, name: str, theirs: Path) -> str:
    theirs.rename(place / name)
    return os.path.join("run", "..", os.path.relpath(place))


def link_of_the_file(place: Path, name: str, theirs: Path) -> str:
    (place / name).symlink_to(theirs)
    return str(place)


def hard_link(place: Path, name: str, theirs: Path) -> str:
    (place / name).hardlink_to(theirs)
    return str(place)


def link_of_the_folder(place: Path, name: str, theirs: Path) -> str:
    theirs.rename(place / name)
    link = place.with_name(f"{place.name}-link")
    link.symlink_to(place, target_is_directory=True)
    return str(link)


def dangling_link(place: Path, name: str, theirs: Path) -> str:
    (place / name).symlink_to(place / "nowhere")
    return str(place)


def model_given(place: Path, name: str, theirs: Path) -> str:
    """The model that is read, by a hard link under the name of what is written."""
    (place / name).hardlink_to("tiny.onnx")
    return str(place)


WAYS: tuple[Callable[[Path, str, Path], str], ...] = (
    *(plain, relative, link_of_the_file, hard_link, link_of_the_folder, dangling_link, model_given),
)


def contents(folder: Path) -> dict[str, bytes | str]:
    """Each file below a folder, and where each link leads."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = os.readlink(path)
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("verb", WRITES)
def test_a_file_that_autoprec_did_not_make_is_refused_and_kept(
    work: Path, tmp_path: Path, verb: str, way: Callable[[Path, str, Path], str]
) -> None:
    name, words = WRITES[verb]
    (tmp_path / "place").mkdir()
    (tmp_path / "theirs").write_bytes(FOREIGN)
    place = way(tmp_path / "place", name, tmp_path / "theirs")
    before, mine = contents(tmp_path), contents(work)
    given = {"FOLDER": place, "FILE": os.path.join(place, name)}

    done = CliRunner().invoke(main, [given.get(word, word) for word in words], catch_exceptions=False)

    assert done.exit_code == EXIT_USAGE, done.output
    assert name in done.output or "theirs" in done.output
    assert contents(tmp_path) == before
    assert contents(work) == mine


@pytest.mark.parametrize("words", READS, ids=lambda words: words[0])
def test_a_verb_that_only_tells_writes_nothing(work: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    mine = contents(work)

    done = CliRunner().invoke(main, [str(tmp_path) if word == "FOLDER" else word for word in words])

    assert done.exit_code == 0, done.output
    assert (contents(work), contents(tmp_path)) == (mine, {})


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", ["model.onnx", "result.json", "evidence.json"])
def test_saving_a_result_elsewhere_keeps_what_is_there(
    result: SearchResult, tmp_path: Path, name: str, way: Callable[[Path, str, Path], str]
) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "theirs").write_bytes(FOREIGN)
    place = way(tmp_path / "place", name, tmp_path / "theirs")
    before = contents(tmp_path)

    with pytest.raises(AutoprecError, match=name):
        result.save(place)

    assert contents(tmp_path) == before


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_saving_a_plan_keeps_what_is_no_plan(work: Path, tmp_path: Path, way: Callable[[Path, str, Path], str]) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "theirs").write_bytes(FOREIGN)
    place = way(tmp_path / "place", "other.json", tmp_path / "theirs")
    before = contents(tmp_path)

    with pytest.raises(AutoprecError, match=r"other\.json"):
        load_plan(work / "run" / "plan.json").save(Path(place) / "other.json")

    assert contents(tmp_path) == before


def test_a_diagnosis_keeps_what_is_not_its_own(work: Path) -> None:
    place = work / "run" / "diagnosis.json"
    place.write_bytes(FOREIGN)
    try:
        done = CliRunner().invoke(main, ["diagnose", "run", "--quiet"])

        assert done.exit_code == EXIT_USAGE
        assert "diagnosis.json" in done.output
        assert place.read_bytes() == FOREIGN
    finally:
        place.unlink()


def test_every_verb_is_tried() -> None:
    """Save bench, which reads engines that only a GPU can make, and worker, which writes into a run of its leader."""
    tried = {words[0] for _, words in WRITES.values()} | {words[0] for words in READS} | {"diagnose"}

    assert tried | {"bench", "worker"} == set(main.list_commands(click.Context(main)))
