"""Making the context of a run costs nothing, and its clock knows what each stage took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoprec.run import context
from autoprec.run.context import StageClock, prepare_run
from autoprec.run.directory import RunDirectory
from autoprec.run.progress import Silent
from autoprec.run.settings import Settings
from autoprec.run.task import prepare_task
from autoprec.testing import FakeBackend, tiny_data, tiny_model


def test_making_a_run_builds_no_engine_and_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tmp_path)
    task = prepare_task(Settings(model=model, evaluate=tiny_data(model, 36)), FakeBackend())
    (tmp_path / "run").mkdir()
    builds: list[str] = []

    def counted(name: str) -> Any:
        return lambda *args, **options: builds.append(name)

    for name in ("build", "build_busy", "inspect", "profile"):
        monkeypatch.setattr(FakeBackend, name, counted(name))
    run = prepare_run(task, RunDirectory(tmp_path / "run"))

    assert builds == []
    assert list((tmp_path / "run").iterdir()) == []
    assert run.clock.seconds == {"start": 0.0}
    assert run.task.splits == task.splits


def test_each_stage_ends_where_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(context.time, "monotonic", lambda: now[0])
    clock = StageClock(Silent(), elapsed_s=2.0)
    for name, seconds in (("ranges", 1.0), ("search", 5.0)):
        now[0] += seconds
        clock.begin(name, "")
    now[0] += 7.0
    clock.end()
    now[0] += 50.0

    assert clock.seconds == {"start": 3.0, "ranges": 5.0, "search": 7.0}
