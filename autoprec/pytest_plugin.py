"""The gate as a test: a pytest test fails if a model became worse than its committed baseline.

    def test_precision(autoprec_gate):
        autoprec_gate("model.onnx", baseline="baseline.json", eval="eval.npz", calib="calib.npz")

pytest loads this module in every session if autoprec is installed, so nothing else is imported until a gate runs.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from autoprec.gate.verdict import GateReport

_LIMITS = ("max_drop", "max_slowdown", "max_size", "max_bytes", "max_range_bits", "latency_required")
_SOURCES = (
    "eval",
    "calib",
    "metric",
    "decode",
    "labels",
    "recipe",
    "trust",
    "backend",
    "threads",
)  # what measuring takes, for a verdict and for a new baseline
_OPTIONS = ("baseline", "baseline_model", *_SOURCES, *_LIMITS, "cannot_judge")
_FAIL, _SKIP = "fail", "skip"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options --autoprec-update and --autoprec-cannot-judge."""
    group = parser.getgroup("autoprec", "autoprec: gates on committed precision plans")
    group.addoption(
        "--autoprec-update",
        action="store_true",
        help="Measure each gated model again, rewrite its baseline, then judge by the new one.",
    )
    group.addoption(
        "--autoprec-cannot-judge",
        choices=(_FAIL, _SKIP),
        help="What a test comes to whose gate cannot judge; overrides the test and the ini-option (default: fail).",
    )
    parser.addini(
        "autoprec_cannot_judge",
        "What a test comes to whose gate cannot judge, fail or skip, where it does not say so itself.",
        default=_FAIL,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse a wrong setting of the ini-file."""
    config.addinivalue_line(
        "markers",
        f"autoprec(*, {', '.join(_OPTIONS)}): defaults for the gates of this test; tests that use the fixture "
        f"autoprec_gate have the marker anyway, so that -m autoprec selects them",
    )
    if config.getini("autoprec_cannot_judge") not in (_FAIL, _SKIP):
        raise pytest.UsageError(
            f"autoprec_cannot_judge must be {_FAIL} or {_SKIP}, got {config.getini('autoprec_cannot_judge')!r}"
        )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that use the fixture."""
    if "autoprec_gate" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.autoprec)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each gate of a passed test, which says what was judged and what was not."""
    lines = [
        f"{report.nodeid}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in getattr(report, "user_properties", ())
        if name == "autoprec" and report.when == "call"
    ]
    if lines:
        terminalreporter.section("autoprec")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(name="autoprec_gate")
def _autoprec_gate(request: pytest.FixtureRequest) -> Gate:
    """Judge a model against its committed baseline: autoprec_gate(model, baseline=..., eval=..., max_drop=...)."""
    return Gate(request.node)


@dataclass(frozen=True, slots=True)
class Gate:
    """The value of the fixture `autoprec_gate`: a function that gates a model.

    Attributes:
        item: the test that uses the fixture.
    """

    item: pytest.Item

    def __call__(self, model: str | os.PathLike[str], **options: Any) -> GateReport:
        """Gate `model`, and fail the test with the table as its message unless the gate finds it fine.

        Options that are not given are taken from the marker `autoprec`, and otherwise have the defaults of `autoprec
        gate`. Relative paths are relative to the current folder, as in any test.

        Args:
            model: the path of an ONNX file or of a run directory.
            options: `baseline`, the file that `autoprec baseline` wrote; `eval`, `calib`, `recipe` and
                `baseline_model`, if these files are not where the baseline says; `metric`, where it is a function;
                `trust`, a file such as the baseline that may name functions and paths anywhere; `backend` and
                `threads`; every field of `autoprec.gate.limits.Limits`; and `cannot_judge`, which is "fail" or "skip".

        Returns:
            The report of a gate that passed.
        """
        options = {**self._marked(), **_known("autoprec_gate", options)}
        when_undecided = self._when_undecided(options.pop("cannot_judge", None))
        baseline = options.pop("baseline", None)
        if baseline is None:
            _fail("autoprec_gate needs baseline=FILE, here or in the marker; make one: autoprec baseline RUN -o FILE")
        return self._settle(self._judge(os.fspath(model), os.fspath(baseline), options), when_undecided)

    def _marked(self) -> dict[str, Any]:
        """Return the options of the test's markers; the marker closest to the test wins."""
        marked: dict[str, Any] = {}
        for marker in reversed(list(self.item.iter_markers("autoprec"))):
            if marker.args:
                _fail(f"the marker autoprec takes options by name only, such as max_drop=0.01; got {marker.args[0]!r}")
            marked |= _known("the marker autoprec", marker.kwargs)
        return marked

    def _when_undecided(self, wanted: str | None) -> str:
        """Return the setting of the command line, else that of the test, else that of the ini-file."""
        config = self.item.config
        found = config.getoption("--autoprec-cannot-judge") or wanted or config.getini("autoprec_cannot_judge")
        if found not in (_FAIL, _SKIP):
            _fail(f"cannot_judge must be {_FAIL!r} or {_SKIP!r}, got {found!r}")
        return str(found)

    def _judge(self, model: str, baseline: str, options: dict[str, Any]) -> GateReport:
        from autoprec.errors import AutoprecError
        from autoprec.gate.judge import Limits, gate, update_baseline

        sources = {name: options[name] for name in _SOURCES if name in options}
        try:
            limits = Limits(**{name: value for name, value in options.items() if name in _LIMITS})
            with _alone():
                if self.item.config.getoption("--autoprec-update"):
                    update_baseline(model, baseline, **sources)
                    self.item.user_properties.append(("autoprec", f"rewrote {baseline}; review and commit it"))
                return gate(model, baseline, limits=limits, baseline_model=options.get("baseline_model"), **sources)
        except AutoprecError as error:
            text = str(error)
        _fail(f"autoprec: {text}")

    def _settle(self, report: GateReport, when_undecided: str) -> GateReport:
        from autoprec.gate.surfaces import headline, to_text
        from autoprec.gate.verdict import Status

        self.item.user_properties.append(("autoprec", headline(report)))
        if report.status is Status.FINE:
            self.item.add_report_section("call", "autoprec", to_text(report))
            return report
        if report.status is Status.CANNOT_JUDGE and when_undecided == _SKIP:
            pytest.skip(headline(report))
        _fail(to_text(report))


def _known(taker: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options after checking that all of them exist; an ignored misspelt bound would let everything pass."""
    for name in options:
        if name not in _OPTIONS:
            _fail(f"{taker} has no option {name!r}; it has {', '.join(_OPTIONS)}")
    return options


def _fail(text: str) -> NoReturn:
    """Fail the test with this text and without a traceback, since the mistake is not in the code of the test."""
    pytest.fail(text, pytrace=False)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let only one gate run at a time on this machine, in whatever worker of pytest-xdist, since gates measure time.

    The kernel releases the lock when the process ends. If the platform or the folder has no locks, gates may disturb
    each other, and a disturbed gate says so.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = Path(tempfile.gettempdir()) / f"autoprec-gate-{os.getuid()}.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
