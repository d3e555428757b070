"""What `autoprec diagnose` is asked, checked by looking at files alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoprec.backends.protocol import Backend
from autoprec.errors import PlanError, RunDirectoryError, UsageError
from autoprec.run.directory import RunDirectory
from autoprec.run.settings import DataLike


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be diagnosed.

    Attributes:
        subject: the path of a run directory, a plan file, a model that was written by a plan, or an engine.
        point: the number of a measured plan of the run; None for its answer.
        plan: the plan that the model or the engine was written by; None for plan.json beside it.
        model: the model that the plan was made for; None for where the run found it.
        evaluate: the samples; None for those of the run.
        samples: the most samples.
        backend: the runtime; None for that of the plan.
        threads: the number of CPU threads; None for all.
        trust: the files that may name models and data anywhere.
    """

    subject: Path
    point: int | None = None
    plan: Path | None = None
    model: Path | None = None
    evaluate: DataLike | None = None
    samples: int = 64
    backend: str | Backend | None = None
    threads: int | None = None
    trust: tuple[str | Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """What a path stands for.

    Attributes:
        run: the run directory that says where model and data are, None where there is none.
        plan: the plan file.
        written: the model that the runtime is to run, None for the plan as it is written now.
    """

    run: RunDirectory | None
    plan: Path
    written: Path | None = None


def refuse_question(question: Question) -> None:
    """Refuse what can be refused by looking at files alone, before anything heavy is imported.

    Raises:
        UsageError: options exclude each other, or one is missing.
        PlanError: there is no plan.
        RunDirectoryError: there is nothing at the path.
    """
    subject = subject_of(question)
    if question.point is not None and (subject.run is None or question.plan is not None):
        raise UsageError("--point chooses a measured plan of a run directory: give that, or leave --point out")
    if question.point is None and not subject.plan.is_file():
        what = "the run has no answer yet; choose a measured plan by --point N (`autoprec front RUN --all` lists them)"
        raise PlanError(
            f"there is no plan {subject.plan}: {what if subject.run is not None else 'give the plan by --plan FILE'}"
        )
    if subject.run is None and question.model is None:
        raise UsageError(f"{subject.plan} is not in a run directory: say by --model which model it was made for")
    if subject.run is None and question.evaluate is None:
        raise UsageError(f"{subject.plan} is not in a run directory: give samples by --eval")


def subject_of(question: Question) -> Subject:
    """Return what the path of a question stands for.

    Raises:
        RunDirectoryError: there is nothing at the path, or a folder without a plan.
        UsageError: it is a file of another kind.
    """
    path = question.subject
    if not path.exists():
        raise RunDirectoryError(f"there is no {path}; give a run directory, a plan file, or a model or engine of one")
    folder = path if path.is_dir() else path.parent
    directory = RunDirectory(folder)
    run = directory if directory.studied.is_file() else None
    if path.is_dir():
        if run is None and not directory.plan.is_file():
            raise RunDirectoryError(f"{path} is not a run directory: it has neither study.json nor plan.json")
        return Subject(run, question.plan or directory.plan)
    if path.suffix == ".json":
        return Subject(run, path)
    if path.suffix not in (".onnx", ".engine"):
        raise UsageError(f"must be a run directory, a plan.json, or a model or engine written by a plan, got {path}")
    return Subject(run, question.plan or directory.plan, path if path.suffix == ".onnx" else None)
