"""For all tests: the tiny model, and a check that what takes over ten seconds is marked `slow`.

What a test takes is measured in seconds of the CPU, its own and those of the processes that it waited for: the time on
the clock says more about what else a machine does. It is no property of the code either, so no test fails because it is
slow. `tests/run.sh` passes `--check-slow`, and then the run as a whole fails and names each test without the mark that
took more than `LIMIT_S`. That is twice ten seconds, since a second of a busy CPU (caches and hyper-threads are
shared) does up to half the work of a quiet one's; on a slower CPU the limit is longer by
as much as the CPU is slower (`_slowness`). A test that mostly sleeps is not found.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from autoprec.testing import tiny_model

LIMIT_S = 20.0
LOOP_S = 0.18
"""What `_loop_s` takes on the quiet machine that the marks were set on (an AMD EPYC, Python 3.11)."""
PROPERTY = "seconds of the CPU"
BRIEF = {
    "autoprec.run.answer.side_by_side.CONFIRM_TURN_MS": 6.0,
    "autoprec.run.answer.side_by_side.MOST_ROUNDS": 9,
    "autoprec.run.measure.TRIAL_TURN_MS": 2.0,
    "autoprec.run.measure.TRIAL_ROUNDS": (3, 5),
}
"""Name -> the value in tests: shorter turns and fewer rounds than users get; benchmarks look at how sure these are."""

BRIEF_CODE = "import importlib\n" + "\n".join(
    f"importlib.import_module({module!r}).{name} = {value!r}"
    for (module, _, name), value in ((path.rpartition("."), value) for path, value in BRIEF.items())
)
"""The same for a process of its own: Python code that runs before anything else of it."""

if not (Path(__file__).parents[1] / "autoprec").exists():  # the installed package is tested: see tests/wheel.sh
    collect_ignore = [
        "test_ci_examples.py",
        "test_floors.py",
        "test_house_rules.py",
        "test_mirror.py",
        "test_names_are_not_searched.py",
        "test_packaging.py",
        "test_pages_and_scripts.py",
    ]
    """What reads or builds the sources."""


@pytest.fixture(autouse=True, scope="session")
def _short_timing() -> Iterator[None]:
    """No test looks at how narrow the intervals of latencies are; benchmarks do."""
    with pytest.MonkeyPatch.context() as patch:
        for path, value in BRIEF.items():
            patch.setattr(path, value)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_report() -> Iterator[None]:
    """Draw no report at the end of each of the hundred tunes: tests/report has its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOPREC_REPORT", "0")
        yield


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, in a folder of its own for each file of tests."""
    return tiny_model(tmp_path_factory.mktemp("model"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--check-slow", action="store_true", help="fail the run if a test needs the mark slow and lacks it"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests, and whole runs, come first: at the end one worker would wait for a long file."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow") is not None)
    items.sort(key=lambda item: (-slow[item.path], "whole" not in item.path.parts))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    began = _cpu_s()
    try:
        return (yield)
    finally:
        if item.get_closest_marker("slow") is None:
            item.user_properties.append((PROPERTY, _cpu_s() - began))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under xdist the reports of all tests are here in the process that leads, which alone has a terminal."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not session.config.getoption("--check-slow"):
        return
    reports = [report for outcome in ("passed", "failed", "xfailed") for report in reporter.getreports(outcome)]
    taken = {report.nodeid: dict(report.user_properties).get(PROPERTY, 0.0) for report in reports}
    limit_s = LIMIT_S * _slowness()
    for name in sorted(name for name, seconds in taken.items() if seconds > limit_s):
        reporter.write_line(f"\n{name} took {taken[name]:.0f} {PROPERTY}: mark it slow, or make it faster", red=True)
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def _cpu_s() -> float:
    """What this process has used, with all the processes that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _slowness() -> float:
    """How many times slower this CPU is than the one that the marks were set on; at least 1."""
    return max(1.0, min(_loop_s() for _ in range(3)) / LOOP_S)


def _loop_s() -> float:
    """The seconds of the CPU that a fixed piece of Python takes."""
    began, total = time.process_time(), 0
    for number in range(2_000_000):
        total += number * number % 7
    return time.process_time() - began
