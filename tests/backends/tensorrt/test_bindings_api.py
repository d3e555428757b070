"""What autoprec calls of TensorRT exists: in 8.6, in the newest 10.x and 11.x, and in TensorRT-RTX as installed.

The truth is NVIDIA's own bindings, imported without the libraries behind them. Type stubs made from them let mypy check
every attribute, call and enum member in the sources; what is looked up by name when it runs is checked by name.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import autoprec.backends.tensorrt
from autoprec.backends.tensorrt.bindings import Bindings, describe_module

from ...helpers.tensorrt.api_check import (
    Annotations,
    Unchecked,
    capitals,
    check,
    overrides,
    placeholders,
    unknown_names,
)
from ...helpers.tensorrt.bindings_wheels import RELEASES, Api, Unavailable, read_api, read_installed_rtx

FOLDER = Path(autoprec.backends.tensorrt.__file__).parent
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.py"))}
VERSIONS = (*RELEASES, "RTX")
STRONG = ("10.x", "11.x", "RTX")

CONFIG, ENGINE, LOGGER = "trt.IBuilderConfig", "trt.ICudaEngine", "trt.ILogger"
NETWORK, SEVERITY, TIMINGS = "trt.INetworkDefinition", "trt.ILogger.Severity", "trt.ITimingCache"
ANNOTATIONS: dict[str, Annotations] = {
    "asked_by_model.py": {"_graph.return": "Any", "_message.return": "Any"},  # ONNX's
    "bindings.py": {
        "Bindings.member.return": "Any",
        "Bindings.require.return": "Any",
        "Bindings.target.return": "trt.ComputeCapability",
    },
    "child.py": {
        "Loggers.of.return": LOGGER,
        "Loggers._make.return": LOGGER,
        "Loggers._make.add.severity": SEVERITY,
        "Loggers._make.Logger.log.severity": SEVERITY,
        "build.logger": LOGGER,
        "configure.config": CONFIG,
        "attempt.logger": LOGGER,
        "leave_to_builder.config": CONFIG,
        "leave_to_builder.network": NETWORK,
        "set_weak_precisions.config": CONFIG,
        "set_weak_precisions.network": NETWORK,
        "use_timing_cache.config": CONFIG,
        "use_timing_cache.return": TIMINGS,
        "save_timing_cache.config": CONFIG,
        "save_timing_cache.cache": TIMINGS,
        "inspect.logger": LOGGER,
    },
    "cuda.py": {  # CUDA's, not TensorRT's
        "CudaRuntime.__init__.api": "Any",
        "CudaRuntime._call.arguments": "Any",
        "CudaRuntime._call.return": "Any",
        "CudaRuntime._failure.error": "Any",
    },
    "debug_tensors.py": {
        "debug_listener.return": "Any",
        "debug_listener.process_debug_tensor.told": "Any",
        "address_of.pointer": "Any",
    },
    "engine.py": {"TensorRtEngine.__init__.listener": "Any"},  # TensorRT 8.6 has no class of such
    "execution.py": {"Execution.__init__.context": "trt.IExecutionContext"},
    "layer_times.py": {"layer_profiler.return": "Any"},
    "loading.py": {
        "Loaded.runtime": "trt.Runtime",
        "Loaded.engine": ENGINE,
        "_slots.engine": ENGINE,
        "_shapes.engine": ENGINE,
        "_dtype.engine": ENGINE,
        "_activation_bytes.engine": ENGINE,
        "_logger.return": LOGGER,
        "_logger.log.severity": SEVERITY,
    },
    "network.py": {
        "Layer": "trt.ILayer",
        "Tensor": "trt.ITensor",
        "parse_model.network": NETWORK,
        "parse_model.logger": LOGGER,
        "_parser_error.error": "trt.ParserError",
        "set_shapes.network": NETWORK,
        "set_shapes.profile": "trt.IOptimizationProfile",
        "set_limits.network": NETWORK,
    },
}
"""File -> where it says `Any` (or the name of a placeholder class) -> what of TensorRT that holds."""

USED_WITH: dict[str, tuple[str, ...]] = {
    "BuilderFlag.FP16": ("8.6",),
    "BuilderFlag.INT8": ("8.6",),
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS": ("8.6",),
    "BuilderFlag.PREFER_PRECISION_CONSTRAINTS": ("8.6",),
    "ComputeCapability": ("RTX",),
    "IBuilderConfig.num_compute_capabilities": ("RTX",),
    "IBuilderConfig.set_compute_capability": ("RTX",),
    "ICudaEngine.device_memory_size": ("8.6",),
    "IDebugListener": STRONG,
    "IExecutionContext.set_debug_listener": STRONG,
    "IExecutionContext.unfused_tensors_debug_state": STRONG,
    "INetworkDefinition.mark_unfused_tensors_as_debug_tensors": STRONG,
    "ICudaEngine.device_memory_size_v2": STRONG,
    "ILayer.precision": ("8.6",),
    "ILayer.set_output_type": ("8.6",),
    "ITensor.dynamic_range": ("8.6", "10.x"),
}
"""What some versions lack -> the versions with which it is used."""

UNKNOWN_NAMES: dict[str, dict[str, int]] = {
    "bindings.py": {
        "ComputeCapability": 1,  # Bindings.target asks only for members that exist
        "NetworkDefinitionCreationFlag": 1,  # by flavour: see TestBindings
        "getattr": 2,  # Bindings.member, whose callers are checked
        "member": 1,  # Bindings.require, likewise
    },
    "cuda.py": {"getattr": 1},  # CUDA's
    "network.py": {
        "DataType": 1,  # FLOAT or HALF, which are among the quoted names
        "getattr": 1,  # of a ParserError: node_name and node_operator, which 8.6 lacks
    },
}
"""File -> the enum or function -> how many names are looked up in it that are not known before the source runs."""
UNKNOWN_BUT_THERE = {"ParserError.node_name": STRONG, "ParserError.node_operator": STRONG}
"""What is among them -> the versions that must have it."""

NOT_MEMBERS: dict[str, set[str]] = {}
"""File -> quoted words in capitals that are no names of enum members."""


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Api | Unavailable]:
    """Version -> what it offers, or why that cannot be known here."""
    folder = tmp_path_factory.mktemp("bindings")

    def read(version: str) -> Api | Unavailable:
        try:
            if version == "RTX":
                return read_installed_rtx()
            return read_api(RELEASES[version], folder / version)
        except Unavailable as reason:
            return reason

    with ThreadPoolExecutor() as pool:  # most of it is waiting for the package index
        return dict(zip(VERSIONS, pool.map(read, VERSIONS), strict=True))


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, apis: dict[str, Api | Unavailable]) -> str:
    """Each version that can be looked at here."""
    found = apis[request.param]
    if isinstance(found, Unavailable):
        pytest.skip(str(found))
    return str(request.param)


@pytest.fixture
def names(version: str, apis: dict[str, Api]) -> dict[str, dict[str, Any]]:
    """Dotted name -> what it is, in that version."""
    return apis[version].names


@pytest.fixture(scope="module")
def errors(apis: dict[str, Api | Unavailable], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Version -> what mypy finds wrong in autoprec's sources."""
    if find_spec("mypy") is None:
        pytest.skip("checking calls needs mypy: pip install 'autoprec[dev]'")
    known = {version: api.names for version, api in apis.items() if isinstance(api, Api)}
    unused = {version: [name for name, users in USED_WITH.items() if version not in users] for version in VERSIONS}
    return check(SOURCES, ANNOTATIONS, known, unused, tmp_path_factory.mktemp("sources"))


