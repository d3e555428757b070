"""Trackers by name, as `--track` takes them: "tensorboard:runs/tb", and the progress of a run that they follow."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence

from autoprec.errors import UsageError
from autoprec.run.progress import Progress
from autoprec.run.tracking.tracker import Tracked, TrackedProgress, Tracker

FORMS = "tensorboard:FOLDER, mlflow:URI, wandb:offline or wandb:online"


def tracker_named(text: str) -> Tracker:
    """The tracker that a text names.

    Raises:
        UsageError: there is none of that name, its target is missing or wrong, or its library is not installed.
    """
    kind, _, target = text.partition(":")
    makers: dict[str, Callable[[str], Tracker]] = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
    if kind not in makers or not target:
        raise UsageError(f"a tracker must be {FORMS}, got {text!r}")
    if importlib.util.find_spec(kind) is None:
        raise UsageError(f"tracking by {kind} needs its library; pip install 'autoprec[{kind}]'")
    return makers[kind](target)


@contextlib.contextmanager
def tracked_run(
    trackers: Sequence[str | Tracker],
    name: str,
    settings: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Iterator[TrackedProgress]:
    """The progress to give to `autoprec.search`, which trackers follow while the block runs.

    with tracked_run(["mlflow:sqlite:///mlflow.db"], "resnet50") as progress:
        result = autoprec.search("resnet50.onnx", calib="calib.npz", progress=progress)

    Args:
        trackers: their names, or objects of your own.
        name: the name of the model.
        settings: what else is worth keeping of the run.
        progress: the object that is informed as well.

    Raises:
        UsageError: there is no tracker of a name, or what it writes to cannot be used.
    """
    told = TrackedProgress(progress, [tracker_named(t) if isinstance(t, str) else t for t in trackers])
    told.begin(Tracked(name, settings or {}))
    try:
        yield told
    finally:
        told.end()


def _tensorboard(target: str) -> Tracker:
    from autoprec.run.tracking.event_files import TensorBoardTracker

    return TensorBoardTracker(target)


def _mlflow(target: str) -> Tracker:
    from autoprec.run.tracking.mlflow_runs import MlflowTracker

    return MlflowTracker(target)


def _wandb(target: str) -> Tracker:
    from autoprec.run.tracking.wandb_runs import MODES, WandbTracker

    if target not in MODES:
        raise UsageError(f"wandb must be followed by {' or '.join(MODES)}, got {target!r}")
    return WandbTracker(target)
