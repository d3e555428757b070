"""MLflow: one run of the experiment "autoprec" for each tune, a metric for each figure over the trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprec.errors import UsageError
from autoprec.run.tracking.tracker import Tracked, figures_of
from autoprec.study.trial import Trial

_EXPERIMENT = "autoprec"


class MlflowTracker:
    """Writes to a tracking server, a database or a folder.

    Args:
        uri: the tracking URI, such as "http://host:5000" or "sqlite:///mlflow.db".
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client: Any = None
        self._run = ""

    def begin(self, tracked: Tracked) -> None:
        """Begin a run with the settings as its parameters.

        Raises:
            UsageError: there is nothing at the URI that takes runs.
        """
        import mlflow

        try:
            self._client = mlflow.MlflowClient(tracking_uri=self._uri)
            known = self._client.get_experiment_by_name(_EXPERIMENT)
            experiment = known.experiment_id if known else self._client.create_experiment(_EXPERIMENT)
            self._run = self._client.create_run(experiment, run_name=tracked.name).info.run_id
            for name, value in tracked.settings.items():
                self._client.log_param(self._run, name, value)
        except Exception as error:  # MLflow raises what its stores raise
            raise UsageError(f"no run can be kept by MLflow at {self._uri}: {error}; check the URI") from error

    def trial(self, trial: Trial) -> None:
        """Log the figures of a plan at its number."""
        for name, value in figures_of(trial).items():
            self._client.log_metric(self._run, name, value, step=trial.number)

    def end(self, answer: Mapping[str, float | str]) -> None:
        """Log the answer, and end the run."""
        for name, value in answer.items():
            if isinstance(value, str):
                self._client.set_tag(self._run, name, value)
            else:
                self._client.log_metric(self._run, f"answer_{name}", value)
        self._client.set_terminated(self._run, "FINISHED" if answer else "FAILED")
