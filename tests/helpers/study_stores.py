"""Places to keep a study in: a journal file, a real PostgreSQL, and a gRPC proxy."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "s3cret/of:postgres"
_PROXY = """
import sys
import warnings
warnings.simplefilter("ignore")
from optuna.storages import get_storage, run_grpc_proxy_server
run_grpc_proxy_server(get_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binaries() -> Path:
    """Where initdb and pg_ctl are; Debian keeps them off the path."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'autoprec[postgresql]'")
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    found += sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL is installed here: apt-get install postgresql")
    return found[-1]


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URL, with its password, of a database of a server of its own."""
    programs, port = binaries(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="autoprec-pg-"))  # short: a socket's path has 107 characters at most
    as_user: list[str] = []
    if os.geteuid() == 0:  # it refuses to be run by root
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL refuses to be run by root, and there is no runuser to be another user")
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    (folder / "password").write_text(PASSWORD)
    os.chmod(folder / "password", 0o644)
    data, options = folder / "data", f"-F -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    secret = ["-A", "scram-sha-256", "--pwfile", str(folder / "password")]

    def do(*words: str) -> None:
        done = subprocess.run([*as_user, *words], capture_output=True, text=True, timeout=60, check=False, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        do(str(programs / "initdb"), "-D", str(data), "-U", "tuner", "-N", *secret)
        do(str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://tuner:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        finally:
            do(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def proxy(folder: Path) -> Iterator[str]:
    """The URL of a gRPC proxy of a database file."""
    pytest.importorskip("grpc", reason="grpcio is not installed: pip install 'autoprec[grpc]'")
    port = free_port()
    command = [sys.executable, "-c", _PROXY, f"sqlite:///{folder / 'study.db'}", str(port)]
    with (folder / "proxy.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _await(port, server)
            yield f"grpc://127.0.0.1:{port}"
        finally:
            server.kill()


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert server.poll() is None
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise TimeoutError("the proxy does not answer")
