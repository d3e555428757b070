"""What is told of driver and clocks, and that nothing at all is no error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autoprec.backends import host as clocks

VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.03  Release Build\nGCC version: gcc 12.2.0\n"
)


def test_the_driver_is_read_from_the_kernels_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "version").write_text(VERSION, encoding="utf-8")
    monkeypatch.setattr(clocks, "_DRIVER", tmp_path / "version")

    assert clocks.driver(gpu=True) == "580.159.03"
    assert clocks.driver(gpu=False) == ""


def test_the_cpus_governor_and_frequency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "_CPU", tmp_path)
    assert clocks.clocks(gpu=False) == ""
    (tmp_path / "scaling_governor").write_text("performance\n", encoding="utf-8")
    (tmp_path / "cpuinfo_max_freq").write_text("3500000\n", encoding="utf-8")
    assert clocks.clocks(gpu=False) == "performance 3500000"


def test_a_machine_that_tells_nothing_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", 10)

    monkeypatch.setattr(clocks, "_DRIVER", tmp_path / "absent")
    monkeypatch.setattr(clocks.subprocess, "run", fails)

    assert clocks.driver(gpu=True) == ""
    assert clocks.clocks(gpu=True) == ""


def test_a_process_knows_how_long_it_has_run() -> None:
    imports = "import time; from autoprec.cli.elapsed import process_age_s as age"
    code = f"{imports}; a = age(); time.sleep(0.2); print(a, age())"
    first, second = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    if float(second) > 0:  # where the system tells
        assert float(second) - float(first) == pytest.approx(0.2, abs=0.15)
