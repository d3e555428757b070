"""What a file from others names is followed only near what the user named, or where the user trusts the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprec.errors import DataError
from autoprec.files.trust import Named, NamingFile, relative_text


@pytest.fixture(name="project")
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a file in ci/ that names data, a model elsewhere in it, and data outside of it."""
    for name in ("project/ci/named.json", "project/data/x.npz", "project/models/m.onnx", "outside/x.npz", "here/y.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "project"


def naming(project: Path, *trusted: Path) -> NamingFile:
    return NamingFile(path=project / "ci" / "named.json", near=(project / "models" / "m.onnx",), trusted=trusted)


def named(text: str | Path) -> Named:
    return Named(what="evaluation data", text=str(text), option="--eval")


def test_data_of_the_project_is_found_from_any_folder(project: Path) -> None:
    assert naming(project).source(named("../data/x.npz"), DataError) == str(project / "data" / "x.npz")
    assert naming(project).source(named("y.npz"), DataError) == str(Path("y.npz").absolute())  # as older files say


@pytest.mark.parametrize("text", ["../../outside/x.npz", "{outside}", "../data/link.npz"])
def test_a_path_that_leads_out_of_the_project_needs_trust(project: Path, text: str) -> None:
    outside = project.parent / "outside" / "x.npz"
    (project / "data" / "link.npz").symlink_to(outside)
    text = text.format(outside=outside)
    with pytest.raises(DataError, match=r"give --eval, or trust it by --trust .*named\.json"):
        naming(project).source(named(text), DataError)

    for trusted in (project / "ci" / "named.json", project / "ci"):
        assert Path(naming(project, trusted).source(named(text), DataError)).samefile(outside)


def test_another_trusted_file_does_not_help(project: Path) -> None:
    with pytest.raises(DataError, match="--trust"):
        naming(project, project / "models" / "m.onnx").source(named("../../outside/x.npz"), DataError)


def test_a_function_is_named_by_the_user_or_trusted(project: Path) -> None:
    with pytest.raises(DataError, match="runs no code: if you know the function, give --eval, or trust the file by"):
        naming(project).source(named("module:function"), DataError)

    trusted = naming(project, project / "ci" / "named.json")
    assert trusted.source(named("module:function"), DataError) == "module:function"


@pytest.mark.parametrize("text", ["gone.npz", "//host/share/x.npz", "\\\\host\\share\\x.npz"])
def test_what_is_not_here_is_said_to_be_the_path_of_another_and_how_to_mend_it(project: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"names as the evaluation data of the one who made it.* by --eval"):
        naming(project, project / "ci").source(named(text), DataError)


def test_a_path_is_written_as_the_file_sees_it(tmp_path: Path) -> None:
    assert relative_text(tmp_path / "data" / "x.npz", tmp_path / "ci") == "../data/x.npz"