class TestCalls:
    def test_every_attribute_and_call_is_one_that_the_version_has(
        self, version: str, errors: dict[str, list[str]]
    ) -> None:
        assert errors[version] == []

    def test_only_the_sources_that_are_checked_reach_tensorrt(self) -> None:
        others = [path for path in FOLDER.parents[1].rglob("*.py") if path.parent != FOLDER]
        reaching = re.compile(r"\b_?bindings\.module\b|^\s*(import|from) tensorrt", re.MULTILINE)
        assert len(others) > 50
        assert [path.name for path in others if reaching.search(path.read_text(encoding="utf-8"))] == []

    def test_every_any_in_the_sources_is_in_the_table(self) -> None:
        """So that the table cannot fall behind, nor keep what is gone."""
        found = {name: places for name, text in SOURCES.items() if (places := placeholders(text))}
        table = {name: {place for place in part if "." in place} for name, part in ANNOTATIONS.items()}
        assert found == table

    def test_what_only_some_versions_are_asked_for_exists_there(self, version: str, names: dict[str, Any]) -> None:
        wanted = {name for name, users in USED_WITH.items() if version in users}
        assert wanted - names.keys() == set()

    def test_what_only_some_versions_have_is_still_used(self) -> None:
        text = "".join(SOURCES.values())
        assert [name for name in USED_WITH if name.rpartition(".")[2] not in text] == []

    def test_what_all_versions_have_is_not_in_the_table_of_what_some_lack(self, apis: dict[str, Any]) -> None:
        known = [api.names for api in apis.values() if isinstance(api, Api)]
        if len(known) < len(VERSIONS):
            pytest.skip("not all versions can be looked at here")
        assert [name for name in USED_WITH if all(name in names for names in known)] == []

    @pytest.mark.parametrize("method", ["ILogger.log", "IProfiler.report_layer_time"])
    def test_what_tensorrt_calls_back_takes_what_it_is_given(self, method: str, names: dict[str, Any]) -> None:
        parameters = names[method]["signatures"][0].partition(") -> ")[0].count(": ") - 1
        found = [count for text in SOURCES.values() for count in overrides(text, method.rpartition(".")[2])]
        assert found
        assert set(found) == {parameters}


