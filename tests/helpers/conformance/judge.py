"""What becomes of one of ONNX's tests under each scheme and precision: one word, and why."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from autoprec.backends.ort import OrtBackend
from autoprec.backends.ort_sessions import products_are_exact
from autoprec.backends.scheme import ORT_CPU, TENSORRT, TENSORRT_8, Scheme
from autoprec.calibrate.observe import needed_tensors
from autoprec.data.dataset import Dataset
from autoprec.errors import AutoprecError
from autoprec.graph.model import check_model, load_model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.lowering.lowerer import Lowered, Lowerer
from autoprec.lowering.possible import Possible, uniform, why_not
from autoprec.metrics.metric import load_metric
from autoprec.metrics.running import run_whole
from autoprec.precision import Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.table import RangeTable
from autoprec.sensitivity.job import SensitivityJob
from autoprec.sensitivity.measure import sensitivities_of
from autoprec.units.find import find_units

from .cases import Case, run

SCHEMES = (ORT_CPU, TENSORRT_8, TENSORRT)
CARRIERS = {ORT_CPU.name: Precision.FP32, TENSORRT_8.name: Precision.FP16, TENSORRT.name: Precision.FP16}
LOWERED = (Precision.FP16, Precision.BF16, Precision.INT8, Precision.FP8)
LIMITS = {"fp64": 0.0, "fp32": 0.0, "fp16": 0.02, "bf16": 0.1, "int8": 0.25, "fp8": 0.35}
"""The most that the root of noise to signal may be; that of FP32 is exact."""

WORDS = ("fine", "refused", "skipped", "invalid", "wrong", "crash")
BAD = frozenset({"invalid", "wrong", "crash"})
_SAMPLES = 3
_REWRITTEN = 1e-5  # an operator that is written with older ones rounds elsewhere


class Result(NamedTuple):
    """What became of a test in one form, and why."""

    word: str
    why: str


class Subject:
    """A test under one scheme."""

    def __init__(self, case: Case, path: Path, scheme: Scheme) -> None:
        self.case, self.scheme = case, scheme
        model = load_model(path, scheme.newest_opset)
        self.partition = partition = find_units(model.graph)
        topology = Topology(model.graph)
        self.possible: Possible = {
            u.name: {p: why_not(topology, u, p, scheme) for p in Precision} for u in partition.units
        }
        self.lowerer = Lowerer(model, partition, scheme, CARRIERS[scheme.name])

    @property
    def is_rewritten(self) -> bool:
        """Whether the runtime does not read the opset of the test, so that the model was brought to another one."""
        newest, imports = self.scheme.newest_opset, {o.domain: o.version for o in self.case.model.opset_import}
        return newest is not None and imports.get("", 1) > newest

    def plan(self, precision: Precision) -> dict[str, Precision]:
        """One precision everywhere where it is possible."""
        fallback = self.lowerer.carrier if precision.is_quantized else Precision.FP32
        return uniform(self.partition, precision, self.possible, fallback)

    def ranges(self) -> RangeTable:
        """The least and the greatest of each value that a quantised plan needs, from the data of the test."""
        needed = needed_tensors(self.lowerer, self.possible)
        copy = self.lowerer.model.ir.clone()
        values = {str(v.name): v for node in copy.graph for v in node.outputs}
        have = {str(v.name) for v in copy.graph.outputs}
        copy.graph.outputs.extend(values[name] for name in needed if name in values and name not in have)
        names = [str(v.name) for v in copy.graph.outputs]
        known = self.case.feed | dict(zip(names, run(to_bytes(copy), self.case.feed), strict=True))
        spans = {name: _span(known[name]) for name in needed}
        return RangeTable(
            method="minmax", clipped=spans, extent=spans, means={}, samples=1, fingerprint="", evidence={}
        )


def results_of(case: Case, folder: Path, *, stages: Sequence[str] = ("lowering", "sensitivities")) -> dict[str, Result]:
    """Return what became of a case: scheme/precision/form or stage -> the result.

    Args:
        case: the test.
        folder: an empty folder.
        stages: what is looked at.
    """
    path = folder / "model.onnx"
    path.write_bytes(case.model.SerializeToString())
    rows: dict[str, Result] = {}
    for scheme in SCHEMES:
        subject = _tried(lambda scheme=scheme: Subject(case, path, scheme))
        if isinstance(subject, Result):
            rows[f"{scheme.name}/units"] = subject
            continue
        reasons = set(subject.partition.reasons.values())
        if not subject.partition.units:
            rows[f"{scheme.name}/units"] = Result("refused", f"no unit: {'; '.join(sorted(reasons))[:200]}")
            continue
        rows[f"{scheme.name}/units"] = Result("fine", str(len(subject.partition.units)))
        ranges = (
            _tried(subject.ranges) if case.reference is not None else Result("skipped", "the original does not run")
        )
        if "lowering" in stages:
            rows |= lowered_rows(subject, ranges)
        if "sensitivities" in stages and scheme is not TENSORRT_8:  # its simulated arithmetic is that of TENSORRT
            rows[f"{scheme.name}/sensitivities"] = _measured(subject, ranges)
    return rows


def lowered_rows(subject: Subject, ranges: RangeTable | Result) -> dict[str, Result]:
    """Return the results of all precisions, as they are written and as they are simulated."""
    rows = {}
    name = subject.scheme.name
    for precision in (Precision.FP32, *LOWERED):
        plan, key = subject.plan(precision), f"{name}/{precision.value}"
        if precision not in plan.values():
            reasons = {str(subject.possible[unit][precision]) for unit in plan}
            rows[key] = Result("refused", "; ".join(sorted(reasons))[:250])
            continue
        if precision.is_quantized and isinstance(ranges, Result):
            rows[key] = ranges
            continue
        table = ranges if precision.is_quantized and not isinstance(ranges, Result) else None
        for simulate in (False, True):
            if simulate and (precision is Precision.FP32 or subject.scheme is TENSORRT_8):
                continue  # the same arithmetic as that of another scheme
            form = f"{key}/{'simulated' if simulate else 'written'}"
            rows[form] = _judged(subject, plan, table, precision, simulate)
    return rows


def _judged(
    subject: Subject,
    plan: Mapping[str, Precision],
    ranges: RangeTable | None,
    precision: Precision,
    simulate: bool,
) -> Result:
    lowered = _tried(lambda: subject.lowerer.lower(plan, ranges, simulate=simulate))
    if isinstance(lowered, Result):
        return lowered
    try:
        check_model(lowered.ir)
    except AutoprecError as error:
        return Result("invalid", str(error)[:300])
    if subject.case.reference is None:
        return Result("fine", "valid, and nothing to compare with")
    got = _outputs(lowered, subject.case, simulate or subject.scheme is not ORT_CPU or not products_are_exact())
    if isinstance(got, Result):
        return got
    apart = distance(*got)
    # In a model that was given in half or double precision, FP32 is a change too.
    given = {unit.source.value for unit in subject.partition.units}
    limit = max(LIMITS[name] for name in {precision.value, *given})
    limit = max(limit, _REWRITTEN) if subject.is_rewritten or Precision.FP64.value in given else limit
    return Result("fine" if apart <= limit else "wrong", f"{apart:.3g} apart")


def _outputs(lowered: Lowered, case: Case, exact: bool) -> tuple[Sequence[Any], Any] | Result:
    """Return the outputs and what they should be, by ONNX's reference where ONNX Runtime has no kernels."""
    data = to_bytes(lowered.ir)
    try:
        return run(data, case.feed, exact=exact), case.reference
    except Exception as error:
        try:
            got, want = _by_reference(data, case.feed), _by_reference(case.model.SerializeToString(), case.feed)
        except Exception as second:
            word = "fine" if "NOT_IMPLEMENTED" in str(error) else "invalid"
            return Result(word, f"does not run: {str(error)[:150]}; reference: {str(second)[:80]}")
        if distance(want, case.reference) > LIMITS["fp16"]:
            return Result("fine", "valid, but ONNX's reference does not agree with ONNX Runtime on the original")
        return got, want


