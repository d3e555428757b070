"""autoprec worker: join the search of a run directory from another process or host."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.options import place_options, trust_option
from autoprec.cli.screen import Screen, print_json
from autoprec.errors import SearchOverError

if TYPE_CHECKING:
    from autoprec.backends.protocol import Backend
    from autoprec.workers.worker import Worked


@click.command("worker")
@click.argument("run")
@click.option("--model", metavar="FILE", help="Where the model is here.  [default: where the run found it]")
@click.option("--calib", metavar="DATA", help="Likewise the calibration data.")
@click.option("--eval", "evaluate", metavar="DATA", help="Likewise the data to judge plans by.")
@click.option("--metric", metavar="NAME", help="The run's metric, where it is a module:function of yours.")
@trust_option
@place_options
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the search to begin; where it is given, for RUN to be there too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--with-parent", is_flag=True, hidden=True, help="End when standard input does.")
@click.option("--get-ready", metavar="BACKEND", hidden=True, help="Load this backend while the run is not that far.")
def command(
    run: str,
    *,
    model: str | None,
    calib: str | None,
    evaluate: str | None,
    metric: str | None,
    trust: tuple[str, ...],
    storage: str | None,
    device: int | None,
    cores: str | None,
    wait_s: float,
    as_json: bool,
    quiet: bool,
    with_parent: bool,
    get_ready: str | None,
) -> None:
    """Measure plans for the search of RUN, a run directory in which `autoprec tune` is at work, until it is over.

    RUN must be on a disk that both can reach, or a copy of it made after the search began. Everything comes from there:
    settings, model, data, ranges. Functions, databases and far paths that it names are followed only with --trust RUN,
    or are given by their options. Each plan is measured by one process; what a killed one had begun is measured by the
    next. The machine must be of the same kind as the run's, since latencies are compared.

    Over a network that has no common disk, or from many hosts, keep the study in a database
    (`--storage postgresql://USER@HOST/NAME` for both commands; the password comes from --storage, AUTOPREC_STORAGE,
    PGPASSWORD or ~/.pgpass, and is stored nowhere). Where workers cannot reach the database, or there are hundreds of
    them, run Optuna's proxy beside it and give --storage grpc://HOST:13000 to both commands:

    \b
    python -c "import optuna.storages as s; s.run_grpc_proxy_server(
        s.get_storage('postgresql+psycopg://USER@HOST/NAME'), host='0.0.0.0', port=13000)"

    Exit codes: 0 the search is over, 2 it cannot be joined, 130 stopped.
    """  # noqa: D301 - click wants the character, which keeps it from joining lines
    from autoprec.cli.local_workers import pin

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's end of the job: leave the plan to others
    if with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    pin(device, cores)
    screen = Screen(quiet)
    places = {"model": model, "calib": calib, "eval": evaluate, "metric": metric, "storage": storage, "trust": trust}
    try:
        worked = _worked(run, places, math.inf if with_parent else _given(wait_s), screen, get_ready)
    except SearchOverError as error:
        if not with_parent:
            raise
        screen.note(f"came too late: {error}")  # a short search is no failure of the worker that the run started
        return
    finally:
        screen.close()
    if as_json:
        print_json({"run": run, "measured": worked.measured, "stopped": worked.stopped})
    else:
        click.echo(f"{worked.measured} plans measured here; the search is over: {worked.stopped}.")


def _given(wait_s: float) -> float | None:
    """The seconds to wait where the user said so, None for the default."""
    said = click.get_current_context().get_parameter_source("wait_s")
    return None if said is click.core.ParameterSource.DEFAULT else wait_s


def _worked(run: str, places: Mapping[str, Any], wait_s: float | None, screen: Screen, get_ready: str | None) -> Worked:
    """Take part in the search; `places` says where things are for this process, by the names of `work`'s options."""
    from autoprec.run.directory import RunDirectory
    from autoprec.workers.await_search import await_search

    ready = None if get_ready is None else _made_ready(get_ready)  # while the run finds ranges
    await_search(RunDirectory(Path(run)), wait_s, screen.note)  # before what takes seconds to import
    from autoprec.api import work

    return work(run, **places, ready=ready, wait_s=wait_s, progress=screen.trial, say=screen.note)


def _made_ready(name: str) -> Backend:
    """The backend, of which what takes long is begun."""
    from autoprec.backends.make import make_backend
    from autoprec.backends.slow_builds import GetsReady

    backend = make_backend(name)
    if isinstance(backend, GetsReady):
        backend.get_ready()
    return backend


def _end_with_parent() -> None:
    """The other end of the pipe closes when the run that started this worker ends, in whichever way."""
    while os.read(0, 1):  # not sys.stdin, whose lock a thread must not hold when Python ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # not SIGINT, which a shell has its background jobs ignore
