"""A command whose user's function ends the process is no success, however the process ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autoprec.cli.supervise import named_functions
from autoprec.errors import EXIT_USAGE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a child is watched on Linux only")
PROGRAM = (
    "import ctypes, os, sys\nfrom autoprec.cli.supervise import supervised\nwith supervised(['mine:f']):\n    {}\n"
)


def ended(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM.format(body)], capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("leaving", ["os._exit(0)", "ctypes.CDLL(None).exit(0)", "ctypes.CDLL(None)._exit(7)"])
def test_a_process_that_ends_before_its_work_is_done_is_an_error_that_names_the_function(leaving: str) -> None:
    done = ended(leaving)

    assert done.returncode == EXIT_USAGE
    assert "before its work was done: mine:f" in done.stderr


@pytest.mark.parametrize(("body", "code"), [("pass", 0), ("sys.exit(4)", 4), ("print('x'); sys.exit(0)", 0)])
def test_a_process_that_ends_as_it_should_keeps_its_exit_code(body: str, code: int) -> None:
    done = ended(body)

    assert (done.returncode, done.stderr) == (code, "")


def test_a_process_that_crashes_ends_by_the_same_signal_with_a_sentence() -> None:
    done = ended("os.kill(os.getpid(), 11)")

    assert done.returncode == -11
    assert "ended by SIGSEGV, perhaps in mine:f" in done.stderr


def test_functions_are_found_in_a_command_line(tmp_path: Path) -> None:
    words = ["tune", "m.onnx", "--metric", "a.b:f", "--calib=c:D.g", "--pin", ".*=int8", str(tmp_path)]

    assert named_functions(words) == ["a.b:f", "c:D.g"]
