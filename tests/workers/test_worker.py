"""Joining the search of a run directory: what a worker needs, and what it says where that is not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import autoprec
from autoprec.api import work
from autoprec.backends.tensorrt.builder_processes import OTHER_GPUS
from autoprec.backends.tensorrt.machine import InstalledGpu, InstalledGpus
from autoprec.cli import main
from autoprec.cli.local_workers import pinned
from autoprec.errors import (
    EXIT_OK,
    EXIT_USAGE,
    BackendError,
    DataError,
    ModelError,
    RunDirectoryError,
    SearchOverError,
    UsageError,
)
from autoprec.run.search_description import read_search_description, settings_record
from autoprec.run.settings import Settings
from autoprec.testing import FakeBackend, tiny_data, tiny_model
from autoprec.workers.devices import (
    builds_elsewhere,
    core_blocks,
    gpu_environment,
    on_its_own,
    parse_cores,
    usable_cores,
)

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(name="finished", scope="module")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model, data and a finished run of 3 plans."""
    folder = tmp_path_factory.mktemp("finished")
    np.savez(folder / "data.npz", **tiny_data(tiny_model(folder), 60))
    autoprec.search(
        folder / "tiny.onnx",
        calib=folder / "data.npz",
        trials=3,
        sampler="random",
        backend=FakeBackend(),
        out=folder / "run",
    )
    return folder