def _by_reference(data: bytes, feed: Mapping[str, Any]) -> list[Any]:
    evaluator = ReferenceEvaluator(onnx.load_from_string(data))
    return list(evaluator.run(None, {k: v for k, v in feed.items() if k in evaluator.input_names}))


def _measured(subject: Subject, ranges: RangeTable | Result) -> Result:
    """Return whether the sensitivities of all units can be measured, on copies of the data with a little noise."""
    if isinstance(ranges, Result):
        return ranges
    feed = _samples(subject)
    if isinstance(feed, Result):
        return feed
    if not _runs(subject, feed):
        return Result("skipped", "the original does not run on data with noise")
    offered = [p for p in LOWERED if any(row[p] is None for row in subject.possible.values())]

    def measure() -> int:
        job = SensitivityJob(
            lowerer=subject.lowerer,
            possible=subject.possible,
            backend=OrtBackend(threads=1),
            dataset=Dataset.from_arrays(feed),
            metric=load_metric("sqnr"),
            ranges=ranges,
            batch_size=_SAMPLES,
        )
        return len(sensitivities_of(job, offered).entries)

    found = _tried(measure) if offered else Result("refused", "no precision but FP32 is possible")
    return found if isinstance(found, Result) else Result("fine", f"{found} entries")


def _samples(subject: Subject) -> dict[str, np.ndarray] | Result:
    """Return some copies of the data with a little noise, the samples on the first axis."""
    feed, interface = subject.case.feed, subject.lowerer.model.interface
    if not all(isinstance(v, np.ndarray) for v in feed.values()) or not any(
        v.dtype == np.float32 for v in feed.values()
    ):
        return Result("skipped", "inputs that are no arrays, or none of FP32")
    rng, found = np.random.default_rng(0), {}
    lengths = {feed[s.name].shape[s.sample_axis] for s in interface.inputs if s.sample_axis is not None}
    if len(lengths) > 1 or 0 in lengths:
        return Result("skipped", "inputs with other numbers of samples")
    whole = interface.batch_size == 1
    for spec in interface.inputs:
        v = feed[spec.name]
        noisy = [v + _noise(rng, v) for _ in range(_SAMPLES)]
        if spec.sample_axis is None:
            found[spec.name] = np.stack(noisy)
        else:
            found[spec.name] = np.concatenate([np.moveaxis(each, spec.sample_axis, 0) for each in noisy])
    return found if not whole or len({len(v) for v in found.values()}) == 1 else Result("skipped", "mixed samples")


