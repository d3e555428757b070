"""One process for many builds: it lives on from build to build, and never longer than it should."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from autoprec.backends.child_process import STDERR, ChildProcess
from autoprec.backends.tensorrt.builder import EngineBuilder
from autoprec.backends.tensorrt.records import BuildOptions
from autoprec.backends.tensorrt.request import CHILD as BUILDING
from autoprec.errors import BackendError

from ..helpers.tensorrt.fake_builder import command, make
from ..helpers.tensorrt.precision_models import chain, conv_relu

CHILD = """
import os, pathlib, signal, sys, time
for line in sys.stdin:
    path = pathlib.Path(line.rstrip())
    order = path.read_text()
    (path.parent / "pid").write_text(str(os.getpid()))
    if order == "die":
        sys.stderr.write("so long"); sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGTERM)
    if order == "exit":
        sys.exit(7)
    if order == "sleep":
        time.sleep(300)
    print("done", flush=True)
"""


class Orders:
    """Gives orders to a process and knows which process took each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.process = ChildProcess((sys.executable, "-S", "-c", CHILD))

    def give(self, order: str, limit_s: float = 60.0) -> int:
        self.count += 1
        place = self.folder / str(self.count)
        place.mkdir()
        (place / "request").write_text(order)
        return self.process.run(place / "request", limit_s)

    def pid(self) -> int:
        return int((self.folder / str(self.count) / "pid").read_text())


@pytest.fixture(name="orders")
def _orders(tmp_path: Path) -> Orders:
    return Orders(tmp_path)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_process_does_one_order_after_the_other(orders: Orders) -> None:
    assert orders.give("work") == 0
    first = orders.pid()
    assert orders.give("work") == 0

    assert orders.pid() == first
    assert is_running(first)


@pytest.mark.parametrize(("order", "code"), [("die", -15), ("exit", 7)])
def test_a_process_that_ended_tells_its_exit_code_and_is_replaced(orders: Orders, order: str, code: int) -> None:
    orders.give("work")
    assert orders.give(order) == code
    first = orders.pid()

    assert orders.give("work") == 0
    assert orders.pid() != first


def test_its_last_words_are_in_the_folder_of_the_first_order(orders: Orders, tmp_path: Path) -> None:
    orders.give("die")

    assert (tmp_path / "1" / STDERR).read_text() == "so long"


def test_one_that_takes_too_long_is_stopped_and_replaced(orders: Orders) -> None:
    orders.give("work")
    first = orders.pid()

    with pytest.raises(TimeoutError):
        orders.give("sleep", 0.5)
    assert not is_running(first)
    assert orders.give("work") == 0


def test_after_many_orders_it_is_replaced(orders: Orders) -> None:
    orders.process = ChildProcess((sys.executable, "-S", "-c", CHILD), most=2)
    pids = []
    for _ in range(4):
        orders.give("work")
        pids.append(orders.pid())

    assert pids[0] == pids[1]
    assert pids[2] == pids[3] != pids[0]


def test_it_ends_with_its_owner(orders: Orders) -> None:
    orders.give("work")
    pid = orders.pid()

    orders.process = None  # type: ignore[assignment]
    gc.collect()

    assert not is_running(pid)


def test_it_ends_when_it_is_closed(orders: Orders) -> None:
    orders.give("work")
    orders.process.close()

    assert not is_running(orders.pid())
    assert orders.give("work") == 0, "and starts again when it is needed"


# --- the real child, with a fake in the place of NVIDIA's module -----------------------------------------


class Counted(ChildProcess):
    """Notes which process was there after each build."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.pids: list[int] = []

    def run(self, request: Path, time_limit_s: float) -> int:
        code = super().run(request, time_limit_s)
        self.pids.append(self._process.pid if self._process is not None else 0)
        return code


def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quirk: str = "") -> tuple[EngineBuilder, Counted]:
    monkeypatch.setitem(sys.modules, "tensorrt", make("8.6.0"))
    process = Counted(command("8.6.0", quirk))
    return EngineBuilder("tensorrt", tmp_path, BuildOptions(), hardware="GPU", process=process), process


def test_messages_of_one_build_do_not_show_in_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, process = builder(tmp_path, monkeypatch, "warn once")

    first, second = made.build(conv_relu()), made.build(chain(("r", "")))

    assert process.pids[0] == process.pids[1] != 0
    assert (first.warnings, second.warnings) == (("Weights are subnormal in FP16",), ())
    assert [layer.name for layer in second.layers] == ["r"]


def test_a_build_that_failed_ends_the_process_since_errors_of_cuda_stick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, process = builder(tmp_path, monkeypatch, "no engine")
    for _ in range(2):
        with pytest.raises(BackendError, match="too little free memory"):
            made.build(conv_relu())

    assert process.pids[0] != process.pids[1]
    assert not is_running(process.pids[0])


def test_the_child_does_not_stay_in_a_folder_that_goes(tmp_path: Path) -> None:
    """Started as the command is: libraries that ask for the working folder must find one."""
    process = ChildProcess(BUILDING)
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "request.json").write_text("{}")

    assert process.run(tmp_path / "first" / "request.json", 60) == 0
    assert process._process is not None
    assert os.readlink(f"/proc/{process._process.pid}/cwd") == os.path.sep
    assert "KeyError" in (tmp_path / "first" / "result.json").read_text(), "a broken request is answered too"
    process.close()
