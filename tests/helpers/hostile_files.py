"""Files that were damaged at random, and what reads them: every reader must refuse in words what it cannot use."""

from __future__ import annotations

import copy
import io
import json
import math
import random
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from autoprec.data.sources import load_data
from autoprec.errors import RunDirectoryError
from autoprec.gate.baseline import load_baseline, seal
from autoprec.gate.evidence import read_evidence
from autoprec.graph.model import load_model
from autoprec.plan import load_plan
from autoprec.ranges.table import load_ranges, ranges_from_record
from autoprec.recipes.ranging import load_calibration_recipe
from autoprec.recipes.space import load_search_space
from autoprec.run.directory import RunDirectory
from autoprec.run.search_description import read_search_description
from autoprec.run.study_description import read_study_description
from autoprec.sensitivity.journal import Journal
from autoprec.sensitivity.table import load_sensitivities
from autoprec.study.ledger.reading import stored_trials
from autoprec.units.find import find_units

from .networks import mlp, random_feed
from .source_tree import ROOT

KEPT = ROOT / "tests" / "compatibility" / "data"
RUN = KEPT / "runs" / "finished"
JOURNAL = KEPT / "runs" / "killed-sensitivity" / "profile.partial.jsonl"
_LARGEST = 1 << 22  # repeated nesting makes files of 50 MB, which take a while to read without any fault
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63, 2**64, 10**400, 1e308, -1e308, 1e-320, 0.5, math.inf, math.nan),
    *("", "a", "fp32", "int8", "../../etc/passwd", "\x00", "\ud800", "x" * 50_000, "nan", "-1", "os:abort", "\x1b[2J"),
    *([], {}, [[]], [None], {"a": None}),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:30]) if isinstance(value, list) else ()
    for key, item in inner:
        yield from _places(item, (*path, key))


def odd_record(record: Any, draw: random.Random) -> Any:
    """A copy in which a few values were replaced, taken out, repeated, moved, scaled or nested."""
    record = copy.deepcopy(record)
    for _ in range(draw.choice([1, 1, 2, 3])):
        places = list(_places(record))
        if not places:
            break
        *way, last = draw.choice(places)
        parent = record
        for key in way:
            parent = parent[key]
        value = parent[last]
        act = draw.choice(["odd", "odd", "odd", "drop", "repeat", "other", "scale", "nest"])
        if act == "drop":
            del parent[last]
        elif act == "repeat" and isinstance(parent, list):
            parent.extend([value] * draw.choice([1, 1000]))
        elif act == "scale" and isinstance(value, float):
            parent[last] = value * draw.choice([-1, 0, 1e30, 1e-30])
        elif act == "nest":
            for _ in range(draw.choice([1, 3, 200])):
                parent[last] = [parent[last]]
        elif act == "other":
            found = record
            for key in draw.choice(places):
                found = found[key]
            parent[last] = copy.deepcopy(found)
        else:
            parent[last] = draw.choice(ODD)
    return record


def odd_bytes(data: bytes, draw: random.Random) -> bytes:
    """The same bytes with some flipped, cut off, put in, repeated or replaced."""
    start, act = (
        draw.randrange(max(len(data), 1)),
        draw.choice(["flip", "flip", "cut", "put", "twice", "zero", "other"]),
    )
    if act == "flip":
        changed = bytearray(data)
        for _ in range(draw.choice([1, 8, 64])):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if act == "other":
        return draw.choice([b"", b"\n", b"null", b"{}", b"[" * 200_000, b'{"a":' * 30_000, draw.randbytes(300)])
    end = min(len(data), start + draw.choice([1, 8, 100]))
    middle = {"cut": b"", "put": draw.randbytes(50), "twice": data[start:end] * 2, "zero": bytes(end - start)}[act]
    return data[:start] + middle + (b"" if act == "cut" else data[start if act == "put" else end :])


