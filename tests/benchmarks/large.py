"""Memory and CPU seconds of each stage of a tune, by the size of a model.

    python tests/benchmarks/large.py WORK [--sizes 10,100,500,1500,3000] [--samples N] [--inside] [--keep]

Each model is a synthetic pre-norm transformer encoder with random weights. Its external data is written layer by
layer, so that even the largest needs little memory to be made. `autoprec tune` then runs in a process of its own.
Its memory is sampled from /proc every 20 ms: the sum of the proportional set sizes of the process and of all that it
started, pages of mapped files included, so that each page counts once. CPU seconds are those of the whole tree.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper

from autoprec.cli.screen import print_table

SIZES = {10: (256, 3), 100: (640, 5), 500: (1152, 8), 1500: (1792, 10), 3000: (2304, 12)}
"""Megabytes -> width and number of layers."""
TOKENS, WORDS, CLASSES, HEADS = 8, 64, 16, 8
_EVERY_S = 0.02


class Writer:
    """Makes a model whose weights go to a file beside it as soon as they are drawn."""

    def __init__(self, data: BinaryIO, location: str) -> None:
        self._data, self._location = data, location
        self._random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def weight(self, name: str, *shape: int, scale: float = 0.0, middle: float = 0.0) -> str:
        """Draw a normal weight and write it."""
        array = self._random.standard_normal(shape, np.float32) * np.float32(scale) + np.float32(middle)
        self._data.seek(-self._data.tell() % 4096, os.SEEK_CUR)
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        places = {"location": self._location, "offset": self._data.tell(), "length": array.nbytes}
        tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=str(v)) for k, v in places.items())
        self._data.write(array.tobytes())
        self.initializers.append(tensor)
        return name

    def ints(self, name: str, values: list[int]) -> str:
        """Add a small constant of integers."""
        self.initializers.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        """Add a node, and give the name of its result."""
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def linear(self, value: str, name: str, width: int, out: int) -> str:
        """Add a product with a bias."""
        made = self.node("MatMul", [value, self.weight(f"{name}.w", width, out, scale=width**-0.5)], f"{name}/MatMul")
        return self.node("Add", [made, self.weight(f"{name}.b", out, scale=0.02)], f"{name}/Add")

    def norm(self, value: str, name: str, width: int) -> str:
        """Add a normalisation of the last axis."""
        scale, bias = self.weight(f"{name}.w", width, middle=1.0), self.weight(f"{name}.b", width)
        return self.node("LayerNormalization", [value, scale, bias], name, axis=-1)


def write_transformer(path: Path, width: int, layers: int) -> None:
    """Write an encoder that classifies short texts; its weights go to `path` + ".data"."""
    with Path(f"{path}.data").open("wb") as data:
        made = Writer(data, f"{path.name}.data")
        made.ints("heads", [0, TOKENS, HEADS, width // HEADS])
        made.ints("joined", [0, TOKENS, width])
        value = made.node("Gather", [made.weight("words", WORDS, width, scale=1.0), "ids"], "embedding")
        for number in range(layers):
            value = _layer(made, value, f"layer{number}", width)
        pooled = made.node("ReduceMean", [made.norm(value, "last/norm", width)], "pool", axes=[1], keepdims=0)
        made.linear(pooled, "head", width, CLASSES)
    made.nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        made.nodes,
        "encoder",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", TOKENS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        made.initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def _layer(made: Writer, value: str, name: str, width: int) -> str:
    """Add attention and a perceptron, each behind a norm and beside a residual."""
    normed = made.norm(value, f"{name}/norm1", width)
    parts = []
    for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        split = made.node("Reshape", [made.linear(normed, f"{name}/{part}", width, width), "heads"], f"{name}/{part}/R")
        parts.append(made.node("Transpose", [split], f"{name}/{part}/T", perm=order))
    scores = made.node("MatMul", parts[:2], f"{name}/scores")
    factor = made.weight(f"{name}/factor", 1, middle=(width // HEADS) ** -0.5)
    shares = made.node("Softmax", [made.node("Mul", [scores, factor], f"{name}/scaled")], f"{name}/softmax", axis=-1)
    mixed = made.node("MatMul", [shares, parts[2]], f"{name}/mix")
    mixed = made.node("Transpose", [mixed], f"{name}/M", perm=[0, 2, 1, 3])
    out = made.linear(made.node("Reshape", [mixed, "joined"], f"{name}/join"), f"{name}/out", width, width)
    value = made.node("Add", [value, out], f"{name}/residual1")
    hidden = made.linear(made.norm(value, f"{name}/norm2", width), f"{name}/up", width, 4 * width)
    down = made.linear(made.node("Relu", [hidden], f"{name}/relu"), f"{name}/down", 4 * width, width)
    return made.node("Add", [value, down], f"{name}/residual2")


def write_inside(path: Path) -> None:
    """Put the weights of a model into its own file, as most exporters do below 2 GB."""
    onnx.save(onnx.load(str(path)), str(path))
    Path(f"{path}.data").unlink()


Figures = tuple[dict[str, float], dict[str, float], float]
"""CPU seconds of each stage, the peak of each in MB, and that of all."""


class Watch:
    """Samples the memory and the CPU time of a process and of all that it started.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._ended = pid, threading.Event()
        self._stages: list[tuple[str, float]] = []
        self._stage_peaks: dict[str, int] = {}
        self._peak, self._cpu_s = 0, 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def begin(self, stage: str) -> None:
        """Note that a stage begins, and show at once what the one before took: the run may be stopped."""
        if self._stages:
            name, began_s = self._stages[-1]
            peak = self._stage_peaks.get(name, 0) / 1e6
            print(f"    {name}: {self._cpu_s - began_s:.1f} s of CPU, {peak:,.0f} MB", file=sys.stderr, flush=True)
        self._stages.append((stage, self._cpu_s))

    def ended(self) -> Figures:
        """End, and say what was seen."""
        self._ended.set()
        self._thread.join()
        ends = [*(cpu_s for _, cpu_s in self._stages[1:]), self._cpu_s]
        seconds: dict[str, float] = {}
        for (stage, began), end in zip(self._stages, ends, strict=True):
            seconds[stage] = seconds.get(stage, 0.0) + end - began
        return seconds, {name: peak / 1e6 for name, peak in self._stage_peaks.items()}, self._peak / 1e6

    def _watch(self) -> None:
        ticks = os.sysconf("SC_CLK_TCK")
        seen: dict[int, float] = {}
        while not self._ended.wait(_EVERY_S):
            memory = 0
            for pid in _tree(self._pid):
                try:
                    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
                    memory += 1024 * int(rollup.partition("\nPss:")[2].split()[0])
                    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                    seen[pid] = (int(fields[11]) + int(fields[12])) / ticks
                except (OSError, IndexError):
                    continue
            self._cpu_s = sum(seen.values())
            self._peak = max(self._peak, memory)
            if self._stages:
                stage = self._stages[-1][0]
                self._stage_peaks[stage] = max(self._stage_peaks.get(stage, 0), memory)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="utf-8").split():
                yield from _tree(int(child))
    except OSError:
        return


