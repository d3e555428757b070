"""What a builder and the process that builds for it tell each other, as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoprec.backends.tensorrt.records import BuildOptions, ShapeProfile
from autoprec.files.json import write_json

CHILD = (sys.executable, "-m", "autoprec.backends.tensorrt.child")
"""The command that builds."""
MODEL = "model.onnx"
ENGINE = "model.engine"
LAYERS = "layers.txt"
LOG = "log.jsonl"
RESULT = "result.json"
REQUEST = "request.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One engine to build; the model lies as `MODEL` in the folder, and there everything made is written.

    Attributes:
        bindings: "tensorrt" or "tensorrt_rtx".
        options: how to build.
        precisions: ONNX node -> "fp32", "fp16", "int8" or "" where nothing is asked, for TensorRT 8.6 only.
        timing_cache: the file of kernel timings to begin with and to add to, None for none.
        limits: value -> its largest magnitude, where the builder chooses precisions by itself; else None.
    """

    bindings: str
    options: BuildOptions
    precisions: Mapping[str, str]
    timing_cache: Path | None
    limits: Mapping[str, float] | None = None

    def write(self, folder: Path) -> Path:
        """Write the request into the folder; returns the file."""
        record = {
            "bindings": self.bindings,
            "options": options_record(self.options),
            "precisions": dict(self.precisions),
            "timing_cache": None if self.timing_cache is None else str(self.timing_cache),
            "limits": None if self.limits is None else dict(self.limits),
        }
        write_json(folder / REQUEST, record)
        return folder / REQUEST

    @staticmethod
    def read(path: Path) -> BuildRequest:
        """The request in a file."""
        record = json.loads(path.read_text(encoding="utf-8"))
        cache = record["timing_cache"]
        return BuildRequest(
            bindings=record["bindings"],
            options=options_of(record["options"]),
            precisions=record["precisions"],
            timing_cache=None if cache is None else Path(cache),
            limits=record["limits"],
        )


@dataclass(frozen=True, slots=True)
class ParserError:
    """What TensorRT's ONNX parser says of one node.

    Attributes:
        code: the name of its error code, such as "UNSUPPORTED_NODE".
        description: the text of the error.
        node: the ONNX node's name, "" where the parser does not say it.
        operator: such as "Conv", "" likewise.
    """

    code: str
    description: str
    node: str
    operator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """How a build ended.

    Attributes:
        refusal: a message that is ready for the user, "" where there is none.
        exception: what TensorRT's bindings raised, "" likewise.
        parser_errors: the errors of a parser that refused the model.
        build_s: seconds of the builder itself, None where there is no engine.
        warm_timing_cache: whether it began with kernel timings of earlier builds.
        activation_bytes: device memory for activations and scratch, None where the runtime does not say.
        constraints: "obeyed", "preferred" or "none": how far TensorRT 8.6 was bound to the precisions of layers.
    """

    refusal: str = ""
    exception: str = ""
    parser_errors: tuple[ParserError, ...] = ()
    build_s: float | None = None
    warm_timing_cache: bool = False
    activation_bytes: int | None = None
    constraints: str = ""

    def write(self, folder: Path) -> None:
        """Write the result into the folder."""
        write_json(folder / RESULT, asdict(self))

    @staticmethod
    def read(folder: Path) -> BuildResult | None:
        """The result in the folder, None where the process ended before it wrote one."""
        try:
            record = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        errors = tuple(ParserError(**error) for error in record.pop("parser_errors"))
        return BuildResult(**record, parser_errors=errors)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One message of TensorRT.

    Attributes:
        severity: "internal_error", "error", "warning", "info" or "verbose".
        text: the text, of one or several lines.
    """

    severity: str
    text: str

    @property
    def is_error(self) -> bool:
        """Whether TensorRT calls it an error."""
        return self.severity in ("internal_error", "error")


def read_log(folder: Path) -> tuple[LogLine, ...]:
    """The messages of a build in order; a line that a crash cut short is left out."""
    lines = []
    try:
        text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    for line in text.split("\n"):
        try:
            severity, text = json.loads(line)
        except ValueError:
            continue
        lines.append(LogLine(severity, text))
    return tuple(lines)


def options_record(options: BuildOptions) -> dict[str, Any]:
    """Build options as plain JSON."""
    shapes = {name: asdict(profile) for name, profile in sorted(options.shapes.items())}
    return {
        "shapes": shapes,
        "targets": list(options.targets),
        "workspace_mib": options.workspace_mib,
        "optimization_level": options.optimization_level,
        "time_limit_s": options.time_limit_s,
        "timing_cache": options.timing_cache,
    } | ({"debug_tensors": True} if options.debug_tensors else {})


def options_of(record: Mapping[str, Any]) -> BuildOptions:
    """Build options from plain JSON."""
    shapes = {
        name: ShapeProfile(**{key: tuple(shape) for key, shape in profile.items()})
        for name, profile in record["shapes"].items()
    }
    return BuildOptions(**{**record, "shapes": shapes, "targets": tuple(record["targets"])})
