"""Reading the measured plans of a study while nothing is written to it."""

from __future__ import annotations

from pathlib import Path

import optuna

from autoprec.errors import RunDirectoryError
from autoprec.study.goal import Goal, goal_of
from autoprec.study.ledger.storages import journal_location, open_storage
from autoprec.study.ledger.trials import measured_trials
from autoprec.study.trial import Choices, Trial


def stored_trials(path: Path, name: str, choices: Choices, goal: Goal | float) -> tuple[Trial, ...]:
    """The measured plans of a study, in order, while nothing is written to it: another process may be at work there.

    Args:
        path: the journal file.
        name: the name of the study.
        choices: unit -> precisions, as the study had them.
        goal: whose bounds make a trial feasible; a number is the most drop.

    Raises:
        RunDirectoryError: there is no such study, or it cannot be read.
    """
    if not path.is_file():
        raise RunDirectoryError(f"there is no study {path}, so no plan was measured; run `autoprec tune` first")
    try:
        study = optuna.load_study(study_name=name, storage=open_storage(journal_location(path)))
        return tuple(measured_trials(study.get_trials(deepcopy=False), choices, goal_of(goal)))
    except OSError as error:
        raise RunDirectoryError(f"cannot read the study {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged file makes Optuna fail in very many ways
        raise RunDirectoryError(
            f"the study {path} is damaged ({error!r}); delete it and run `autoprec tune` again"
        ) from error