def _json(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.25:
        return odd_bytes(data, draw)
    changed = json.dumps(odd_record(json.loads(data), draw)).encode("utf-8", "surrogatepass")
    return changed if len(changed) < _LARGEST else odd_bytes(data, draw)


def _sealed(data: bytes, draw: random.Random) -> bytes:
    """A baseline whose seal fits what is in it, so that all of it is looked at."""
    record = json.loads(data)
    head = {key: record.pop(key) for key in ("schema", "kind", "seal")}
    changed = odd_record(record, draw)
    try:
        head["seal"] = seal(changed)
    except (ValueError, TypeError, AttributeError):
        return odd_bytes(data, draw)
    return json.dumps({**head, **changed}).encode("utf-8", "surrogatepass")


def _lines(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines()
    at = draw.randrange(len(lines))
    lines[at] = _json(lines[at], draw)
    return b"\n".join(lines) + b"\n"


def _toml(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.25:
        return odd_bytes(data, draw)
    lines = data.decode().splitlines()
    values = ["1", "-1", "true", "nan", "inf", "1e400", "10" * 300, '""', "[1]", "[[]]", "{}", "[" * 5000, '"../x"']
    for _ in range(draw.choice([1, 2])):
        at = draw.randrange(len(lines))
        key = lines[at].split("=")[0] if "=" in lines[at] else "x "
        lines[at] = f"{key}= {draw.choice(values)}"
    return "\n".join(lines).encode()


def _archive(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.5:
        return odd_bytes(data, draw)
    shape = draw.choice(
        ["(10**9,)", "(600000000, 4)", "(-1, 2)", "(3.5,)", f"({2**40}, {2**40})", "()", "(" * 60, "(3, 8)"]
    )
    kind = draw.choice(["'<f4'", "'|O'", "'<U9'", "[('a', '<f4')]", "'<M8[s]'", "'|V4'", "'x'", "'<c16'", "None"])
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    version = draw.choice([b"\x01\x00", b"\x02\x00", b"\x09\x00"])
    length = struct.pack("<H" if version[0] == 1 else "<I", draw.choice([len(text), len(text), 0, 60_000]))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for _ in range(draw.choice([1, 1, 2])):
            archive.writestr(
                draw.choice(["x.npy", "../../x.npy", "y.txt"]), b"\x93NUMPY" + version + length + text + bytes(96)
            )
    return buffer.getvalue()


def _model(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.3:
        return odd_bytes(data, draw)
    model = onnx.ModelProto.FromString(data)
    number = draw.choice([0, -1, 1, 7, 2**31, 2**40, 2**62])
    part = draw.choice([_odd_weight, _odd_node, _odd_interface, _odd_body])
    part(model, number, draw)
    return bytes(model.SerializeToString())


def _odd_weight(model: onnx.ModelProto, number: int, draw: random.Random) -> None:
    weight, act = draw.choice(model.graph.initializer), draw.choice(["dims", "type", "outside"])
    if act == "dims":
        weight.dims[:] = [number] * draw.choice([0, 1, 2, 4])
    elif act == "type":
        weight.data_type = draw.choice([*range(27), 99])
    else:
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=draw.choice(["../../etc/passwd", "/etc/passwd", "", "w"]))
        weight.external_data.add(key="offset", value=str(number))


def _odd_node(model: onnx.ModelProto, number: int, draw: random.Random) -> None:
    node, act = draw.choice(model.graph.node), draw.choice(["type", "input", "name", "twice", "attribute"])
    if act == "type":
        node.op_type = draw.choice(["", "Nope", "Loop", "If", "Resize", "Reshape", "LSTM", "Einsum", "Constant"])
    elif act == "input":
        node.input[0] = draw.choice(["", "nowhere", model.graph.node[-1].output[0], node.output[0]])
    elif act == "name":
        node.name, node.domain = draw.choice(["", "../x", "a\nb", "\x1b[2J"]), draw.choice(["", "x.y"])
    elif act == "twice":
        model.graph.node.append(copy.deepcopy(node))
    for attribute in node.attribute if act == "attribute" else ():
        attribute.i, attribute.ints[:] = number, [number] * len(attribute.ints)


def _odd_interface(model: onnx.ModelProto, number: int, draw: random.Random) -> None:
    info, act = (
        draw.choice([*model.graph.input, *model.graph.output]),
        draw.choice(["type", "none", "dims", "opset", "ir"]),
    )
    if act == "type":
        info.type.tensor_type.elem_type = draw.choice([*range(27), 99])
    elif act == "none":
        info.ClearField("type")
    elif act == "opset":
        model.opset_import[0].version = draw.choice([0, -1, 1, 5, 9, 11, 15, 18, 24, 10**9])
    elif act == "ir":
        model.ir_version = number
    for dim in info.type.tensor_type.shape.dim if act == "dims" else ():
        dim.dim_value = number


def _odd_body(model: onnx.ModelProto, number: int, draw: random.Random) -> None:
    """A graph in a graph in a graph; protobuf itself refuses more than a hundred messages in one another."""
    inner = onnx.GraphProto(name="inner")
    for _ in range(draw.choice([1, 10, 28])):
        outer = onnx.GraphProto(name="outer")
        outer.node.append(helper.make_node("If", ["c"], ["o"], then_branch=inner))
        inner = outer
    draw.choice(model.graph.node).attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.CopyFrom(inner)


class Readers:
    """Whole files, how each is damaged, and what reads it.

    Args:
        folder: an empty folder to work in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        proto = mlp()
        self.model = folder / "whole.onnx"
        onnx.save(proto, self.model)
        np.savez(folder / "whole.npz", **random_feed(proto, 6))
        self.interface = load_model(self.model).interface
        self.plan = load_plan(RUN / "plan.json")
        studied = read_study_description(RUN / "study.json")
        mark = json.loads(JOURNAL.read_bytes().splitlines()[0])["mark"]
        profiled = json.loads((RUN / "latency.json").read_bytes())["fingerprint"]
        self.kinds: dict[str, tuple[Path, str, Callable[[bytes, random.Random], bytes], Callable[[Path], Any]]] = {
            "plan": (RUN / "plan.json", "plan.json", _json, self._plan),
            "ranges": (RUN / "ranges.json", "ranges.json", _json, load_ranges),
            "sensitivities": (RUN / "profile.json", "profile.json", _json, load_sensitivities),
            "latency": (
                RUN / "latency.json",
                "latency.json",
                _json,
                lambda path: RunDirectory(path.parent).stored_unit_ms(profiled),
            ),
            "study": (RUN / "study.json", "study.json", _json, read_study_description),
            "search": (RUN / "search.json", "search.json", _json, read_search_description),
            "evidence": (RUN / "evidence.json", "evidence.json", _json, lambda path: read_evidence(path, self.plan)),
            "trials": (
                *(RUN / "study.log", "study.log", _lines),
                lambda path: stored_trials(path, studied.study, studied.choices, studied.goal),
            ),
            "journal": (
                *(JOURNAL, "partial.jsonl", _lines),
                lambda path: Journal(path, mark).read([1] * 64),
            ),
            "baseline": (KEPT / "baseline.json", "baseline.json", _sealed, load_baseline),
            "space": (ROOT / "search_spaces" / "cpu.toml", "space.toml", _toml, load_search_space),
            "recipe": (ROOT / "calibration" / "imagenet.toml", "recipe.toml", _toml, load_calibration_recipe),
            "archive": (folder / "whole.npz", "data.npz", _archive, lambda path: load_data(path, self.interface)),
            "model": (self.model, "model.onnx", _model, lambda path: find_units(load_model(path).graph)),
        }

    def damage(self, kind: str, seed: int) -> tuple[Path, Callable[[Path], Any]]:
        """Write a damaged file; returns it with what reads it."""
        whole, name, change, read = self.kinds[kind]
        path = self.folder / f"{seed}" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(change(whole.read_bytes(), random.Random(f"{kind}{seed}")))
        return path, read

    def tidy(self, path: Path) -> None:
        """Delete what `damage` wrote."""
        shutil.rmtree(path.parent)

    def _plan(self, path: Path) -> Any:
        plan = load_plan(path)
        return None if plan.ranges is None else ranges_from_record(plan.ranges, str(path), RunDirectoryError)