@pytest.fixture(name="run")
def _run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run whose search is open: as a run leaves it that is killed, with 5 more plans to measure."""
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    changed(run, lambda record: record.update(ended=None) or record["settings"].update(trials=9))
    script = (
        "import optuna, sys; from autoprec.study.ledger.storages import *; from pathlib import Path\n"
        "s = opened_study(journal_location(Path(sys.argv[1])), sys.argv[2]); s.set_user_attr('autoprec:ended', None)"
    )
    name = json.loads((run / "study.json").read_text())["study"]
    subprocess.run([sys.executable, "-c", script, str(run / "study.log"), name], check=True, timeout=600)
    return run


def changed(run: Path, change: Change) -> None:
    record = json.loads((run / "search.json").read_text())
    change(record)
    (run / "search.json").write_text(json.dumps(record))


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["worker", *map(str, words)], catch_exceptions=False)


def test_a_worker_measures_what_is_left_and_writes_nothing_but_the_study(run: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    worked = work(run, trust=run, backend=FakeBackend())
    after = {path.name: path.read_bytes() for path in run.iterdir()}

    assert worked.stopped == "all 9 trials were used"
    assert worked.measured >= 4
    assert before.pop("study.log") != after.pop("study.log")
    assert before == after


def test_a_run_takes_in_what_a_worker_measured_meanwhile(finished: Path, run: Path) -> None:
    worked = work(run, trust=run, backend=FakeBackend())
    result = autoprec.search(
        finished / "tiny.onnx", calib=finished / "data.npz", trials=9, sampler="random", backend=FakeBackend(), out=run
    )

    assert worked.measured >= 4
    assert len(result.trials) == 9


def test_a_worker_that_comes_too_late_says_so(finished: Path) -> None:
    with pytest.raises(
        SearchOverError, match=r"has ended \(all 3 trials were used\), so there is nothing to measure; `a"
    ):
        work(finished / "run", backend=FakeBackend())


def test_a_folder_that_is_no_run_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    result = invoke(tmp_path)

    assert result.exit_code == EXIT_USAGE
    assert "a worker must be given a run whose search has begun, but" in result.stderr
    assert "start `autoprec tune ... --out" in result.stderr


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = invoke(tmp_path / "nowhere")

    assert result.exit_code == EXIT_USAGE
    assert "a worker must be given the folder of a run, but" in result.stderr
    assert "is not there; start `autoprec tune" in result.stderr


def test_a_run_that_has_not_come_to_its_search_is_waited_for(run: Path) -> None:
    (run / "search.json").rename(run / "later")
    said: list[str] = []

    def say(words: str) -> None:
        said.append(words)
        (run / "later").rename(run / "search.json")

    assert work(run, trust=run, backend=FakeBackend(), say=say).measured >= 4
    assert said == [f"waiting up to 600 s for the search in {run} to begin: ranges and sensitivities come first"]


def test_waiting_has_an_end(run: Path) -> None:
    (run / "search.json").unlink()

    with pytest.raises(RunDirectoryError, match=r"has no search.json after 1 s; start .*, or wait longer by --wait"):
        work(run, trust=run, backend=FakeBackend(), wait_s=0.6)


def test_another_model_is_refused(run: Path, tmp_path: Path) -> None:
    other = tiny_model(tmp_path, seed=1, name="other.onnx")

    with pytest.raises(ModelError, match=r"other.onnx is not the model that .* was begun with: .* its weights is"):
        work(run, trust=run, model=other, backend=FakeBackend())


def test_other_data_is_refused(finished: Path, run: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", **tiny_data(finished / "tiny.onnx", 60, seed=5))
    np.savez(tmp_path / "fewer.npz", **tiny_data(finished / "tiny.onnx", 40))

    with pytest.raises(DataError, match=r"other.npz is not the data that the run was begun with: .* by --calib"):
        work(run, trust=run, calib=tmp_path / "other.npz", backend=FakeBackend())
    with pytest.raises(DataError, match=r"fewer.npz must have the 48 samples to select and to report with"):
        work(run, trust=run, calib=tmp_path / "fewer.npz", backend=FakeBackend())


def test_the_same_model_and_data_may_lie_elsewhere(finished: Path, run: Path, tmp_path: Path) -> None:
    for name in ("tiny.onnx", "data.npz"):
        shutil.copy(finished / name, tmp_path / name)
    changed(run, lambda record: record["settings"].update(model="/nowhere.onnx", calib="/nowhere.npz"))

    worked = work(run, trust=run, model=tmp_path / "tiny.onnx", calib=tmp_path / "data.npz", backend=FakeBackend())
    assert worked.measured >= 4


def test_another_kind_of_machine_is_refused(run: Path) -> None:
    with pytest.raises(BackendError, match=r"same kind of machine as the run in .*; here is jitter 0.5, not 0.0. Use"):
        work(run, trust=run, backend=FakeBackend(jitter=0.5))


def test_another_release_of_the_kernel_is_no_other_machine(run: Path) -> None:
    class Patched(FakeBackend):
        def for_run(self, shapes: Any, folder: Path) -> FakeBackend:
            return self

        def describe(self) -> dict[str, str]:
            return {**super().describe(), "platform": "Linux-6.1.99"}

    assert work(run, trust=run, backend=Patched()).measured >= 4


@pytest.mark.parametrize("damage", ["{}", "no JSON", '{"schema": 1, "prior": 3}'])
def test_a_damaged_description_is_refused(run: Path, damage: str) -> None:
    (run / "search.json").write_text(damage)

    with pytest.raises(RunDirectoryError, match=r"search's description .*search.json"):
        work(run, trust=run, backend=FakeBackend())


def test_ranges_of_another_run_are_refused(run: Path) -> None:
    changed(run, lambda record: record.update(profile="0" * 16))

    with pytest.raises(RunDirectoryError, match="are not those that the search began with; copy the run directory"):
        work(run, trust=run, backend=FakeBackend())


def test_data_from_memory_must_be_given_by_path(finished: Path, run: Path) -> None:
    changed(run, lambda record: record["settings"].update(calib="given in Python"))

    with pytest.raises(DataError, match="its --calib was given in Python and not by a path; tune with a file, or give"):
        work(run, trust=run, backend=FakeBackend())
    assert work(run, trust=run, calib=finished / "data.npz", backend=FakeBackend()).measured >= 4


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    settings = Settings(
        model=tmp_path / "m.onnx", calib={"x": np.zeros(1)}, evaluate="module:data", pins=("a=int8",), max_drop=np.inf
    )
    stored = settings_record(settings)

    assert stored["model"] == str(tmp_path / "m.onnx")
    assert (stored["calib"], stored["evaluate"], stored["pins"]) == ("given in Python", "module:data", ["a=int8"])


def test_a_finished_search_keeps_no_worker_waiting(finished: Path) -> None:
    assert read_search_description(finished / "run" / "search.json").ended == "all 3 trials were used"


COMMAND = (
    "import sys; from autoprec.cli import main; from autoprec.workers import join\n"
    "from autoprec.testing import FakeBackend\n"
    "join.make_backend = lambda *_: FakeBackend(); main(prog_name='autoprec')"
)


HOLD = (
    "import autoprec.run.measure as m, time\n"
    "m.PlanMeasurer.__call__ = lambda *_: (print('at it', flush=True), time.sleep(60))\n"
)


def test_a_worker_ends_with_the_run_that_started_it(run: Path) -> None:
    """Its standard input closes, however the run ended; its plan is left to others."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD + COMMAND, "worker", str(run), "--with-parent", "--trust", str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at it\n"
    _, errors = process.communicate(timeout=600)

    assert process.returncode == 130, errors
    assert work(run, trust=run, backend=FakeBackend()).measured >= 4


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_a_scheduler_may_end_a_worker(run: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD + COMMAND, "worker", str(run), "--trust", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at it\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    left = [line for line in (run / "study.log").read_text().splitlines() if '"left":"stopped"' in line]

    assert process.returncode == 130, errors
    assert len(left) == 1


@pytest.mark.slow
@pytest.mark.skipif(len(usable_cores()) < 2, reason="workers have cores of their own, and there is one core")
def test_a_run_with_workers_says_who_measured_what(finished: Path, tmp_path: Path) -> None:
    """On ONNX Runtime; the run waits at its first plan until the worker has measured one."""
    hold = (
        "import autoprec.run.measure as m, sys, time, pathlib\n"
        "was, log = m.PlanMeasurer.__call__, pathlib.Path(sys.argv[sys.argv.index('--out') + 1]) / 'worker-1.log'\n"
        "def slow(*a):\n"
        "    ends = time.monotonic() + 60\n"
        "    while ' trial ' not in log.read_text() and time.monotonic() < ends: time.sleep(0.05)\n"
        "    return was(*a)\n"
        "m.PlanMeasurer.__call__ = slow\n"
        "from autoprec.cli import main; main(prog_name='autoprec')"
    )
    words = [
        "tune",
        finished / "tiny.onnx",
        "--calib",
        finished / "data.npz",
        "--out",
        tmp_path / "run",
        "--workers",
        "1",
    ]
    options = ["--threads", "1", "--trials", "6", "--sampler", "random", "--max-drop", "0.1"]
    done = subprocess.run(
        [sys.executable, "-c", hold, *map(str, words), *options],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )

    assert done.returncode == EXIT_OK, done.stderr
    assert "measured by: " in done.stdout
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    assert len(summary["measured_by"]) == 2
    assert sum(summary["measured_by"].values()) == summary["trials"] == 6
    assert "the search is over: all 6 trials were used" in (tmp_path / "run" / "worker-1.log").read_text()


def test_a_worker_that_fails_is_spoken_of_and_costs_nothing(tmp_path: Path) -> None:
    from autoprec.run.directory import RunDirectory
    from autoprec.workers.processes import WorkerProcesses

    said: list[str] = []
    with WorkerProcesses(RunDirectory(tmp_path), [["--nonsense"]], [{}], said.append) as crew:
        crew.start()
        ends = time.monotonic() + 60
        while not said and time.monotonic() < ends:
            time.sleep(0.05)

    assert len(said) == 1
    assert said[0].startswith("worker 1 ended with exit code 2: Error: No such option")
    assert said[0].endswith("the run goes on without it")


def test_each_gpu_worker_sees_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-abc,6")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # put back afterwards
    helpers = pinned("tensorrt", "", threads=None, device=1, cores=None, workers=1)

    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-abc"
    assert [environment["CUDA_VISIBLE_DEVICES"] for _, environment in helpers] == ["6"]


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

    with pytest.raises(
        UsageError, match="--device 1 must be the number of a GPU, counted from 0, but CUDA_VISIBLE_DEV"
    ):
        gpu_environment(1)
    with pytest.raises(
        UsageError, match="--device is for backends that run on this machine's GPU, got it with ort-cpu"
    ):
        pinned("ort-cpu", "", threads=None, device=0, cores=None, workers=0)


def test_a_run_builds_on_the_gpus_of_its_workers_where_all_are_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    found = [InstalledGpu(name=name, capability="9.0", driver="580", memory_mib=None) for name in ("A", "A", "B")]
    for gpus, named in ((found[:2], "6"), (found, None)):
        monkeypatch.setattr("autoprec.workers.devices.find_gpus", lambda gpus=gpus: InstalledGpus(tuple(gpus)))

        assert builds_elsewhere([gpu_environment(1)]).get(OTHER_GPUS) == named
    assert on_its_own()[OTHER_GPUS] == "", "a worker does not build on the others' GPUs in turn"


def test_cores_are_shared_out_in_equal_blocks() -> None:
    assert parse_cores("0-2, 5") == (0, 1, 2, 5)
    assert core_blocks((0, 1, 2, 5), 2, None) == [(0, 1), (2, 5)]
    assert core_blocks((0, 1, 2, 5), 3, 1) == [(0,), (1,), (2,)]
    with pytest.raises(UsageError, match="3 processes of 2 threads, this one and 2 workers, must have 6 cores"):
        core_blocks((0, 1, 2, 5), 3, 2)
    for text in ("", "a", "3-1", "1,,2"):
        with pytest.raises(UsageError, match="--cores must be numbers of cores such as 0-3,8"):
            parse_cores(text)
