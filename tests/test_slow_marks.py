"""That a test over the limit is found, and one with the mark is not (`tests/conftest.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import LIMIT_S

pytest_plugins = ["pytester"]

TESTS = """
import subprocess, sys, time
import pytest

BURN = "import time; end = time.process_time() + 0.5\\nwhile time.process_time() < end: pass"

def test_itself():
    exec(BURN)

def test_child():
    subprocess.run([sys.executable, "-c", BURN])

@pytest.mark.slow
def test_marked():
    exec(BURN)

def test_waits():
    time.sleep(0.5)
"""


@pytest.fixture(name="project")
def _project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Four tests under this project's conftest, but with a limit of 0.3 s."""
    conftest = (Path(__file__).parent / "conftest.py").read_text(encoding="utf-8")
    assert f"LIMIT_S = {LIMIT_S}" in conftest
    pytester.makeconftest(conftest.replace(f"LIMIT_S = {LIMIT_S}", "LIMIT_S = 0.3"))
    pytester.makeini("[pytest]\nmarkers = slow: more than ten seconds")
    pytester.makepyfile(TESTS)
    return pytester


@pytest.mark.parametrize("options", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_slow_tests_without_the_mark_fail_the_run_though_they_pass(
    project: pytest.Pytester, options: list[str]
) -> None:
    result = project.runpytest("--check-slow", *options)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=4)
    named = [line for line in result.outlines if line.endswith("mark it slow, or make it faster")]
    assert [line.split(" took ")[0].split("::")[1] for line in named] == ["test_child", "test_itself"]


def test_nothing_is_checked_unless_asked(project: pytest.Pytester) -> None:
    assert project.runpytest().ret == pytest.ExitCode.OK
