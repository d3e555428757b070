"""The bindings are found for the Python and processor at hand, or the reason why not is said in words."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from . import bindings_wheels
from .bindings_wheels import RELEASES, Unavailable, find_wheel, newest_wheel

LINUX = "manylinux_2_28"
SOME = replace(RELEASES["10.x"], pythons=(0, 99))
WHEELS = [
    *(f"tensorrt_bindings-8.6.1-cp3{minor}-none-manylinux_2_17_x86_64.whl" for minor in (10, 11)),
    *(f"tensorrt_cu12_bindings-10.16.1.11-cp3{minor}-none-{LINUX}_x86_64.whl" for minor in (10, 11, 12, 13)),
    *(f"tensorrt_cu12_bindings-10.9.0.34-cp3{minor}-none-{LINUX}_x86_64.whl" for minor in (10, 11, 12, 13)),
    f"tensorrt_cu13_bindings-10.13.3.9.post1-cp312-none-{LINUX}_x86_64.whl",
    *(f"tensorrt_cu13_bindings-11.4.0.106-cp3{minor}-none-{LINUX}_x86_64.whl" for minor in (10, 11, 12, 13, 14)),
    "tensorrt_cu13_bindings-11.4.0.106-cp312-none-manylinux_2_35_aarch64.whl",
    f"tensorrt_rtx_cu13_bindings-1.7.1.116-cp312-none-{LINUX}_x86_64.whl",
    "tensorrt_cu13_bindings-11.4.0.106-cp312-none-win_amd64.whl",
    f"tensorrt_cu13_libs-11.4.0.106-py3-none-{LINUX}_x86_64.whl",
]


class TestChoice:
    @pytest.mark.parametrize("minor", [10, 11, 12, 13])
    @pytest.mark.parametrize(("major", "version"), [(8, "8.6.1"), (10, "10.16.1.11"), (11, "11.4.0.106")])
    def test_the_newest_wheel_with_the_tag_of_the_interpreter_is_chosen(
        self, major: int, version: str, minor: int
    ) -> None:
        found = newest_wheel(map(Path, WHEELS), major, minor, "x86_64")
        if major == 8 and minor > 11:
            assert found is None, "TensorRT 8.6 was never built for Python 3.12"
        else:
            assert found is not None
            assert f"_bindings-{version}-cp3{minor}-none-" in found.name
            assert found.name.endswith("_x86_64.whl")

    def test_a_later_build_of_the_same_version_is_recognised(self) -> None:
        found = newest_wheel([Path(WHEELS[10])], 10, 12, "x86_64")
        assert found == Path("tensorrt_cu13_bindings-10.13.3.9.post1-cp312-none-manylinux_2_28_x86_64.whl")

    def test_the_processor_counts(self) -> None:
        found = newest_wheel(map(Path, WHEELS), 11, 12, "aarch64")
        assert found == Path("tensorrt_cu13_bindings-11.4.0.106-cp312-none-manylinux_2_35_aarch64.whl")
        assert newest_wheel(map(Path, WHEELS), 10, 12, "aarch64") is None


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, on a machine that releases have wheels for; returns the folder of wheels in it."""
    monkeypatch.delenv("AUTOPREC_TENSORRT_WHEELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return tmp_path / "autoprec-tests"


def named(version: str) -> str:
    return f"tensorrt_cu12_bindings-{version}-cp3{sys.version_info.minor}-none-{LINUX}_x86_64.whl"


class TestSearch:
    def test_a_folder_that_is_given_is_searched_and_nothing_else(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was started"))
        monkeypatch.setenv("AUTOPREC_TENSORRT_WHEELS", str(tmp_path))
        with pytest.raises(
            Unavailable, match=rf"{tmp_path} has no bindings of TensorRT 10 for Python 3\.\d+ on x86_64"
        ):
            find_wheel(SOME)
        (tmp_path / named("10.99.0")).touch()
        assert find_wheel(SOME) == tmp_path / named("10.99.0")

    def test_a_cached_wheel_is_not_downloaded_again(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was started"))
        here.mkdir()
        (here / named("10.16.1.11")).touch()
        assert find_wheel(SOME) == here / named("10.16.1.11")

    def test_a_download_enters_the_cache_and_leaves_nothing_else(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            (Path(command[command.index("--dest") + 1]) / named("10.16.1.11")).write_text("a wheel")
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(subprocess, "run", download)
        assert find_wheel(SOME).read_text() == "a wheel"
        assert [path.name for path in here.iterdir()] == [named("10.16.1.11")]

    def test_an_index_that_is_not_reachable_is_said(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the real pip, whose words change between versions."""
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the port of a service that nobody runs
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        monkeypatch.setenv("PIP_FIND_LINKS", "")
        with pytest.raises(Unavailable, match="the package index is not reachable, so tensorrt-cu12-bindings=="):
            find_wheel(SOME)
        assert list(here.iterdir()) == []

    def test_an_index_without_the_wheel_is_told_from_one_that_is_not_reachable(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(Unavailable, match=r"pip cannot download tensorrt-cu12-bindings==\S+: ERROR: No matching"):
            find_wheel(SOME)

    def test_a_slow_index_is_given_up(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def hang(command: list[str], *, timeout: float, **_: object) -> None:
            raise subprocess.TimeoutExpired(command, timeout)

        monkeypatch.setattr(subprocess, "run", hang)
        with pytest.raises(Unavailable, match=r"did not hand over tensorrt-cu12-bindings==\S+ within \d+ s"):
            find_wheel(SOME)

    def test_an_environment_without_pip_is_said(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bindings_wheels, "find_spec", lambda _: None)
        with pytest.raises(Unavailable, match=r"is not cached and .* has no pip: python -m ensurepip"):
            find_wheel(SOME)

    def test_a_python_without_wheels_is_said_before_the_index_is_asked(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was started"))
        with pytest.raises(Unavailable, match=r"tensorrt-cu12-bindings==\S+ has no wheel for Python 3\.\d+ on x86_64"):
            find_wheel(replace(SOME, pythons=(6, 9)))

    def test_another_processor_is_said(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
        with pytest.raises(Unavailable, match="stand-in libraries are for Linux on x86_64 or aarch64, not riscv64"):
            find_wheel(SOME)

    def test_a_cache_that_cannot_be_written_is_said(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(Unavailable, match=r"no folder for wheels .*: set XDG_CACHE_HOME to a writable one"):
            find_wheel(SOME)


def test_releases_are_named_by_their_first_numbers() -> None:
    for name, release in RELEASES.items():
        version = release.requirement.partition("==")[2]
        assert version.startswith(name.replace("x", ""))
        assert version.startswith(f"{release.major}.")