class TestNames:
    def test_names_that_are_only_known_at_run_time_are_few_and_accounted_for(self) -> None:
        counted = {file: dict(found) for file, text in SOURCES.items() if (found := unknown_names(text))}
        assert counted == UNKNOWN_NAMES

    def test_those_that_must_exist_exist(self, version: str, names: dict[str, Any]) -> None:
        assert {name for name, users in UNKNOWN_BUT_THERE.items() if version in users} - names.keys() == set()

    def test_quoted_names_of_members_are_spelled_as_tensorrt_spells_them(self, apis: dict[str, Any]) -> None:
        """Types of layers and tensors are compared by name: a wrong one would never match, and never fail."""
        known = [api.names for api in apis.values() if isinstance(api, Api)]
        if len(known) < len(VERSIONS):
            pytest.skip("not all versions can be looked at here")
        members = {name.rpartition(".")[2] for names in known for name, found in names.items() if "number" in found}
        using = [file for file in SOURCES if file in ANNOTATIONS and file != "cuda.py"]
        wrong = {file: capitals(SOURCES[file]) - members - NOT_MEMBERS.get(file, set()) for file in using}
        assert {file: words for file, words in wrong.items() if words} == {}


def module_of(api: Api) -> Any:
    """An object with the enums that a version has, to try `autoprec.backends.tensorrt.bindings` on."""
    enums: dict[str, dict[str, int]] = {}
    for dotted, described in api.names.items():
        owner, _, member = dotted.rpartition(".")
        if described.get("type") == owner and "number" in described:
            enums.setdefault(owner, {})[member] = described["number"]
    made = {name: SimpleNamespace(**members, __members__=members) for name, members in enums.items()}
    return SimpleNamespace(__version__=api.version, Builder=object, **made)


@pytest.fixture
def bindings(version: str, apis: dict[str, Api]) -> Bindings:
    """Autoprec's view of a version."""
    return describe_module(module_of(apis[version]), "tensorrt_rtx" if version == "RTX" else "tensorrt")


class TestBindings:
    def test_the_flavour_follows_from_the_version(self, version: str, bindings: Bindings) -> None:
        assert bindings.flavour == {"8.6": "weak", "10.x": "strong", "11.x": "strong", "RTX": "rtx"}[version]

    def test_networks_are_made_with_the_flag_of_the_version(
        self, version: str, bindings: Bindings, names: dict[str, Any]
    ) -> None:
        flag = "EXPLICIT_BATCH" if version == "8.6" else "STRONGLY_TYPED"
        assert bindings.network_flags() == 1 << names[f"NetworkDefinitionCreationFlag.{flag}"]["number"]

    def test_only_rtx_builds_for_other_gpus(self, version: str, bindings: Bindings) -> None:
        assert {"sm80", "sm89", "sm120"} <= set(bindings.targets()) if version == "RTX" else not bindings.targets()


