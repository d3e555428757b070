"""What is wrong with the path of a run directory: told by looking at files, before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from autoprec.errors import RunDirectoryError
from autoprec.run.directory import RunDirectory
from autoprec.run.study_description import read_study_description
from autoprec.run.trusted import named_model


def refuse_no_folder(root: Path) -> None:
    """Refuse a run that is not there.

    Raises:
        RunDirectoryError: there is no such folder.
    """
    if not root.is_dir():
        kind = "a file" if root.exists() else "not there"
        raise RunDirectoryError(f"a run must be a folder that `autoprec tune` made, but {root} is {kind}")


def refuse_far_model(root: Path, trusted: tuple[str | Path, ...]) -> None:
    """Refuse a run that names a model which a file that may come from others does not decide.

    Raises:
        RunDirectoryError: the run's study.json is missing or damaged.
        ModelError: the model lies outside of what this command is about, and the run is not trusted.
    """
    file = RunDirectory(root).studied
    named_model(file, read_study_description(file).model, trusted)


def refuse_no_plan(root: Path) -> None:
    """Refuse a run that has not ended, or is none.

    Raises:
        RunDirectoryError: it has no plan.
    """
    plan = RunDirectory(root).plan
    if not plan.is_file():
        raise RunDirectoryError(
            f"{root} is not a run directory: it has no {plan.name}; give the folder that `autoprec tune` wrote"
        )