def _runs(subject: Subject, feed: Mapping[str, np.ndarray]) -> bool:
    """Return whether the original runs on the samples at all: shapes may depend on the numbers."""
    interface = subject.lowerer.model.interface
    try:
        with OrtBackend(threads=1).build(to_bytes(subject.lowerer.model.ir), exact=True) as engine:
            return bool(list(run_whole(engine, Dataset.from_arrays(feed), interface, _SAMPLES)))
    except AutoprecError:
        return False


def _noise(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    scale = 0.05 if like.dtype == np.float32 else 0.0
    return (scale * rng.standard_normal(like.shape)).astype(like.dtype) if scale else np.zeros_like(like)


def distance(got: Any, want: Any) -> float:
    """Return the root of noise to signal of the worst output; infinite where shapes, integers or finiteness differ."""
    if isinstance(want, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(want):
            return float("inf")
        return max((distance(a, b) for a, b in zip(got, want, strict=True)), default=0.0)
    if want is None or got is None:
        return 0.0 if want is got else float("inf")
    a, b = np.asarray(got), np.asarray(want)
    if a.shape != b.shape:
        return float("inf")
    if b.dtype.kind in "OUSbiu":
        return 0.0 if (a == b).all() else float("inf")
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(a) == np.isfinite(b)).all():
        return float("inf")
    a, b = a[np.isfinite(b)], b[np.isfinite(b)]
    if not a.size:
        return 0.0
    noise = float(np.sqrt(((a - b) ** 2).mean()))
    return noise / max(float(np.sqrt((b**2).mean())), 1e-6)


def _span(array: Any) -> Range:
    values = np.asarray(array).astype(np.float64)
    return Range(float(values.min()), float(values.max())) if values.size else Range(0.0, 0.0)


def _tried(work: Callable[[], Any]) -> Any:
    """Return what `work` gives, or why it gives nothing."""
    try:
        return work()
    except AutoprecError as error:
        text = str(error)
        return Result("crash" if "please report" in text or "refused the model" in text else "refused", text[:250])
    except BaseException as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "autoprec" in f.filename]
        at = ", ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[-2:])
        return Result("crash", f"{type(error).__name__}: {str(error)[:200]} at {at}")
