"""What each version of NVIDIA's bindings is, and what is said where it is missing or unknown."""

from __future__ import annotations

import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from autoprec.backends.tensorrt.bindings import describe_module, find_bindings
from autoprec.errors import BackendError


def module(version: str, **members: Any) -> Any:
    made: Any = ModuleType("tensorrt")
    made.__version__ = version
    made.Builder = object
    for name, value in members.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("name", "text", "flavour", "version"),
    [
        ("tensorrt", "8.6.0", "weak", (8, 6, 0)),
        ("tensorrt", "8.6.1.post1", "weak", (8, 6, 1, 1)),
        ("tensorrt", "10.0.0b6", "strong", (10, 0, 0, 6)),
        ("tensorrt", "11.4.0.106", "strong", (11, 4, 0, 106)),
        ("tensorrt_rtx", "1.7.1.116", "rtx", (1, 7, 1, 116)),
    ],
)
def test_the_version_decides_the_flavour(name: str, text: str, flavour: str, version: tuple[int, ...]) -> None:
    found = describe_module(module(text), name)

    assert (found.flavour, found.version) == (flavour, version)


@pytest.mark.parametrize("text", ["8.5.3.1", "9.3.0", "7.2"])
def test_versions_between_are_refused_with_what_to_install(text: str) -> None:
    with pytest.raises(BackendError, match=r"knows 8\.6 and 10\.0 and newer; version .* pip install 'autoprec\[ten"):
        describe_module(module(text), "tensorrt")


def test_a_module_that_is_not_nvidias_is_refused() -> None:
    with pytest.raises(BackendError, match=r"must be NVIDIA's; the one found in .* is not"):
        describe_module(ModuleType("tensorrt"), "tensorrt")


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(BackendError, match="must be one of tensorrt, tensorrt_rtx, found 'onnx'"):
        find_bindings("onnx")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tensorrt", r"TensorRT is not installed; run: pip install 'autoprec\[tensorrt\]'"),
        ("tensorrt_rtx", r"TensorRT-RTX is not installed; run: pip install 'autoprec\[rtx\]'"),
    ],
)
def test_a_missing_runtime_comes_with_its_command(monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if "editable" not in repr(finder)])

    with pytest.raises(BackendError, match=words):
        find_bindings(name)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ImportError('libnvinfer.so.8: cannot open shared object file')", r"does not load: libnvinfer\.so\.8"),
        ("import tensorrt_of_nobody", r"lacks its part tensorrt_of_nobody"),
    ],
)
def test_a_runtime_that_does_not_load_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    (tmp_path / "tensorrt.py").write_text(body)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(BackendError, match=words):
        find_bindings("tensorrt")


@pytest.mark.parametrize(
    ("text", "members", "expected"),
    [
        ("8.6.0", [("EXPLICIT_BATCH", 0), ("EXPLICIT_PRECISION", 1)], 1),
        ("10.16.0", [("EXPLICIT_BATCH", 0), ("STRONGLY_TYPED", 1)], 2),
        ("11.4.0", [("STRONGLY_TYPED", 0)], 1),
        ("12.0.0", [("SOMETHING_ELSE", 0)], 0),
    ],
)
def test_network_flags_follow_the_names_and_not_the_ordinals(
    text: str, members: list[tuple[str, int]], expected: int
) -> None:
    flags = IntEnum("NetworkDefinitionCreationFlag", members)  # type: ignore[misc]

    assert describe_module(module(text, NetworkDefinitionCreationFlag=flags), "tensorrt").network_flags() == expected


def test_a_member_may_be_absent_and_a_required_one_not() -> None:
    found = describe_module(module("11.0.0", BuilderFlag=IntEnum("BuilderFlag", "TF32")), "tensorrt")

    assert found.member("BuilderFlag", "FP16") is None
    assert found.member("NoEnum", "FP16") is None
    with pytest.raises(BackendError, match=r"TensorRT 11\.0\.0 must have BuilderFlag\.FP16 and lacks it"):
        found.require("BuilderFlag", "FP16")


def test_targets_are_in_order_and_others_are_refused() -> None:
    capabilities = IntEnum("ComputeCapability", "NONE CURRENT SM120 SM89 SM80")
    found = describe_module(module("1.4.0", ComputeCapability=capabilities), "tensorrt_rtx")

    assert found.targets() == ("sm80", "sm89", "sm120")
    assert found.target("sm89") is capabilities.SM89
    with pytest.raises(BackendError, match="builds ahead of time for sm80, sm89, sm120, not for 'sm90'"):
        found.target("sm90")


def test_without_targets_the_runtime_that_has_them_is_named() -> None:
    with pytest.raises(BackendError, match=r"for the GPU of this machine only.*TensorRT-RTX \(pip install"):
        describe_module(module("10.9.0"), "tensorrt").target("sm89")


def test_the_real_rtx_bindings_are_found() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx: pip install tensorrt-rtx")
    found = find_bindings("tensorrt_rtx")

    assert found.flavour == "rtx"
    assert {"sm80", "sm89", "sm120"} <= set(found.targets())
    assert found.network_flags() == 1 << int(found.require("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"))
