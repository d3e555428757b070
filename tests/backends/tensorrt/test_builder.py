"""Engines are really built, kept, refused, timed out and crashed, each with words that say what to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from autoprec.backends.child_process import ChildProcess
from autoprec.backends.tensorrt import builder as module
from autoprec.backends.tensorrt.builder import EngineBuilder, warnings_of
from autoprec.backends.tensorrt.cuda import Device
from autoprec.backends.tensorrt.records import BuildOptions
from autoprec.backends.tensorrt.request import LogLine
from autoprec.errors import BackendError, OutOfTimeError, RunDirectoryError

from ...helpers.tensorrt import fake_builder
from ...helpers.tensorrt.fake_builder import command, make
from ...helpers.tensorrt.fake_cuda import DeviceOnly
from ...helpers.tensorrt.precision_models import (
    chain,
    conv_relu,
)

GPU = "NVIDIA H200 (compute capability 9.0)"


@pytest.fixture(name="fake")
def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a builder of a fake TensorRT."""

    def make_builder(version: str = "8.6.0", quirk: str = "", **arguments: Any) -> EngineBuilder:
        monkeypatch.setitem(sys.modules, "tensorrt", make(version))
        process = ChildProcess(arguments.pop("command", command(version, quirk)))
        arguments = {"hardware": GPU, "process": process} | arguments
        return EngineBuilder("tensorrt", tmp_path, arguments.pop("options", BuildOptions()), **arguments)

    return make_builder


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


def test_precisions_reach_tensorrt_8(fake: Any) -> None:
    made = fake().build(chain(("r1", "fp16"), ("r2", "fp32")))
    told = json.loads(made.path.read_bytes())

    assert told["flags"] == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    assert [layer["precision"] for layer in told["layers"]] == ["HALF", "FLOAT"]
    assert [layer.name for layer in made.layers] == ["r1", "r2"]
    assert (made.activation_bytes, made.hardware, made.version) == (4096, GPU, "8.6.0")


@pytest.mark.parametrize(
    ("quirk", "words"), [("not obeyed", "they were only preferred"), ("not bound", "chose between its float types")]
)
def test_precisions_that_were_not_obeyed_are_the_first_warning(fake: Any, quirk: str, words: str) -> None:
    made = fake(quirk=quirk).build(chain(("r1", "fp16"), ("r2", "fp32")))

    assert words in made.warnings[0]
    assert fake().build(chain(("r1", "fp16"))).warnings == ()


