"""Where a study is kept: a journal file, a database, or a gRPC proxy of one; passwords are neither stored nor shown."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, quote_plus

import optuna
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from autoprec.errors import AutoprecError, RunDirectoryError, StorageError, UsageError
from autoprec.files.forms import refuse_foreign_database, refuse_foreign_journal

_CONNECT_S = 10
_DEAD_LOCK_S = 10
"""A journal that was locked for so long while nothing was written was locked by a process that was killed."""
_FORMS = "a path, postgresql://USER@HOST/NAME or another database's URL, or grpc://HOST:PORT"
_DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}


@dataclass(frozen=True, slots=True)
class StudyLocation:
    """Where a study is kept.

    Attributes:
        kind: the kind of storage.
        public: the path or URL without any password, which may be stored and shown.
        opened: what Optuna is given, which may hold a password.
        secrets: the passwords, which are taken out of messages of other libraries.
    """

    kind: Literal["journal", "database", "grpc"]
    public: str
    opened: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def clean(self, message: object) -> str:
        """A message without the passwords, on one line."""
        text = " ".join(str(message).split())
        for secret in sorted(self.secrets, key=len, reverse=True):
            for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
                text = text.replace(form, "***")
        return text


def journal_location(path: Path) -> StudyLocation:
    """The location of a study in a journal file."""
    return StudyLocation("journal", str(path), os.path.abspath(path))


def place_of(text: str) -> StudyLocation:
    """The location that the user gives by --storage.

    Raises:
        UsageError: it is no path and no URL that can be read.
    """
    text = text.strip()
    if not text:
        raise UsageError(f"--storage must be {_FORMS}, got nothing; leave it out for the run directory's own file")
    if "://" not in text:
        if Path(text).is_dir():
            raise UsageError(f"--storage must be {_FORMS}, but {text} is a folder; name a file in it")
        return journal_location(Path(os.path.abspath(text)))
    try:
        url = make_url(text)
        port = url.port
    except (SQLAlchemyError, ValueError) as error:  # its message may repeat the URL with the password
        raise UsageError(f"--storage must be {_FORMS}; the URL given cannot be read") from error
    secret = {key: value for key, value in url.query.items() if "pass" in key.lower()}
    hidden = [str(v) for value in secret.values() for v in ((value,) if isinstance(value, str) else value)]
    secrets = tuple(s for s in (*hidden, str(url.password or "")) if s)
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    public = _without_password(url, secret).render_as_string(hide_password=False)
    if url.drivername == "grpc":
        if not url.host or not port or url.database or url.username:
            raise UsageError(f"--storage must be grpc://HOST:PORT for a gRPC proxy, got {public}")
        return StudyLocation("grpc", public, text)
    return StudyLocation("database", public, url.render_as_string(hide_password=False), secrets)


def open_storage(location: StudyLocation) -> BaseStorage:
    """Connect to a study's storage.

    Raises:
        StorageError: a library is missing, or nothing answers there.
        RunDirectoryError: the journal is a link, or a file that is no journal.
        OSError: a journal file cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if location.kind == "journal":
        path = Path(location.opened)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Absolute: Optuna's lock is a link to the file, and one that leads nowhere is never taken from a dead process.
        path = Path(os.path.abspath(path))
        refuse_foreign_journal(path)
        return JournalStorage(JournalFileBackend(str(path), JournalFileSymlinkLock(str(path), _DEAD_LOCK_S)))
    with lost(location, "cannot open the study's storage"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental features of Optuna say so at each use
        return _connected(location)


def opened_study(
    location: StudyLocation | None, name: str, sampler: optuna.samplers.BaseSampler | None = None, *, join: bool = False
) -> optuna.Study:
    """Open a study, which is made where it does not exist, unless it is only to be joined.

    Raises:
        RunDirectoryError: a journal cannot be read or written, or there is no study to join.
        StorageError: the storage cannot be reached.
    """
    if location is None:
        return optuna.create_study(sampler=sampler, study_name=name)
    try:
        storage = open_storage(location)
        with lost(location):
            if join:
                return optuna.load_study(storage=storage, sampler=sampler, study_name=name)
            return optuna.create_study(storage=storage, sampler=sampler, study_name=name, load_if_exists=True)
    except AutoprecError:
        raise
    except OSError as error:
        raise RunDirectoryError(
            f"cannot keep the study in {location.public}: {error.strerror or error}; choose a writable folder by --out"
        ) from error
    except Exception as error:  # a damaged file makes Optuna fail in very many ways
        if join and isinstance(error, KeyError):
            raise RunDirectoryError(
                f"{location.public} does not have the study of this run; give the --storage that `autoprec tune` was "
                f"given"
            ) from error
        raise RunDirectoryError(
            f"the study {location.public} is damaged ({location.clean(repr(error))}); delete it to search again"
        ) from error


def carry(source: StudyLocation, target: StudyLocation, name: str) -> None:
    """Copy a study, if there is one, with the numbers of its trials; unfinished trials become failed ones.

    Raises:
        RunDirectoryError: a journal cannot be read or written.
        StorageError: a storage cannot be reached.
    """
    if same(source, target) or (source.kind == "journal" and not Path(source.opened).is_file()):
        return
    with lost(source):
        here, there = open_storage(source), open_storage(target)
    with lost(target), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [summary.study_name for summary in optuna.get_all_study_summaries(here, include_best_trial=False)]
        if name not in names:
            return
        records = optuna.load_study(study_name=name, storage=here).get_trials(deepcopy=False)
        with contextlib.suppress(KeyError):
            optuna.delete_study(study_name=name, storage=there)
        copy = optuna.create_study(study_name=name, storage=there)
        for record in records:  # Optuna copies no trial without a start time, such as one given up early
            copy.add_trial(record if record.state.is_finished() and record.datetime_start else _failed(record))


def same(one: StudyLocation, other: StudyLocation) -> bool:
    """Whether two locations are the same."""
    return (one.kind, one.opened) == (other.kind, other.opened)


def has_study(location: StudyLocation, name: str) -> bool:
    """Whether there is a study of that name.

    Raises:
        StorageError: the storage cannot be reached.
    """
    with lost(location):
        try:
            open_storage(location).get_study_id_from_name(name)
        except KeyError:
            return False
        return True


def _failed(record: FrozenTrial) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.FAIL,
        params=record.params,
        distributions=record.distributions,
        user_attrs=record.user_attrs,
        system_attrs=record.system_attrs,
    )


