"""How often `autoprec gate` is wrong: false alarms on an unchanged model, and injected faults that it misses.

    python tests/benchmarks/gate.py [--gates 200] [--faults 60] [--busy 1] [--threads N] [--work FOLDER]
        [--only unchanged|raced|slower|retrained|worse ...]

The digits model of examples/ is tuned once and a baseline is made of the run. Then whole gates run in this process,
one after the other, every second one of them while `--busy` other processes keep a core each busy:

    unchanged   the same model: whatever is not "fine" is a false alarm
    raced       other weights in one layer and the run's model there to race beside, which is as fast: likewise
    slower      the model with a chain of Sin beside it, whose result is multiplied by 0 and added to the logits: real
                work of about 10 % of the plan's latency, calibrated by a long race and stated as measured. The run's
                model is there to race beside, and FP32 is no measure, since it became slower too
    retrained   other weights in one layer and the baseline's model not there, so that latency can only be compared with
                the baseline's own rounds: what is worse by latency is a false alarm
    worse       noise in the weights of the classifier, anew for each gate, as strong as costs FP32 one point of top-1
                on all images: real predictions that flip. Half of these images are the baseline's samples, so that the
                drop among them varies as it would for any sample

Images are those of examples/digits/eval.npz; for "worse" each also shifted by one pixel to the left and to the right,
since 650 samples cannot prove a drop of one point: seven lost decisions and none won are the fewest that McNemar's test
calls different at 1 %. Rates are given with 95 % Wilson intervals.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

import autoprec
from autoprec.backends.host import cpu_name
from autoprec.backends.ort import OrtBackend
from autoprec.data.feeds import batch_feed
from autoprec.data.sources import load_data
from autoprec.gate.baseline import load_baseline
from autoprec.gate.judge import gate, record_baseline
from autoprec.gate.limits import Limits
from autoprec.gate.rebuild import rebuild_plan
from autoprec.gate.verdict import GateReport, Status
from autoprec.stats.intervals import median
from autoprec.timing.race import race

Array = npt.NDArray[np.float32]

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
BUSY = "import numpy as np\na = np.ones((300, 300), np.float32)\nwhile True: a @ a"
POINT = 0.01


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=200, help="of the unchanged model")
    parser.add_argument("--faults", type=int, default=60, help="gates for each fault")
    parser.add_argument("--busy", type=int, default=1, help="processes beside every second gate")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--only", nargs="+", default=("unchanged", "raced", "slower", "retrained", "worse"))
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        print(f"{cpu_name()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, autoprec {autoprec.__version__}")
        plain = tuned(work / "plain", DIGITS / "eval.npz", options.threads)
        wide = tuned(work / "wide", shifted(work), options.threads)
        slow, ratio = slowed(work, plain)
        print(f"slower: {ratio:.3f} of the plan's latency in a long race\n")
        retrained = work / "retrained.onnx"
        perturb(DIGITS / "digits.onnx", retrained, np.random.default_rng(1), scale=1e-4)
        flipper = Flipper(work / "wide.npz")
        cases: dict[str, tuple[int, Callable[[int], GateReport]]] = {
            "unchanged": (options.gates, lambda _: judged(DIGITS / "digits.onnx", plain)),
            "raced": (options.gates, lambda _: judged(retrained, plain)),
            "slower": (options.faults, lambda _: judged(slow, plain)),
            "retrained": (options.faults, lambda _: judged(retrained, without_model(plain))),
            "worse": (options.faults, lambda number: judged(flipper.model(work / "worse.onnx", number), wide)),
        }
        for name, (count, run) in cases.items():
            if name in options.only:
                report(name, *repeated(run, count, options.busy))


def judged(model: Path, baseline: Path) -> GateReport:
    """One gate with the default limits."""
    return gate(model, baseline, limits=Limits())


def repeated(run: Callable[[int], GateReport], count: int, busy: int) -> tuple[list[tuple[bool, GateReport]], float]:
    """Gates, every second one beside busy processes."""
    began, found = time.monotonic(), []
    for number in range(count):
        with busy_processes(busy if number % 2 else 0):
            found.append((bool(number % 2), run(number)))
    return found, (time.monotonic() - began) / max(count, 1)


def report(name: str, found: list[tuple[bool, GateReport]], seconds: float) -> None:
    """One paragraph for a case."""
    print(f"{name}: {len(found)} gates, {seconds:.1f} s each")
    for words, part in (
        ("all", found),
        ("quiet", [f for f in found if not f[0]]),
        ("busy", [f for f in found if f[0]]),
    ):
        codes = Counter(report.exit_code for _, report in part)
        rates = ", ".join(f"exit {code}: {rate(count, len(part))}" for code, count in sorted(codes.items()))
        print(f"  {words:6} {rates}")
    for check in ("accuracy", "latency", "ranges"):
        seen = Counter(str(c.status) for _, report in found for c in report.checks if c.name == check)
        print(f"  {check:9} {', '.join(f'{count} {status}' for status, count in seen.most_common())}")
    odd = [c.sentence for _, r in found for c in r.checks if c.status in (Status.WORSE, Status.CANNOT_JUDGE)]
    for sentence in dict.fromkeys(odd[:2]):
        print(f"  e.g. {sentence}")
    print(flush=True)


def rate(count: int, total: int) -> str:
    """A share with its 95 % Wilson interval."""
    z, p = 1.96, count / total
    centre, spread = p + z * z / (2 * total), z * np.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    low, high = ((centre - spread) / (1 + z * z / total), (centre + spread) / (1 + z * z / total))
    return f"{count} of {total} = {p:.1%} ({max(low, 0):.1%} .. {min(high, 1):.1%})"


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that keep a core each busy."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    running = [subprocess.Popen([sys.executable, "-c", BUSY], env=environment) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def tuned(folder: Path, evaluation: Path, threads: int | None) -> Path:
    """A baseline of a short tune; an earlier one of the same folder is taken over."""
    baseline = folder / "baseline.json"
    if not baseline.is_file():
        result = autoprec.search(
            DIGITS / "digits.onnx",
            calib=DIGITS / "calib.npz",
            eval=evaluation,
            metric="top1",
            trials=4,
            threads=threads,
            out=folder / "run",
        )
        record_baseline(result.save(), baseline)
    away = folder / "run" / "model.away"
    if away.is_file():
        away.rename(away.with_suffix(".onnx"))
    samples = load_baseline(baseline).evidence.samples
    print(f"baseline: {len(samples.digests)} samples, plan's top-1 {np.mean(np.array(samples.plan, float)):.4f}")
    return baseline


def without_model(baseline: Path) -> Path:
    """The same baseline where no model lies in the place that it recorded."""
    model = baseline.parent / "run" / "model.onnx"
    if model.is_file():
        model.rename(model.with_suffix(".away"))
    return baseline


def shifted(work: Path) -> Path:
    """The evaluation images, each also shifted by one pixel to either side."""
    path = work / "wide.npz"
    work.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        with np.load(DIGITS / "eval.npz") as data:
            images, labels = data["image"], data["labels"]
        every = [images, np.roll(images, 1, axis=3), np.roll(images, -1, axis=3)]
        np.savez(path, image=np.concatenate(every), labels=np.tile(labels, 3))
    return path


def slowed(work: Path, baseline: Path) -> tuple[Path, float]:
    """The model with more work, and its plan's latency against the baseline's in a long race."""
    path, committed = work / "slower.onnx", load_baseline(baseline)
    base = (baseline.parent / "run" / "model.onnx").read_bytes()
    times, ratio = 11, 1.0
    for _ in range(6):
        add_work(path, times)
        found = rebuild_plan(path, committed)
        feed = batch_feed(found.model.interface, load_data(DIGITS / "eval.npz", found.model.interface), 16)
        fastest = race(OrtBackend(1), {"base": base, "now": found.lowered}, feed, 12)
        ratio = median(np.divide(fastest["now"], fastest["base"]))
        if abs(ratio - 1.1) < 0.006:
            break
        times = max(1, round(times * 0.1 / max(ratio - 1, 0.01)))
    return path, ratio


def add_work(path: Path, times: int) -> None:
    """Write the model with `times` Sin over its input, which end in 0 added to the logits."""
    model = onnx.load(DIGITS / "digits.onnx")
    graph = model.graph
    source, result = graph.input[0].name, graph.output[0].name
    last = next(node for node in graph.node if result in node.output)
    last.output[list(last.output).index(result)] = "extra_logits"
    for number in range(times):
        graph.node.append(helper.make_node("Sin", [source], [f"extra_{number}"], name=f"extra_sin_{number}"))
        source = f"extra_{number}"
    for name, array in (("extra_zero", np.zeros(1, np.float32)), ("extra_axes", np.array([1], np.int64))):
        graph.initializer.append(numpy_helper.from_array(array, name))
    for op, inputs, output, attributes in (
        ("ReduceMean", [source], "extra_mean", {"axes": [1, 2, 3], "keepdims": 0}),
        ("Mul", ["extra_mean", "extra_zero"], "extra_nothing", {}),
        ("Unsqueeze", ["extra_nothing", "extra_axes"], "extra_column", {}),
        ("Add", ["extra_logits", "extra_column"], result, {}),
    ):
        graph.node.append(helper.make_node(op, inputs, [output], name=f"extra_{op}", **attributes))
    onnx.save(model, path)


def perturb(source: Path, target: Path, random: np.random.Generator, scale: float) -> None:
    """Write the model with relative noise in the weights of its classifier."""
    model = onnx.load(source)
    weight = classifier(model)
    array = numpy_helper.to_array(weight)
    noise = random.normal(size=array.shape).astype(np.float32) * array.std()
    weight.CopyFrom(numpy_helper.from_array((array + scale * noise).astype(np.float32), weight.name))
    onnx.save(model, target)


def classifier(model: onnx.ModelProto) -> onnx.TensorProto:
    """The weight of the last matrix product."""
    node = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul")][-1]
    return next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])


class Flipper:
    """Finds noise that costs FP32 one point on the images of `data`."""

    def __init__(self, data: Path) -> None:
        with np.load(data) as arrays:
            images, self._labels = arrays["image"], arrays["labels"]
        model = onnx.load(DIGITS / "digits.onnx")
        node = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm")
        self._transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        self._bias = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == node.input[2])
        model.graph.output.append(helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None))
        with OrtBackend().build(model.SerializeToString()) as engine:
            batches = [images[start : start + 256] for start in range(0, len(images), 256)]
            self._features = np.concatenate([engine.run({"image": batch})[node.input[0]] for batch in batches])
        self._right = self._accuracy(model)

    def model(self, path: Path, number: int) -> Path:
        """A model that is one point worse, another one for each number."""
        low, high = 0.0, 4.0
        for _ in range(16):
            middle = (low + high) / 2
            perturb(DIGITS / "digits.onnx", path, np.random.default_rng(number), middle)
            drop = self._right - self._accuracy(onnx.load(path))
            if abs(drop - POINT) < 0.0002:
                break
            low, high = (middle, high) if drop < POINT else (low, middle)
        return path

    def _accuracy(self, model: onnx.ModelProto) -> float:
        weight = numpy_helper.to_array(classifier(model))
        logits = self._features @ (weight.T if self._transposed else weight) + self._bias
        return float((logits.argmax(axis=1) == self._labels).mean())


if __name__ == "__main__":
    main()