def test_the_gpu_of_this_machine_is_what_is_built_for(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(name="NVIDIA H200", capability="9.0", memory_bytes=1 << 37, driver_cuda="12.4", runtime_cuda="12.4")
    monkeypatch.setattr(module, "load_cuda", lambda: DeviceOnly(device))

    assert fake(hardware=None).hardware == GPU


def test_a_build_that_the_run_has_no_time_for_is_no_refusal_of_the_model(fake: Any) -> None:
    with pytest.raises(OutOfTimeError, match="goes on from what is known"):
        fake(left_s=lambda: 0.0).build(conv_relu())
    with pytest.raises(OutOfTimeError, match="the time limit ended"):
        fake(left_s=lambda: 0.2, command=python("import time; time.sleep(60)")).build(conv_relu())


def test_an_engine_is_reused(fake: Any) -> None:
    first = fake().build(conv_relu())
    again = fake(command=python("raise SystemExit('must not run')")).build(conv_relu())

    assert (first.reused, again.reused) == (False, True)
    assert (again.path, again.build_s, again.layers) == (first.path, first.build_s, first.layers)
    assert not fake(hardware="another GPU").build(conv_relu()).reused
    assert not fake("8.6.1").build(conv_relu()).reused
    assert not fake().build(chain(("r", ""))).reused


def test_an_engine_is_built_anew_where_that_is_asked_for(fake: Any) -> None:
    first, second = (fake().build(conv_relu(), anew=True) for _ in range(2))

    assert not second.reused
    assert second.path == first.path


def test_a_damaged_engine_is_built_again(fake: Any) -> None:
    first = fake().build(conv_relu())
    first.path.write_bytes(b"half")

    again = fake().build(conv_relu())
    assert not again.reused
    assert again.path.stat().st_size == first.engine_bytes


def test_the_disk_is_bounded(fake: Any, tmp_path: Path) -> None:
    builder = fake(limit_bytes=1)
    first, second = builder.build(conv_relu()), builder.build(chain(("r", "")))

    assert not first.path.exists()
    assert second.path.exists()
    assert {path.suffix for path in tmp_path.iterdir()} == {".engine", ".txt", ".json", ".timings"}


def test_kernel_timings_are_kept_for_each_gpu_and_version(fake: Any, tmp_path: Path) -> None:
    warm = [
        fake(version, hardware=hardware).build(chain((name, ""))).warm_timing_cache
        for version, hardware, name in (
            ("8.6.0", GPU, "a"),
            ("8.6.0", GPU, "b"),
            ("8.6.0", "NVIDIA A10 (compute capability 8.6)", "a"),
            ("8.6.1", GPU, "a"),
        )
    ]

    assert warm == [False, True, False, False]
    assert sorted(path.name for path in tmp_path.glob("*.timings")) == [
        "8.6.0-NVIDIA-A10-compute-capability-8.6.timings",
        "8.6.0-NVIDIA-H200-compute-capability-9.0.timings",
        "8.6.1-NVIDIA-H200-compute-capability-9.0.timings",
    ]


def test_kernel_timings_can_be_left_alone(fake: Any, tmp_path: Path) -> None:
    fake(options=BuildOptions(timing_cache=False)).build(conv_relu())

    assert list(tmp_path.glob("*.timings")) == []


def test_warnings_come_once_and_on_one_line(fake: Any) -> None:
    assert fake(quirk="warn").build(conv_relu()).warnings == ("Weights are subnormal in FP16",)


def test_too_many_warnings_are_counted() -> None:
    found = warnings_of([LogLine("warning", f"w{n}") for n in range(130)] + [LogLine("error", "e")])

    assert (len(found), found[0], found[-1]) == (101, "w0", "and 30 more warnings")


@pytest.mark.parametrize(
    ("quirk", "words"),
    [
        ("no driver", "the NVIDIA driver is missing or too old .* install a newer one"),
        ("no engine", "the GPU has too little free memory to build this; free some"),
        ("exit", "ended with exit code 3 while it built: the library libcudnn_ops_infer.so.8 is missing; install it"),
    ],
)
def test_failures_of_the_machine_say_what_to_do(fake: Any, quirk: str, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        fake(quirk=quirk).build(conv_relu())


def test_after_a_failure_the_next_plan_builds(fake: Any) -> None:
    with pytest.raises(BackendError):
        fake(quirk="no engine").build(conv_relu())

    assert fake().build(conv_relu()).engine_bytes > 0


def test_a_crash_costs_the_build_and_not_this_process(fake: Any) -> None:
    crash = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
        "sys.stderr.write('Assertion odd failed\\n'); sys.stderr.flush(); os.abort()"
    )
    with pytest.raises(
        BackendError, match=r"TensorRT 8\.6\.0 crashed \(signal 6, SIGABRT\).* last words: Assertion odd failed"
    ):
        fake(command=python(crash)).build(conv_relu())


def test_a_child_that_says_nothing_and_does_nothing_is_a_failure(fake: Any) -> None:
    with pytest.raises(BackendError, match="ended with exit code 0 while it built"):
        fake(command=python("pass")).build(conv_relu())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (BuildOptions(optimization_level=6), "optimization level must be 0 to 5, found 6"),
        (BuildOptions(workspace_mib=0), "workspace must be 1 MiB or more, found 0"),
        (BuildOptions(time_limit_s=0), "time limit of a build must be more than 0 s, found 0"),
        (BuildOptions(targets=("sm89",)), "builds for the GPU of this machine only, not for 'sm89'"),
    ],
)
def test_options_that_no_build_can_meet_are_refused(fake: Any, options: BuildOptions, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        fake(options=options)


def test_a_folder_that_cannot_be_made_is_named(fake: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    builder = fake()
    builder.folder = tmp_path / "file" / "engines"

    with pytest.raises(RunDirectoryError, match=r"cannot write .*engines: .*; choose a writable folder"):
        builder.build(conv_relu())


# --- processes that must not be left behind --------------------------------------------------------------

SLEEP = ("sh", "-c", "sleep 300 & echo $! $$ > {pids}; wait")


def sleeper(pids: Path) -> tuple[str, ...]:
    return (*SLEEP[:2], SLEEP[2].format(pids=pids))


def wait_for(pids: Path) -> list[int]:
    for _ in range(600):
        if pids.exists() and len(found := pids.read_text().split()) == 2:
            return [int(pid) for pid in found]
        time.sleep(0.05)
    raise AssertionError("the child never started")


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie, which waits only for its parent's notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(*pids: int) -> bool:
    for _ in range(100):
        if not any(map(is_running, pids)):
            return True
        time.sleep(0.05)
    return False


def test_the_time_limit_ends_the_child_and_what_it_started(fake: Any, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    with pytest.raises(BackendError, match="within 2 s and was stopped"):
        fake(command=sleeper(pids), options=BuildOptions(time_limit_s=2)).build(conv_relu())
    assert gone(*wait_for(pids))


PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import fake_builder, precision_models
sys.modules["tensorrt"] = fake_builder.make("8.6.0")
from autoprec.backends.tensorrt.builder import EngineBuilder
from autoprec.backends.child_process import ChildProcess
from autoprec.backends.tensorrt.records import BuildOptions
process = ChildProcess({command!r})
builder = EngineBuilder("tensorrt", Path({store!r}), BuildOptions(), hardware="GPU", process=process)
try:
    builder.build(precision_models.conv_relu())
except KeyboardInterrupt:
    sys.exit(42)
"""


def test_an_interrupt_ends_the_child_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = PARENT.format(
        folder=str(Path(fake_builder.__file__).parent), store=str(tmp_path / "s"), command=sleeper(pids)
    )
    # Not ignored, as it is where a shell starts the tests in the background.
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{code}"]
    )
    try:
        children = wait_for(pids)
        parent.send_signal(signal.SIGINT)
        assert parent.wait(30) == 42
    finally:
        parent.kill()
        parent.wait()

    assert gone(*children)
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's notice of a parent's death is Linux's")
def test_a_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """Nobody is left to end it then."""
    pid = tmp_path / "pid"
    nested = (
        "import os, pathlib, time; from autoprec.backends.child_process import die_with_parent; die_with_parent();"
        f"pathlib.Path({str(pid)!r}).write_text(f'{{os.getpid()}} {{os.getppid()}}'); time.sleep(300)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {nested!r}])"]
    )
    try:
        child, parent_pid = wait_for(pid)
        assert parent_pid == parent.pid
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()

    assert gone(child)