def tune(model: Path, folder: Path, samples: int, options: list[str]) -> Figures:
    """Tune the model with six trials and without labels."""
    rng = np.random.default_rng(1)
    for name, count in {"calib": samples, "eval": 4 * samples}.items():
        np.savez(folder / f"{name}.npz", ids=rng.integers(0, WORDS, (count, TOKENS)))
    command = [sys.executable, "-m", "autoprec", "tune", str(model), "--calib", str(folder / "calib.npz")]
    command += ["--eval", str(folder / "eval.npz"), "--out", str(folder / "run"), "--trials", "6", "--batch", "16"]
    process = subprocess.Popen(
        [*command, *options], stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    watch = Watch(process.pid)
    watch.begin("start")
    assert process.stderr is not None
    for line in process.stderr:
        print(f"    {line.rstrip()}", file=sys.stderr, flush=True)
        words = line.split()
        if len(words) > 2 and words[1] == "s" and words[0][:1].isdigit():
            watch.begin(words[2])
    found = watch.ended()
    if process.wait() not in (0, 5):  # 5: the runtime did not honour a precision of the plan
        raise SystemExit(f"autoprec ended with {process.returncode}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sizes", default="10,100,500,1500,3000", help="megabytes")
    parser.add_argument(
        "--samples", type=int, default=16, help="to calibrate on; plans are judged on four times as many"
    )
    parser.add_argument("--inside", action="store_true", help="the weights are in the model's own file")
    parser.add_argument("--keep", action="store_true", help="keep the models")
    parser.add_argument("rest", nargs="*", help="further options of autoprec tune, after --")
    options = parser.parse_args()
    rows: list[list[str]] = []
    stages: list[str] = []
    for size in map(int, options.sizes.split(",")):
        folder = options.work / f"{size}"
        model = folder / "model.onnx"
        if not model.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_transformer(model, *SIZES[size])
            if options.inside:
                write_inside(model)
        shutil.rmtree(folder / "run", ignore_errors=True)
        weights = sum(file.stat().st_size for file in folder.glob("model.onnx*")) / 1e6
        began = time.monotonic()
        seconds, peaks, peak = tune(model, folder, options.samples, options.rest)
        wall_s = time.monotonic() - began
        if not options.keep:
            shutil.rmtree(folder)
        stages = list(seconds)
        record = {"size": size, "weights": weights, "cpu_s": seconds, "peaks": peaks, "peak": peak, "wall_s": wall_s}
        print(json.dumps(record), file=sys.stderr, flush=True)
        figures = [f"{seconds[stage]:.1f} s, {peaks.get(stage, 0):,.0f} MB" for stage in stages]
        rows.append([f"{weights:,.0f} MB", *figures, f"{peak:,.0f} MB", f"{(peak - 500) / weights:.2f}"])
    print_table(["weights", *stages, "peak", "(peak - 0.5 GB) / weights"], rows)


if __name__ == "__main__":
    main()
