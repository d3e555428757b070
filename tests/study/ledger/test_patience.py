"""A database may be away for a while, as when it is restarted; a file that cannot be read may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprec.errors import RunDirectoryError, StorageError
from autoprec.study.ledger import patience
from autoprec.study.ledger.storages import StudyLocation, journal_location, place_of


class Restarted:
    """A call that reaches its storage after so many tries."""

    def __init__(self, tries: int) -> None:
        self.left, self.calls = tries, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.left:
            raise ConnectionError("the server closed the connection")
        return "answer"


@pytest.fixture(name="slept")
def _slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, which pass at once."""
    pauses: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", pauses.append)
    return pauses


@pytest.mark.parametrize("text", ["postgresql://me@host/db", "grpc://host:13000"])
def test_a_database_that_comes_back_is_waited_for(slept: list[float], text: str) -> None:
    call = Restarted(4)

    assert patience.patiently(place_of(text), call) == "answer"
    assert call.calls == 5
    assert slept == sorted(slept)
    assert len(set(slept)) == 4


def test_one_that_does_not_come_back_ends_the_run(slept: list[float]) -> None:
    call = Restarted(10)
    with pytest.raises(StorageError, match="what was measured is kept"):
        patience.patiently(place_of("postgresql://me@host/db"), call, wait_s=0.0)

    assert (call.calls, slept) == (1, [])


def test_a_journal_is_not_waited_for(slept: list[float], tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError):
        patience.patiently(journal_location(tmp_path / "study.log"), Restarted(1))

    assert slept == []


class Counter:
    """Something on a study, one call of which never reaches the storage."""

    def __init__(self, location: StudyLocation) -> None:
        self.location: StudyLocation | None = location
        self.patient = True
        self.calls = 0

    @patience.guarded
    def count(self) -> None:
        self.calls += 1
        raise ConnectionError("gone")


def test_what_follows_a_lost_storage_is_tried_once(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WAIT_S", 1.0)
    counter = Counter(place_of("postgresql://me@host/db"))
    clock = iter(range(100))
    monkeypatch.setattr(patience.time, "monotonic", lambda: next(clock) / 10)
    for _ in range(2):
        with pytest.raises(StorageError):
            counter.count()

    assert counter.calls == len(slept) + 2
    assert slept != []
