"""Several real processes on one study, one of them killed while it measures: nothing is lost, nothing counted twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState

from autoprec import load_front
from autoprec.run.study_description import read_study_description
from autoprec.study.ledger.claims import OWNER
from autoprec.study.ledger.status import LEFT
from autoprec.study.ledger.storages import StudyLocation, journal_location, opened_study, place_of
from autoprec.study.optuna_adapter import MEASUREMENT
from autoprec.testing import tiny_data, tiny_model

from ..conftest import BRIEF_CODE
from ..helpers.study_stores import postgresql, proxy

TRIALS = 10
WORKERS = 3
KINDS = ("journal", "postgresql", "grpc")

# One run and its workers, forked off a process that has imported everything. In the middle of its first plan each of
# them waits for the others, so that all take part; the first worker to get so far takes the file "hold" and stays there
# until it is killed, for which the run waits.
PARTICIPANTS = (
    f"{BRIEF_CODE}\n"
    + """
import json, os, sys, time
from pathlib import Path
from autoprec.api import search, work
from autoprec.run.measure import PlanMeasurer
from autoprec.testing import FakeBackend

folder, sampler, trials = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
hooks, storage = folder / "hooks", os.environ.get("STORAGE") or None

def until(what):
    ends = time.monotonic() + 600
    while not what():
        assert time.monotonic() < ends, "nobody came"
        time.sleep(0.02)

role = "run"
for _ in range(WORKERS):
    if role == "run" and os.fork() == 0:
        role = "worker"

measure, met = PlanMeasurer.__call__, []

def meet(self, plan, wanted):
    if not met and {p.value for p in plan.values()} != {"fp32"}:  # FP32 is known without measuring
        met.append(True)
        (hooks / f"{role}-{os.getpid()}").touch()
        until(lambda: len(list(hooks.glob("worker-*"))) >= WORKERS)
        try:
            if role == "worker":
                os.rename(hooks / "hold", hooks / f"held-{os.getpid()}")
        except FileNotFoundError:
            pass  # another one is to die
        else:
            until((hooks / "killed").exists)
    return measure(self, plan, wanted)

PlanMeasurer.__call__ = meet
if role == "run":
    found = search(folder / "tiny.onnx", calib=folder / "data.npz", max_drop=0.02, trials=trials, sampler=sampler,
                   backend=FakeBackend(), out=folder / "run", storage=storage)
    found.save()
    said = {"trials": [t.number for t in found.trials], "stopped": found.tuned.found.stopped,
            "by": found.summary["measured_by"]}
else:
    worked = work(folder / "run", backend=FakeBackend(), storage=storage, wait_s=600)
    said = {"measured": worked.measured, "stopped": worked.stopped}
(hooks / f"said-{role}-{os.getpid()}").write_text(json.dumps(said))
if role == "worker":
    os._exit(0)  # libraries that were loaded before the fork do not all come apart after it
for _ in range(WORKERS):
    print(*os.wait())
""".replace("WORKERS", str(WORKERS))
)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", **tiny_data(tiny_model(tmp_path), 60))
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "hold").touch()
    return tmp_path


@pytest.fixture(name="place")
def _place(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """What --storage names; "" for the run directory's own journal."""
    with ExitStack() as stack:
        if request.param == "journal":
            yield ""
        else:
            yield stack.enter_context(postgresql() if request.param == "postgresql" else proxy(folder))


@contextlib.contextmanager
def started(folder: Path, storage: str, sampler: str) -> Iterator[subprocess.Popen[str]]:
    """The run, which outlives its workers; none of them outlives the block."""
    command = [sys.executable, "-c", PARTICIPANTS, str(folder), sampler, str(TRIALS)]
    environment = {**os.environ, "STORAGE": storage}
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def held(folder: Path, process: subprocess.Popen[str]) -> int:
    """The process id of the worker that waits for its end."""
    ends = time.monotonic() + 600
    while not (found := list((folder / "hooks").glob("held-*"))):
        assert process.poll() is None, (folder / "errors").read_text()
        assert time.monotonic() < ends, (folder / "errors").read_text()
        time.sleep(0.02)
    return int(found[0].name.partition("-")[2])


def said(folder: Path, role: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (folder / "hooks").glob(f"said-{role}-*")]


def records(folder: Path, place: StudyLocation) -> list[FrozenTrial]:
    name = read_study_description(folder / "run" / "study.json").study
    return opened_study(place, name, join=True).get_trials(deepcopy=False)


def plan(record: FrozenTrial) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted({**record.system_attrs.get("fixed_params", {}), **record.params}.items()))


@pytest.mark.slow
@pytest.mark.parametrize("place", KINDS, indirect=True)
def test_a_worker_killed_in_mid_trial_costs_no_plan_and_none_counts_twice(place: str, folder: Path) -> None:
    with started(folder, place, "random") as process:
        victim = held(folder, process)
        os.kill(victim, signal.SIGKILL)
        (folder / "hooks" / "killed").touch()
        out, _ = process.communicate(timeout=900)
    assert process.returncode == 0, (folder / "errors").read_text()
    [run], survivors = said(folder, "run"), said(folder, "worker")

    found = records(folder, place_of(place) if place else journal_location(folder / "run" / "study.log"))
    measured = [record for record in found if MEASUREMENT in record.user_attrs and record.state.is_finished()]
    lost = [record for record in found if record.user_attrs.get(LEFT) == "killed"]
    assert len(measured) == len({plan(record) for record in measured}) == TRIALS  # the budget, and no plan twice
    assert [record.number for record in measured] == run["trials"]  # the run takes all of it in
    assert [(record.state, record.user_attrs[OWNER]["pid"]) for record in lost] == [(TrialState.FAIL, victim)]
    again = [record for record in measured if plan(record) == plan(lost[0])]
    assert [record.user_attrs[OWNER]["pid"] == victim for record in again] == [False]
    assert TrialState.RUNNING not in [record.state for record in found]
    assert run["stopped"] == f"all {TRIALS} trials were used"
    assert (len(run["by"]), sum(run["by"].values())) == (WORKERS, TRIALS)  # the run itself and two workers
    assert all(worker["measured"] >= 1 for worker in survivors)
    assert sorted(line.split()[1] for line in out.splitlines()) == ["0", "0", str(signal.SIGKILL.value)]
    assert [point.trial.number for point in load_front(folder / "run").points] == run["trials"]  # without the storage
    for path in (folder / "run").iterdir():
        assert "s3cret" not in path.read_text(errors="replace"), path  # the password's beginning, however quoted
