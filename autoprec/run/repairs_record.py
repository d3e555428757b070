"""The repairs that a run keeps: repairs.json, and the task with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from autoprec.data.feeds import batch_feed
from autoprec.errors import RunDirectoryError
from autoprec.files.computed_by import stamped
from autoprec.files.json import read_json, write_json
from autoprec.lowering.repaired import repaired
from autoprec.plan import Repair, repairs_from_record
from autoprec.run.directory import RunDirectory
from autoprec.run.task import Task, prepare_subject, with_shapes_of

SCHEMA = 1
KIND = "autoprec repairs"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairsFound:
    """What became of the repairs that were looked at.

    Attributes:
        fingerprint: the fingerprint of all that they depend on.
        kept: the repairs that all plans of the run are made with.
        refused: the value of each other one -> why it was not kept, as one clause.
        noise_without: the noise-to-signal ratio of uniform INT8 without repairs, on samples that chose none of them.
        noise_with: the same with those that are kept.
        samples: the number of these samples; 0 where nothing was proposed.
    """

    fingerprint: str
    kept: tuple[Repair, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    noise_without: float = 0.0
    noise_with: float = 0.0
    samples: int = 0

    def save(self, path: Path) -> None:
        """Write them as JSON, atomically.

        Raises:
            RunDirectoryError: the folder cannot be written.
        """
        record = {
            "schema": SCHEMA,
            "kind": KIND,
            "fingerprint": self.fingerprint,
            "samples": self.samples,
            "noise": [self.noise_without, self.noise_with],
            "refused": dict(self.refused),
            "kept": [repair.to_record() for repair in self.kept],
        }
        write_json(path, stamped(record))


def read_repairs(path: Path) -> RepairsFound:
    """Read what `RepairsFound.save` wrote.

    Raises:
        RunDirectoryError: the file is missing or damaged.
    """
    record = read_json(path, "record of repairs", RunDirectoryError, SCHEMA)
    try:
        without, kept = map(float, record["noise"])
        return RepairsFound(
            fingerprint=str(record["fingerprint"]),
            kept=repairs_from_record(record["kept"]),
            refused={str(value): str(why) for value, why in record["refused"].items()},
            noise_without=without,
            noise_with=kept,
            samples=int(record["samples"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDirectoryError(
            f"the repairs in {path} are damaged ({error!r}); delete the file, then they are chosen again"
        ) from error


def repairs_of(directory: RunDirectory) -> tuple[Repair, ...]:
    """Return the repairs that the plans of a run are made with; none where the run looked for none.

    Raises:
        RunDirectoryError: their file is damaged.
    """
    return read_repairs(directory.repairs).kept if directory.repairs.is_file() else ()


def with_repairs(task: Task, repairs: tuple[Repair, ...]) -> Task:
    """Return the task whose model has these repairs.

    Raises:
        PlanError: a repair does not fit the model.
    """
    if not repairs:
        return task
    model = repaired(task.subject.model, repairs)
    subject = prepare_subject(task.settings, task.backend, loaded=model)
    subject = replace(subject, notes=task.subject.notes)
    subject = with_shapes_of(subject, batch_feed(model.interface, task.splits.select, 1), task.backend)
    return replace(task, subject=subject)
