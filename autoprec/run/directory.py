"""The run directory: one file for each finished stage, so that a stage is redone only where its inputs changed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autoprec.errors import RunDirectoryError
from autoprec.files.computed_by import stamped
from autoprec.files.forms import recognised, refuse_foreign_stages
from autoprec.files.inventory import Inventory
from autoprec.files.json import PART, read_json, write_json

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The folder in which a run keeps what it found. Nothing is written outside of it."""

    root: Path

    @property
    def ranges(self) -> Path:
        """The calibrated ranges."""
        return self.root / "ranges.json"

    @property
    def repairs(self) -> Path:
        """The exact transformations of the model that all plans are made with."""
        return self.root / "repairs.json"

    @property
    def profile(self) -> Path:
        """The sensitivities."""
        return self.root / "profile.json"

    @property
    def profile_journal(self) -> Path:
        """The sensitivities that are measured so far, a line each."""
        return self.root / "profile.partial.jsonl"

    @property
    def network(self) -> Path:
        """The units of the model and the edges between them."""
        return self.root / "network.json"

    @property
    def causes(self) -> Path:
        """How the values of units that stayed in a high precision look on other samples."""
        return self.root / "causes.json"

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.root / "report.html"

    @property
    def latency(self) -> Path:
        """The profiled milliseconds of each unit."""
        return self.root / "latency.json"

    @property
    def study(self) -> Path:
        """The Optuna study's journal."""
        return self.root / "study.log"

    @property
    def studied(self) -> Path:
        """What the study is about, and the answer of the run."""
        return self.root / "study.json"

    @property
    def search(self) -> Path:
        """What workers need to know of the search; the file exists from the beginning of the search on."""
        return self.root / "search.json"

    def worker_log(self, number: int) -> Path:
        """The messages of a worker that the run itself started."""
        return self.root / f"worker-{number}.log"

    @property
    def plan(self) -> Path:
        """The chosen plan."""
        return self.root / "plan.json"

    @property
    def model(self) -> Path:
        """The lowered model."""
        return self.root / "model.onnx"

    @property
    def result(self) -> Path:
        """All figures of the result, as JSON."""
        return self.root / "result.json"

    @property
    def evidence(self) -> Path:
        """The evidence from which a baseline is made."""
        return self.root / "evidence.json"

    @property
    def exported(self) -> Path:
        """The model before tuning, where the user gave no file."""
        return self.root / "exported.onnx"

    @property
    def signature(self) -> Path:
        """How the module was called from which the model was exported."""
        return self.root / "signature.json"

    @property
    def inventory(self) -> Inventory:
        """The list of what autoprec wrote here."""
        return Inventory(self.root, partial(recognised, self.root))

    @property
    def answer_files(self) -> tuple[str, ...]:
        """The names of what is written when a run has ended."""
        files = (self.plan, self.model, Path(f"{self.model}.data"), self.result, self.evidence)
        return tuple(file.name for file in files)

    def refuse_unusable(self) -> None:
        """Refuse a folder that cannot be made or written, as far as that shows without making it.

        Raises:
            RunDirectoryError: a file is in its place or above it, or this user may not write there.
        """
        nearest = next(path for path in (self.root, *self.root.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise RunDirectoryError(
                f"the run directory {self.root} cannot be made: {nearest} is a file; choose another by --out"
            )
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise RunDirectoryError(
                f"the run directory {self.root} cannot be written: permission to write into {nearest} is missing; "
                f"choose another by --out"
            )

    def prepare(self) -> None:
        """Make the folder and check that it can be written.

        Raises:
            RunDirectoryError: it cannot, or a file is in its place.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(
                f"the run directory {self.root} cannot be made: {error.strerror or error}; choose another by --out"
            ) from error
        try:
            tempfile.TemporaryFile(dir=self.root, prefix=f".{self.root.name}{PART}").close()
        except OSError as error:
            raise RunDirectoryError(
                f"cannot write into {self.root}: {error.strerror or error}; choose a writable folder with free space "
                f"by --out"
            ) from error

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other runs out of the folder, and clear away what a killed run left.

        The operating system locks the folder itself: the lock leaves no file and ends with the process.

        Raises:
            RunDirectoryError: the folder cannot be written, another run works in it, or a file there is not a run's.
        """
        self.prepare()
        refuse_foreign_stages(self.root)
        handle = _lock(self.root)
        try:
            self._tidy()
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def claimed(self) -> bool:
        """Whether a run is at work here, as far as this machine can tell."""
        try:
            handle = _lock(self.root)
        except RunDirectoryError:
            return True
        if handle is not None:
            os.close(handle)
        return False

    def looks_like_a_run(self) -> bool:
        """Whether a search may begin here: a run is or was at work here, or the folder is empty."""
        found = (self.ranges, self.profile, self.profile_journal, self.studied, self.study)
        return any(path.is_file() for path in found) or self.claimed() or not any(self.root.iterdir())

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Keep a run that begins now from tidying up the journal while a worker writes to it."""
        handle = self._share_journal()
        try:
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def _share_journal(self) -> int | None:
        for _ in range(20):
            with contextlib.suppress(RunDirectoryError):  # a run that begins holds the lock for a moment
                return _lock(self.study, shared=True) if self.study.is_file() else None
            time.sleep(0.05)
        return None

    def _tidy(self) -> None:
        """Remove half-written files, locks without an owner and cut-off lines. No other process writes here now."""
        files = [self.network, self.causes, self.repairs, self.ranges, self.profile, self.latency, self.studied]
        files += [self.plan, self.model, self.result, self.evidence, self.search, self.exported, self.signature]
        files += [Path(f"{self.exported}.data"), self.report, self.inventory.path, self.root / "diagnosis.json"]
        leftovers = [path for file in files for path in self.root.glob(f".{file.name}{PART}*")]
        try:
            handle = _lock(self.study) if self.study.is_file() else None
        except RunDirectoryError:  # workers of the killed run are still at work
            return
        if handle is not None:
            os.close(handle)
        try:
            locks = [path for path in self.root.glob(f"{self.study.name}.lock*") if path.is_symlink()]
            for path in [*leftovers, *locks]:  # Optuna's own lock is a link
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            for journal in (self.profile_journal, self.study):
                _drop_unfinished_line(journal)
        except OSError as error:
            raise RunDirectoryError(
                f"cannot tidy the run directory {self.root}: {error.strerror or error}; choose another by --out"
            ) from error

    def stored_unit_ms(self, fingerprint: str) -> dict[str, dict[str, float]] | None:
        """Plan name -> unit name -> milliseconds, if they were profiled from the same inputs; else None.

        Raises:
            RunDirectoryError: the file is damaged.
        """
        if not self.latency.is_file():
            return None
        record = read_json(self.latency, "latency profile", RunDirectoryError, SCHEMA)
        if record.get("fingerprint") != fingerprint:
            return None
        try:
            return {
                str(plan): {str(unit): float(ms) for unit, ms in row.items()} for plan, row in record["unit_ms"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunDirectoryError(
                f"the latency profile {self.latency} is damaged ({error!r}); delete it, it is made again"
            ) from error

    def store_unit_ms(self, fingerprint: str, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Write the profiled milliseconds with the fingerprint of what they depend on."""
        write_json(self.latency, stamped({"schema": SCHEMA, "fingerprint": fingerprint, "unit_ms": rows}))


def _lock(path: Path, *, shared: bool = False) -> int | None:
    """An open handle that locks a folder or file; None where the platform or the file system has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RunDirectoryError(
            f"another run is working in {path}; wait until it has ended, or choose another folder by --out"
        ) from None
    except OSError:  # some network file systems
        os.close(handle)
        return None
    return handle


def _drop_unfinished_line(journal: Path) -> None:
    """Cut off an unfinished line that a killed process left, so that the next line is not appended to it."""
    if not journal.is_file():
        return
    data = journal.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(journal, whole)
