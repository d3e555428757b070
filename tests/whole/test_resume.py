"""A run that was killed goes on: finished work is kept, nothing half-written stays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from autoprec.run.directory import RunDirectory
from autoprec.testing import tiny_data, tiny_model

from ..conftest import BRIEF_CODE
from ..helpers.run_files import FINISHED

pytestmark = pytest.mark.slow  # most of these are several whole runs

SHORT = f"{BRIEF_CODE}\nimport sys\nfrom autoprec.cli import main\n"
COMMAND = f"{SHORT}main(sys.argv[1:], prog_name='autoprec')"
# The command line, but killed at the n-th sign of progress within a stage, or while a file is being written.
DRIVER = f"""{SHORT}
import os, signal
from autoprec.files import json as files
from autoprec.cli import screen

where, count = sys.argv[1], int(sys.argv[2])

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

class Screen(screen.Screen):
    now, seen = "", 0

    def note(self):
        self.seen += self.now == where
        if self.seen == count:
            kill()

    def stage(self, name, detail):
        super().stage(name, detail)
        self.now = name
        self.note()

    def advance(self, share):
        super().advance(share)
        self.note()

    def trial(self, trial):
        super().trial(trial)
        self.note()

class Os:
    def __getattr__(self, name):
        return getattr(os, name)

    def replace(self, source, target):
        if str(target).endswith(where):
            kill()
        os.replace(source, target)

screen.Screen, files.os = Screen, Os()
main(sys.argv[3:], prog_name="autoprec")
"""


@pytest.fixture(name="work")
def _work(tmp_path: Path) -> Path:
    return workplace(tmp_path)


def workplace(folder: Path) -> Path:
    """A folder with model.onnx and data.npz."""
    model = tiny_model(folder, name="model.onnx")
    np.savez(folder / "data.npz", **tiny_data(model, 60))
    return folder


def arguments(work: Path) -> list[str]:
    options = ["--calib", str(work / "data.npz"), "--trials", "6", "--threads", "1", "--out", str(work / "run")]
    return ["tune", str(work / "model.onnx"), *options]


def killed(work: Path, where: str, count: int = 1) -> str:
    """Run until the kill; what was said until then."""
    command = [sys.executable, "-c", DRIVER, where, str(count), *arguments(work)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stderr


def finish(work: Path) -> str:
    """The same command again, to its end."""
    command = [sys.executable, "-c", COMMAND, *arguments(work)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (work / "run").iterdir()) == FINISHED
    assert sorted(path.name for path in work.iterdir()) == ["data.npz", "model.onnx", "run"]
    return done.stderr


def reused(said: str) -> list[str]:
    return re.findall(r"s +(\w+) .*from an earlier run", said)


def measured(said: str) -> list[int]:
    """The numbers of the plans that this run measured."""
    return [int(number) for number in re.findall(r" trial (\d+) ", said)]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One run that was killed eight times and begun again each time.

    Attributes:
        said: where it was killed -> what was said from the start before until then.
        journals: what the journal of the sensitivities held after the two kills amid them.
        studies: what study.log held after the kill in the search, and at the end.
        unfinished: the files that two kills left half written.
    """

    said: Mapping[str, str]
    journals: tuple[str, str]
    studies: tuple[bytes, bytes]
    unfinished: tuple[list[str], list[str]]


@pytest.fixture(name="chain", scope="module")
def _chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    work = workplace(tmp_path_factory.mktemp("chain"))
    run, said = work / "run", {}

    def half_written(name: str) -> list[str]:
        return [path.name for path in run.glob(f".{name}.*")]

    said["ranges"] = killed(work, "ranges", 2)
    said["sensitivity"] = killed(work, "sensitivity", 2)
    first = (run / "profile.partial.jsonl").read_text(encoding="utf-8")
    said["sensitivity again"] = killed(work, "sensitivity", 2)
    second = (run / "profile.partial.jsonl").read_text(encoding="utf-8")
    said["profile.json"] = killed(work, "profile.json")
    profile = half_written("profile.json")
    said["latency"] = killed(work, "latency", 1)
    said["search"] = killed(work, "search", 3)
    study = run / "study.log"
    whole = study.read_bytes()
    study.write_bytes(whole + whole.splitlines()[-1][:20])  # a line that was half written at the kill
    (run / "study.log.lock").symlink_to("study.log")
    said["confirmation"] = killed(work, "confirmation", 2)
    said["model.onnx"] = killed(work, "model.onnx")
    model = half_written("model.onnx")
    said["the end"] = finish(work)
    return Chain(
        said=said,
        journals=(first, second),
        studies=(whole, study.read_bytes()),
        unfinished=(profile, model),
    )


def test_a_run_killed_in_a_stage_goes_on_from_there(chain: Chain) -> None:
    kept = {where: reused(said) for where, said in chain.said.items()}

    assert kept["ranges"] == kept["sensitivity"] == []
    assert kept["sensitivity again"] == kept["profile.json"] == kept["latency"] == ["ranges"]
    assert kept["search"] == ["ranges", "sensitivity"]
    assert kept["confirmation"] == kept["model.onnx"] == kept["the end"] == ["ranges", "sensitivity", "latency"]


def test_measured_plans_are_not_measured_again(chain: Chain) -> None:
    before, after = measured(chain.said["search"]), measured(chain.said["confirmation"])

    assert before == [0, 1]
    assert after
    assert min(after) == 2
    assert chain.studies[1].startswith(chain.studies[0])


def test_a_run_killed_when_all_is_measured_measures_nothing(chain: Chain) -> None:
    assert measured(chain.said["model.onnx"]) == measured(chain.said["the end"]) == []


def test_measured_sensitivities_are_not_measured_again(chain: Chain) -> None:
    first, second = chain.journals

    assert first
    assert second.startswith(first)
    assert len(second) > len(first)
    rows = [json.loads(line) for line in second.splitlines()]
    assert len({(row["chunk"], row["unit"], row["precision"]) for row in rows}) == len(rows)


def test_a_file_half_written_at_the_kill_is_cleared_away(chain: Chain) -> None:
    """The end of the chain looks for files that do not belong there."""
    assert [len(files) for files in chain.unfinished] == [1, 1]


def test_a_line_half_written_at_the_kill_is_dropped(chain: Chain) -> None:
    assert all(json.loads(line) for line in chain.studies[1].decode().splitlines())


def test_kills_at_any_time_do_not_keep_it_from_finishing(work: Path) -> None:
    for seconds in np.random.default_rng(0).uniform(0.3, 2.5, 4):
        command = [sys.executable, "-m", "autoprec", *arguments(work), "--quiet"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.kill()
        process.wait()

    finish(work)


def test_a_second_run_in_the_same_folder_is_refused(work: Path) -> None:
    with RunDirectory(work / "run").claim():
        command = [sys.executable, "-m", "autoprec", *arguments(work)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)

    assert done.returncode == 2
    assert "another run is working in" in done.stderr
    assert "choose another folder by --out" in done.stderr


def test_an_unfinished_file_of_a_stranger_stays(tmp_path: Path) -> None:
    (tmp_path / ".notes.txt").write_text("mine")
    (tmp_path / "other.lock").write_text("mine")
    with RunDirectory(tmp_path).claim():
        pass

    assert sorted(os.listdir(tmp_path)) == [".notes.txt", "other.lock"]
