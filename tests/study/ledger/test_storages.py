"""Where a study is kept, and that nobody is told the password."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from autoprec.errors import RunDirectoryError, StorageError, UsageError
from autoprec.study.ledger.storages import (
    carry,
    has_study,
    journal_location,
    lost,
    open_storage,
    opened_study,
    place_of,
    same,
)

SECRET = "p@ss/w:rd"
QUOTED = "p%40ss%2Fw%3Ard"


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("text", "kind", "public"),
    [
        ("postgresql://me@host/db", "database", "postgresql+psycopg://me@host/db"),
        ("postgres://me@host:1234/db", "database", "postgresql+psycopg://me@host:1234/db"),
        ("postgresql+psycopg2://me@host/db", "database", "postgresql+psycopg2://me@host/db"),
        ("mysql+pymysql://me@host/db", "database", "mysql+pymysql://me@host/db"),
        ("sqlite:////tmp/study.db", "database", "sqlite:////tmp/study.db"),
        ("grpc://host:13000", "grpc", "grpc://host:13000"),
        ("/shared/study.log", "journal", "/shared/study.log"),
    ],
)
def test_what_a_url_or_path_names(text: str, kind: str, public: str) -> None:
    place = place_of(text)

    assert (place.kind, place.public) == (kind, public)


@pytest.mark.parametrize("text", [f"postgresql://me:{QUOTED}@host/db", f"postgresql://me@host/db?password={QUOTED}"])
def test_a_password_is_in_nothing_that_is_stored_or_shown(text: str) -> None:
    place = place_of(text)

    assert place.public == "postgresql+psycopg://me@host/db"
    assert not any(form in repr(place) for form in (SECRET, QUOTED))
    assert place.clean(f"no {SECRET} or {QUOTED}\n here") == "no *** or *** here"


@pytest.mark.parametrize("text", ["postgresql://me:geheim@host:port/db", "://me:geheim@host/db"])
def test_a_url_that_cannot_be_read_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match=r"--storage must be a path, postgresql://.*, or grpc://HOST:PORT") as caught:
        place_of(text)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("text", ["grpc://host", "grpc://me@host:1", "grpc://host:1/name"])
def test_a_proxy_is_a_host_and_a_port(text: str) -> None:
    with pytest.raises(UsageError, match="must be grpc://HOST:PORT"):
        place_of(text)


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; name a file in it"):
        place_of(str(tmp_path))


def test_a_database_that_does_not_answer_is_an_error_without_the_password() -> None:
    pytest.importorskip("psycopg")
    place = place_of(f"postgresql://me:{QUOTED}@127.0.0.1:{closed_port()}/db")

    with pytest.raises(StorageError, match=r"cannot open the study's storage .*refused; see that it can be") as caught:
        open_storage(place)
    assert not any(form in str(caught.value) for form in (SECRET, QUOTED))


def test_a_proxy_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc")
    monkeypatch.setattr("autoprec.study.ledger.storages._CONNECT_S", 0.2)

    with pytest.raises(StorageError, match=r"no gRPC proxy answers at grpc://127.0.0.1:\d+ within 0.2 s; start one"):
        open_storage(place_of(f"grpc://127.0.0.1:{closed_port()}"))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StorageError, match=r"needs psycopg, which is not installed; pip install 'autoprec\[postgresql"):
        open_storage(place_of("postgresql://nobody@host/db"))
    with pytest.raises(StorageError, match="there is no library for nosuch:// here"):
        open_storage(place_of("nosuch://nobody@host/db"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StorageError, match=r"needs grpcio, which is not installed; pip install 'autoprec\[grpc\]'"):
        open_storage(place_of("grpc://host:1"))


def test_a_study_that_is_not_there_can_be_made_and_not_joined(tmp_path: Path) -> None:
    place = journal_location(tmp_path / "log")

    with pytest.raises(RunDirectoryError, match="does not have the study of this run; give the --storage"):
        opened_study(place, "run", join=True)
    opened_study(place, "run")
    assert opened_study(place, "run", join=True).study_name == "run"


def test_a_study_is_carried_with_its_numbers(tmp_path: Path) -> None:
    """From a journal to a database and back, what was running as a failed trial."""
    source, target = journal_location(tmp_path / "log"), place_of(f"sqlite:///{tmp_path / 'study.db'}")
    study = opened_study(source, "run")
    study.ask()
    done = study.ask()
    done.set_user_attr("says", "something")
    study.tell(done, 0.5)
    study.enqueue_trial({})
    assert not has_study(target, "run")

    carry(source, target, "run")
    carry(source, target, "run")  # once more is no more
    assert has_study(target, "run")
    copies = opened_study(target, "run", join=True).trials

    assert [copy.state for copy in copies] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL]
    assert (copies[1].value, copies[1].user_attrs) == (0.5, {"says": "something"})


def test_a_study_is_not_carried_onto_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here, there = journal_location(Path("log")), place_of("./log")
    study = opened_study(here, "run")
    trial = study.ask()
    carry(here, there, "run")

    assert same(here, there)
    assert opened_study(here, "run", join=True).trials[trial.number].state is TrialState.RUNNING


def test_a_line_that_was_not_finished_is_spoken_of(tmp_path: Path) -> None:
    """Of a process that was killed while it wrote; another one has written since."""
    place = journal_location(tmp_path / "log")
    study = opened_study(place, "run")
    with (tmp_path / "log").open("a") as log:
        log.write('{"op_code"\n{"op_code": 3}\n')

    with pytest.raises(RunDirectoryError, match="has a line that a killed process did not finish"), lost(place):
        study.get_trials()


def test_a_database_of_something_else_is_no_place_for_a_study(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE studies (customer TEXT)")
        database.commit()
    before = path.read_bytes()

    with pytest.raises(RunDirectoryError, match=r"holds other tables \(studies\); choose another file"):
        open_storage(place_of(f"sqlite:///{path}"))
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_no_place_for_a_study(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights of a network" * 100)

    with pytest.raises(RunDirectoryError, match="not a SQLite database"):
        open_storage(place_of(f"sqlite:///{path}"))
    (tmp_path / "link.db").symlink_to(tmp_path / "new.db")
    with pytest.raises(RunDirectoryError, match="is a link"):
        open_storage(place_of(f"sqlite:///{tmp_path / 'link.db'}"))


def test_a_study_goes_on_in_its_own_database(tmp_path: Path) -> None:
    location = place_of(f"sqlite:///{tmp_path / 'study.db'}")
    opened_study(location, "mine")

    assert has_study(location, "mine")
