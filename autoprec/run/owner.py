"""To which model a run directory belongs: the runs of two models never share one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoprec.errors import RunDirectoryError
from autoprec.files.json import fingerprint
from autoprec.graph.model import Model
from autoprec.run.directory import RunDirectory
from autoprec.run.settings import Settings
from autoprec.run.study_description import read_study_description


@dataclass(frozen=True, slots=True)
class Owner:
    """A model, as a run directory names it.

    Attributes:
        model: the absolute path of its file, for people.
        graph: the fingerprint of its graph.
        weights: the fingerprint of its weights.
    """

    model: str
    graph: str
    weights: str

    @classmethod
    def of(cls, model: Model) -> Owner:
        """What a directory says of this model."""
        return cls(os.path.abspath(model.path), model.graph_fingerprint, model.weights_fingerprint)

    @property
    def digest(self) -> str:
        """The fingerprint of graph and weights together."""
        return fingerprint([self.graph, self.weights])

    def same(self, other: Owner) -> bool:
        """Whether graph and weights are the same, wherever the files lie."""
        return (self.graph, self.weights) == (other.graph, other.weights)


def default_out(model: str | Path) -> Path:
    """The run directory if the user gives none and no other model has it: a folder under the current folder."""
    return Path("autoprec-runs") / Path(model).stem


def run_folder(out: str | Path | None, model: Model) -> Path:
    """The run directory of a model: what the user gave, or the default one of this model.

    Where the default one belongs to another model of the same name, it is one beside it that this model always gets.

    Raises:
        RunDirectoryError: the default one is damaged.
    """
    if out is not None:
        return Path(out)
    usual, mine = default_out(model.path), Owner.of(model)
    owner = owner_of(RunDirectory(usual))
    return usual if owner is None or owner.same(mine) else usual.with_name(f"{usual.name}-{mine.digest[:8]}")


def owner_of(directory: RunDirectory) -> Owner | None:
    """The model that a run directory belongs to, None where it does not say.

    Raises:
        RunDirectoryError: its list of files is damaged.
    """
    found: Any = directory.inventory.read().get("owner")
    if isinstance(found, dict) and set(found) == {"model", "graph", "weights"}:
        return Owner(**{name: str(text) for name, text in found.items()})
    try:
        studied = read_study_description(directory.studied)  # of a version that kept no list
        return Owner(studied.model, studied.fingerprints["graph"], studied.fingerprints["weights"])
    except (RunDirectoryError, KeyError):
        return None


def refuse_other_owner(directory: RunDirectory, model: Model) -> None:
    """Refuse the run directory of another model.

    Raises:
        RunDirectoryError: it belongs to a model of another graph or other weights.
    """
    owner, mine = owner_of(directory), Owner.of(model)
    if owner is None or owner.same(mine):
        return
    what = "weights" if owner.graph == mine.graph else "graph"
    raise RunDirectoryError(
        f"{directory.root} is the run directory of {owner.model} ({what} {getattr(owner, what)}), not of {mine.model} "
        f"({what} {getattr(mine, what)}); choose another by --out, or delete it if its run is not needed any more"
    )


def refuse_foreign(directory: RunDirectory, model: Model, settings: Settings) -> None:
    """Refuse a folder in which a run of this model would write over what is not its own; nothing is written.

    Raises:
        RunDirectoryError: it belongs to another model, or has files that autoprec did not write.
        UsageError: a file that would be written is one that the user gave to read.
    """
    refuse_other_owner(directory, model)
    directory.inventory.refuse_foreign(directory.answer_files, settings.inputs)


@contextlib.contextmanager
def claimed_run(directory: RunDirectory, model: Model, settings: Settings) -> Iterator[None]:
    """Keep other runs out of the folder, and write down that it belongs to this model.

    Raises:
        RunDirectoryError: see `refuse_foreign` and `RunDirectory.claim`.
        UsageError: see `refuse_foreign`.
    """
    refuse_foreign(directory, model, settings)
    with directory.claim():
        refuse_other_owner(directory, model)  # another run may have begun here meanwhile
        directory.inventory.note(owner=asdict(Owner.of(model)))
        yield
