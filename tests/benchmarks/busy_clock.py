"""How often the interval of a latency ratio covers the truth while other programs use the CPUs.

    python tests/benchmarks/busy_clock.py truth OUT.json
    python tests/benchmarks/busy_clock.py run OUT.json [--load 0,1,4,16,30] [--runs 20] [--threads 1,2]

The first command must run on a quiet machine, or above all other programs (`chrt -f 10 python ...`, as root): it times
pairs of small networks, for longer than a tune does, and each in several builds, since two builds of one network differ
by some percent. The second one starts busy processes, times the same pairs as a tune does, and prints for each load how
often the stated 95 % interval holds a ratio that the quiet builds had, and the widest error of the estimate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from autoprec.backends.ort import OrtBackend
from autoprec.cli.screen import print_table
from autoprec.timing.compare import Timing, compare

WIDTHS = {"small": (8, 12), "usual": (24, 32), "long": (64, 80)}
"""Name -> the channels of the two networks of a pair; a run takes about 0.2, 2 and 15 ms."""

BUILDS = 8


def network(channels: int, size: int = 32, depth: int = 6) -> bytes:
    """A chain of convolutions."""
    random = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for number in range(depth):
        shape = (channels, 3 if number == 0 else channels, 3, 3)
        weights.append(numpy_helper.from_array(random.normal(0, 0.1, shape).astype(np.float32), f"w{number}"))
        nodes.append(helper.make_node("Conv", [value, f"w{number}"], [f"c{number}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        value = f"r{number}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, channels, size, size])],
        weights,
    )
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def timed(name: str, threads: int, rounds: tuple[int, int]) -> tuple[Timing, Timing]:
    """The two networks of a pair in shared rounds."""
    backend = OrtBackend(threads)
    feed = {"x": np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(np.float32)}
    with ExitStack() as stack:
        engines = {str(c): stack.enter_context(backend.build(network(c))) for c in WIDTHS[name]}
        first, second = compare(engines, feed, rounds=rounds).values()
        return first, second


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Run as many programs that do nothing but use a CPU."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("truth", "run"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--load", default="0,1,4,16,30")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", default="1,2")
    options = parser.parse_args()
    threads = [int(number) for number in options.threads.split(",")]
    if options.what == "truth":
        ratios = {}
        for name in WIDTHS:
            for count in threads:
                pairs = [timed(name, count, (25, 25)) for _ in range(BUILDS)]
                found = sorted(second.ratio_to(first).estimate for first, second in pairs)
                ratios[f"{name} {count}"] = [found[0], found[-1]]
                print(name, count, found, sum(first.disturbed for first, _ in pairs), "disturbed")
        options.file.write_text(json.dumps(ratios))
        return
    truth, rows = json.loads(options.file.read_text()), []
    for load in map(int, options.load.split(",")):
        with busy(load):
            for key, ratio in truth.items():
                name, count = key.split()
                if int(count) in threads:
                    rows.append([str(load), name, count, *row(name, int(count), ratio, options.runs)])
                    print(*rows[-1], flush=True)
    print_table(["load", "pair", "threads", "covered", "disturbed", "largest error", "median width"], rows)


def row(name: str, threads: int, truth: tuple[float, float], runs: int) -> list[str]:
    """How often the interval covered the truth, how often the machine was seen to be busy, and how wrong it was."""
    pairs = [timed(name, threads, (5, 15)) for _ in range(runs)]
    found = [second.ratio_to(first) for first, second in pairs]
    covered = sum(interval.low <= truth[1] and truth[0] <= interval.high for interval in found)
    seen = sum(first.disturbed or second.disturbed for first, second in pairs)
    middle = sum(truth) / 2
    error = max(abs(interval.estimate / middle - 1) for interval in found)
    width = float(np.median([(interval.high - interval.low) / middle for interval in found]))
    return [f"{covered}/{runs}", f"{seen}/{runs}", f"{error:.0%}", f"{width:.0%}"]


if __name__ == "__main__":
    main()
