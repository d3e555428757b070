"""Temporary folders go with their process, even if it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

MAKE = "from autoprec.files.scratch import ScratchFolder; folder = ScratchFolder(); print(folder.path, flush=True); "


def start(code: str, temporary: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_what_a_killed_process_left_goes_with_the_next_and_what_is_in_use_stays(tmp_path: Path) -> None:
    foreign = tmp_path / "autoprec-scratch-not-locked"
    foreign.mkdir()
    killed, alive = (start(MAKE + "input()", tmp_path) for _ in range(2))
    left, used = (Path(process.stdout.readline().strip()) for process in (killed, alive))  # type: ignore[union-attr]
    (left / "large").write_bytes(b"weights")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert left.is_dir()

    with start(MAKE, tmp_path) as following:
        own = Path(following.stdout.readline().strip())  # type: ignore[union-attr]

    assert not left.exists()
    assert not own.exists()
    assert used.is_dir()
    assert foreign.is_dir()
    alive.communicate("\n")
    assert not used.exists()


KILLED_AT_THE_LOCK = """
import os, signal
from autoprec.files.scratch import ScratchFolder
folder, real = ScratchFolder(), os.unlink
for number in range(20):
    (folder.path / f"weights-{number}").write_bytes(b"large")
def unlink(path, **more):
    real(path, **more)
    if os.fspath(path).endswith(".lock"):
        os.kill(os.getpid(), signal.SIGKILL)
os.unlink = unlink
folder.close()
"""


def test_a_process_that_is_killed_while_it_removes_leaves_nothing_without_its_lock(tmp_path: Path) -> None:
    start(KILLED_AT_THE_LOCK, tmp_path).communicate()

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    for folder in tmp_path.iterdir():
        os.utime(folder, (0, 0))  # long ago
    start(MAKE, tmp_path).communicate()
    assert list(tmp_path.iterdir()) == []