@contextlib.contextmanager
def lost(location: StudyLocation, doing: str = "lost the study's storage") -> Iterator[None]:
    """Turn what a storage raises when it cannot be reached into an error that says what to do.

    Raises:
        StorageError: the storage failed.
        RunDirectoryError: a journal file could not be read or written.
    """
    try:
        yield
    except AutoprecError:
        raise
    except Exception as error:
        if location.kind == "journal" and (
            isinstance(error, json.JSONDecodeError) or "Invalid log format" in str(error)
        ):
            raise RunDirectoryError(
                f"the study {location.public} has a line that a killed process did not finish; when all processes have "
                f"ended, give the same `autoprec tune` again: it cuts the line off where it is the last one"
            ) from error
        if not _of_storage(error):
            raise
        if location.kind == "journal":
            text = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise RunDirectoryError(
                f"{doing} {location.public}: {text}; what was measured is kept; see that its disk can be written "
                f"and has free space, or choose another folder by --out"
            ) from error
        raise StorageError(
            f"{doing} {location.public}: {location.clean(_said(error))}; see that it can be reached from here and that "
            f"user, password and name are right, then give the same command again: what was measured is kept"
        ) from error


def _of_storage(error: BaseException) -> bool:
    kinds = (optuna.exceptions.StorageInternalError, SQLAlchemyError, OSError)
    return isinstance(error, kinds) or type(error).__module__.split(".")[0] in ("grpc", "psycopg")


def _said(error: BaseException) -> object:
    """The first line of the driver's own message, which SQLAlchemy and Optuna wrap in several of theirs."""
    while error.__cause__ is not None:
        error = error.__cause__
    if hasattr(error, "details") and callable(error.details):  # gRPC's
        return error.details() or error
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _without_password(url: URL, secret: dict[str, Any]) -> URL:
    bare = URL.create(url.drivername, url.username, None, url.host, url.port, url.database)
    return bare.set(query={key: value for key, value in url.query.items() if key not in secret})


@functools.lru_cache(maxsize=4)
def _connected(location: StudyLocation) -> BaseStorage:
    """The one connection that a process has to a location."""
    return _proxy(location) if location.kind == "grpc" else _database(location)


def _database(location: StudyLocation) -> BaseStorage:
    url, options = make_url(location.opened), dict[str, Any](pool_pre_ping=True)
    if url.get_backend_name() == "sqlite" and url.database:
        refuse_foreign_database(Path(url.database))
    if url.drivername.startswith("postgresql"):
        options["connect_args"] = {"connect_timeout": _CONNECT_S}
    try:
        storage = RDBStorage(location.opened, engine_kwargs=options)
    except (ImportError, NoSuchModuleError) as error:
        raise StorageError(_missing(url.drivername)) from error
    except RuntimeError as error:  # of another version of Optuna
        raise StorageError(f"the study's storage {location.public} cannot be used: {location.clean(error)}") from error
    weakref.finalize(storage, storage.engine.dispose)  # or its connections stay open until they are collected
    return storage


def _missing(driver: str) -> str:
    if driver == "postgresql+psycopg":
        return "a study in PostgreSQL needs psycopg, which is not installed; pip install 'autoprec[postgresql]'"
    return (
        f"there is no library for {driver}:// here; install the database driver that SQLAlchemy asks for, or use "
        f"postgresql://, grpc:// or a path"
    )


def _proxy(location: StudyLocation) -> BaseStorage:
    if importlib.util.find_spec("grpc") is None:
        raise StorageError("a gRPC proxy needs grpcio, which is not installed; pip install 'autoprec[grpc]'")
    url = make_url(location.opened)
    proxy = GrpcStorageProxy(host=str(url.host), port=int(url.port or 0))
    try:
        proxy.wait_server_ready(timeout=_CONNECT_S)
    except ConnectionError as error:
        raise StorageError(
            f"no gRPC proxy answers at {location.public} within {_CONNECT_S} s; start one there (see "
            f"`autoprec worker --help`), or check host and port"
        ) from error
    return proxy
