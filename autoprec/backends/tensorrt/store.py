"""Built engines on disk: found again by what they were made of, and bounded in size."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprec.backends.tensorrt.inspector import parse_layers
from autoprec.backends.tensorrt.records import BuildOptions, EngineFile
from autoprec.backends.tensorrt.request import ENGINE, LAYERS, options_record
from autoprec.errors import AutoprecError, RunDirectoryError
from autoprec.files.json import as_json, fingerprint, write_json
from autoprec.files.onnx_message import OnnxMessage, message_digest

DEFAULT_LIMIT_BYTES = 8 << 30
WORK_PREFIX = ".build-"
"""Begins the names of the folders that builds work in, beside the engines."""

_SCHEMA = 1
_SUFFIXES = (".engine", ".layers.txt", ".json")
_OURS = re.compile(r"(?P<name>[0-9a-f]{16})(?:\.engine|\.layers\.txt|(?P<json>\.json))")
_ABANDONED_AFTER_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """What an engine is made of; equal keys are one engine.

    Attributes:
        model: the serialised ONNX model.
        options: how it is built.
        runtime: "tensorrt" or "tensorrt_rtx".
        version: the version of the runtime.
        hardware: the GPU, or the targets.
    """

    model: bytes
    options: BuildOptions
    runtime: str
    version: str
    hardware: str

    def digest(self) -> str:
        """The name of its files."""
        options = {key: value for key, value in options_record(self.options).items() if key != "time_limit_s"}
        model = message_digest(self.model) if isinstance(self.model, OnnxMessage) else self.model
        return fingerprint([model, as_json(options), self.runtime, self.version, self.hardware])


class EngineStore:
    """A folder of engines; the JSON beside each is written last, so an engine without one is not finished.

    Args:
        folder: made where it does not exist.
        limit_bytes: the engines least recently used go when all take more.
        clock: seconds since the epoch.
    """

    def __init__(
        self, folder: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._clock = clock

    def find(self, key: EngineKey) -> EngineFile | None:
        """The engine that was kept under a key, None where there is none or its files are damaged."""
        engine, layers, record = self._files(key.digest())
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
            text = layers.read_text(encoding="utf-8")
            if _digest(engine) != found["engine_sha256"] or _text_digest(text) != found["layers_sha256"]:
                return None
            file = _engine_file(engine, text, found, reused=True)
            os.utime(record, (self._clock(), self._clock()))
        except (OSError, ValueError, KeyError, TypeError, AutoprecError):
            return None
        return file

    def keep(self, key: EngineKey, work: Path, record: dict[str, Any]) -> EngineFile:
        """Move what a build made into the store, and make room.

        Args:
            key: the key to find it by.
            work: a folder on the same disk, with the engine and its layers.
            record: the fields of `EngineFile` that are not the files themselves.

        Raises:
            RunDirectoryError: the folder cannot be written.
            BackendError: TensorRT's description of the layers cannot be read.
        """
        name = key.digest()
        engine, layers, json_file = self._files(name)
        text = (work / LAYERS).read_text(encoding="utf-8")
        found = {
            **record,
            "schema": _SCHEMA,
            "runtime": key.runtime,
            "version": key.version,
            "hardware": key.hardware,
            "options": options_record(key.options),
            "engine_bytes": (work / ENGINE).stat().st_size,
            "engine_sha256": _digest(work / ENGINE),
            "layers_sha256": _text_digest(text),
        }
        file = _engine_file(engine, text, found, reused=False)
        try:
            json_file.unlink(missing_ok=True)  # what it says of the old files is no longer true
            os.replace(work / LAYERS, layers)
            os.replace(work / ENGINE, engine)
        except OSError as error:
            raise RunDirectoryError(
                f"cannot write {engine}: {error.strerror or error}; choose a writable folder with free space"
            ) from error
        write_json(json_file, found)
        os.utime(json_file, (self._clock(), self._clock()))
        self._make_room(name)
        return file

    def _files(self, name: str) -> tuple[Path, Path, Path]:
        engine, layers, record = (self.folder / f"{name}{suffix}" for suffix in _SUFFIXES)
        return engine, layers, record

    def _make_room(self, newest: str) -> None:
        """Remove what was used longest ago until the rest fits, and what killed builds left behind."""
        sizes: dict[str, int] = {}
        used: dict[str, float] = {}
        for path in self.folder.iterdir():
            try:
                state = path.stat()
            except FileNotFoundError:  # another process makes room too
                continue
            if path.name.startswith(WORK_PREFIX):
                if self._clock() - state.st_mtime > _ABANDONED_AFTER_S:
                    shutil.rmtree(path, ignore_errors=True)
            elif match := _OURS.fullmatch(path.name):
                name = match["name"]
                sizes[name] = sizes.get(name, 0) + state.st_size
                if match["json"] or name not in used:  # the JSON is touched by each use
                    used[name] = state.st_mtime
        total = sum(sizes.values())
        for name in sorted(sizes, key=lambda name: used[name]):
            if total <= self._limit_bytes:
                return
            if name != newest:
                total -= sizes[name]
                for path in reversed(self._files(name)):  # the JSON first: without it nothing is found
                    path.unlink(missing_ok=True)


def _engine_file(path: Path, layers: str, found: dict[str, Any], *, reused: bool) -> EngineFile:
    return EngineFile(
        path=path,
        layers=parse_layers(layers) if layers else (),
        runtime=found["runtime"],
        version=found["version"],
        hardware=found["hardware"],
        build_s=found["build_s"],
        warm_timing_cache=found["warm_timing_cache"],
        reused=reused,
        engine_bytes=found["engine_bytes"],
        activation_bytes=found["activation_bytes"],
        warnings=tuple(found["warnings"]),
    )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
