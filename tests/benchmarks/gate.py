"""How often `autoprec gate` is wrong: false alarms on an unchanged model, and injected faults that it misses.

    python tests/benchmarks/gate.py [--gates 200] [--faults 60] [--busy 1] [--threads N] [--work FOLDER]
        [--only unchanged|raced|slower|retrained|worse ...]
        [--backend tensorrt --case FOLDER --batch 128 --timeout S] [--shifts 2]

The digits model of examples/, or the model.onnx, calib.npz and eval.npz of the case, which must be a classifier of
pictures, is tuned once and a baseline is made of the run. Then whole gates run in this process,
one after the other, every second one of them while `--busy` other processes keep a core each busy:

    unchanged   the same model: whatever is not "fine" is a false alarm
    raced       other weights in one layer and the run's model there to race beside, which is as fast: likewise
    slower      the model with a chain of Sin beside it (on a GPU a convolution), whose result is multiplied by 0 and
                added to the logits: real work of about 10 % of the plan's latency, calibrated by a long race and stated
                as measured. The run's
                model is there to race beside, and FP32 is no measure, since it became slower too
    retrained   other weights in one layer and the baseline's model not there, so that latency can only be compared with
                the baseline's own rounds: what is worse by latency is a false alarm
    worse       noise in the weights of the classifier, anew for each gate, as strong as costs FP32 one point of top-1
                on all images: real predictions that flip. Half of these images are the baseline's samples, so that the
                drop among them varies as it would for any sample

Images are those of the case; for "worse" each also shifted by one or two pixels, in `--shifts` of 24 directions,
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
from typing import Any

import numpy as np
import numpy.typing as npt
from beside import neighbour

import autoprec
from autoprec.backends.host import cpu_name
from autoprec.backends.protocol import Backend
from autoprec.gate.baseline import load_baseline
from autoprec.gate.judge import gate, record_baseline
from autoprec.gate.limits import Limits
from autoprec.gate.verdict import GateReport, Status

Array = npt.NDArray[np.float32]

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
BUSY = "import numpy as np\na = np.ones((300, 300), np.float32)\nwhile True: a @ a"


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=200, help="of the unchanged model")
    parser.add_argument("--faults", type=int, default=60, help="gates for each fault")
    parser.add_argument("--busy", type=int, default=1, help="processes beside every second gate")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--backend", default="ort-cpu")
    parser.add_argument("--case", type=Path, default=DIGITS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--timeout", type=float, default=None, help="seconds for each tune")
    parser.add_argument("--shifts", type=int, default=2, help="directions in which images are shifted, for worse")
    parser.add_argument("--only", nargs="+", default=("unchanged", "raced", "slower", "retrained", "worse"))
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        print(f"{cpu_name()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, autoprec {autoprec.__version__}")
        faults = neighbour("gate_faults")
        case = faults.Case(options.case, options.backend, options.batch, options.threads, options.timeout)
        plain = wide = work
        if {*options.only} != {"worse"}:
            plain = tuned(case, work / "plain", case.evaluation)
        if "worse" in options.only:
            wide = tuned(case, work / "wide", faults.shifted(case, work, options.shifts))
        slow, ratio = faults.slowed(case, work, plain) if "slower" in options.only else (case.model, 1.0)
        print(f"slower: {ratio:.3f} of the plan's latency in a long race\n", flush=True)
        retrained = work / "retrained.onnx"
        flipper = faults.Flipper(case, work / "wide.npz") if "worse" in options.only else None
        kept = case.made.for_run(case.shapes, work / "gates")
        cases: dict[str, tuple[int, Callable[[int], GateReport]]] = {
            "unchanged": (options.gates, lambda _: judged(case.model, plain, kept)),
            "raced": (options.gates, lambda n: judged(faults.perturbed(case, retrained, n), plain, kept)),
            "slower": (options.faults, lambda _: judged(slow, plain, kept)),
            "retrained": (
                options.faults,
                lambda n: judged(faults.perturbed(case, retrained, n), without_model(plain), kept),
            ),
            "worse": (options.faults, lambda n: judged(flipper.model(work / "worse.onnx", n), wide, kept)),
        }
        for name, (count, run) in cases.items():
            if name in options.only:
                report(name, *repeated(run, count, options.busy))


def judged(model: Path, baseline: Path, backend: Backend) -> GateReport:
    """One gate with the default limits."""
    work = baseline.parent / "engines"
    return gate(model, baseline, limits=Limits(), backend=backend, work=work, trust=(baseline,))


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


def tuned(case: Any, folder: Path, evaluation: Path) -> Path:
    """A baseline of a short tune; an earlier one of the same folder is taken over."""
    baseline = folder / "baseline.json"
    if not baseline.is_file():
        result = autoprec.search(
            case.model,
            calib=case.calibration,
            eval=evaluation,
            metric="top1",
            trials=4,
            threads=case.threads,
            backend=case.name,
            batch=case.batch,
            timeout_s=case.timeout_s,
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


if __name__ == "__main__":
    main()