SMALL_API: dict[str, dict[str, Any]] = {
    "Config": {"kind": "class", "name": "Config", "bases": []},
    "Config.level": {"kind": "property", "signatures": ["(arg0: Config) -> int"], "writable": True},
    "Config.layers": {"kind": "property", "signatures": ["(arg0: Config) -> int"], "writable": False},
    "Config.set": {
        "kind": "callable",
        "signatures": ["set(self: Config, flag: Flag, on: bool = True) -> Dims"],
    },
    "Config.get": {
        "kind": "callable",
        "signatures": [
            "get(self: Config, name: str) -> int",
            "get(self: Config, name: str, index: typing.SupportsInt = <Flag.TF32: 7>) -> str",
        ],
    },
    "Config.make": {"kind": "callable", "signatures": ["make(arg0: Dims) -> ns.IConfig"]},
    "Dims": {"kind": "class", "name": "Dims", "bases": []},
    "Flag": {"kind": "class", "name": "Flag", "bases": []},
    "Flag.TF32": {"kind": "value", "type": "Flag", "number": 7},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is found in a source with one mistake a line."""
    right = (
        "config.level = 3",
        "config.set(module.Flag.TF32, on=False)",
        "bindings.require('Flag', 'TF32')",
        "module.Config.make((1, 2)).get('a', 1).upper()",
        "getattr(config, 'level', 0) + getattr(module, '__len__')",
    )
    lines = [
        "; ".join(right),
        "config.levels = 3",
        "config.layers = 3",
        "config.set()",
        "config.set(module.Flag.TF32, True, 1)",
        "config.set(module.Flag.TF32, enabled=True)",
        "config.set(7)",
        "module.Flag.FP16",
        "bindings.require('Flag', 'FP16')",
        "bindings.module.Flags",
        "config.level.upper()",
        "config.set(module.Flag.TF32).shape",
        "getattr(config, 'depth', None)",
        "getattr(module, 'Graph', None)",
        "config.get('a').upper()",
        "config.make(arg0=(1, 2))",
        "config.make((1, 2)).depth",
        "class Base(module.Missing): ...  # type: ignore[misc]",
    ]
    source = "from __future__ import annotations\nfrom typing import Any\n\n"
    source += "def ask(config: Any, module: Any, bindings: Any) -> None:\n"
    source += "".join(f"    {line}\n" for line in lines)
    table = {"ask.py": {"ask.config": "trt.Config", "ask.bindings": "Any"}}
    folder = tmp_path_factory.mktemp("itself")
    return check({"ask.py": source}, table, {"1.0": SMALL_API}, {}, folder)["1.0"]


class TestTheCheckItself:
    """Each kind of mistake is found; a check that finds nothing proves nothing."""

    def test_what_is_right_passes(self, found: list[str]) -> None:
        assert not [error for error in found if error.startswith("ask.py:5:")]

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            (6, '"Config" has no attribute "levels"'),
            (7, 'Property "layers" defined in "Config" is read-only'),
            (8, 'Missing positional argument "flag"'),
            (9, "Too many arguments"),
            (10, 'Unexpected keyword argument "enabled"'),
            (11, 'incompatible type "int"; expected "Flag"'),
            (12, 'has no attribute "FP16"'),
            (13, 'has no attribute "FP16"'),
            (14, 'no attribute "Flags"'),
            (15, '"int" has no attribute "upper"'),
            (16, '"Dims" has no attribute "shape"'),
            (17, '"Config" has no attribute "depth"'),
            (18, 'no attribute "Graph"'),
            (19, '"int" has no attribute "upper"'),
            (20, 'Unexpected keyword argument "arg0"'),
            (21, '"Config" has no attribute "depth"'),
            (22, '"trt.Missing" is not defined'),
        ],
    )
    def test_what_is_wrong_is_found_in_its_line(self, found: list[str], line: int, words: str) -> None:
        errors = [error for error in found if error.startswith(f"ask.py:{line}:")]
        assert any(words in error for error in errors), found

    def test_an_any_that_the_table_lacks_is_refused(self, tmp_path: Path) -> None:
        source = "from typing import Any\ndef ask(thing: Any) -> None: ...\n"
        with pytest.raises(Unchecked, match=r"ask\.py has an Any at ask\.thing; say in the test"):
            check({"ask.py": source}, {}, {"1.0": SMALL_API}, {}, tmp_path)
