"""The task of a run: everything that the user asked for is loaded and checked before the first measurement."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autoprec.backends.protocol import Backend
from autoprec.backends.scheme import Scheme, scheme_of_space
from autoprec.data.buckets import needs_runs_apart
from autoprec.data.dataset import Dataset
from autoprec.data.feeds import batch_feed
from autoprec.data.images import picture_of
from autoprec.data.splits import Splits, make_splits
from autoprec.errors import DataError, UsageError
from autoprec.graph.interface import Interface
from autoprec.graph.model import Model, load_model
from autoprec.graph.topology import Topology
from autoprec.graph.widening import HALVES
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.possible import Possible, why_not
from autoprec.metrics.bounds import doubtful_bound, few_samples, refuse_bound
from autoprec.metrics.metric import Metric, choose_metric
from autoprec.metrics.offered import Decoding
from autoprec.precision import FLOATS, Array, Precision
from autoprec.recipes.ranging import CalibrationRecipe, load_calibration_recipe
from autoprec.recipes.space import Pin, SearchSpace, parse_pin
from autoprec.run.check_options import check_options
from autoprec.run.default_space import space_of
from autoprec.run.settings import Settings
from autoprec.run.situations import refuse_situations
from autoprec.run.split_data import load_sets
from autoprec.units.foreign import units_of
from autoprec.units.records import Partition, Unit
from autoprec.units.shapes import shapes_in_run
from autoprec.units.sizes import sized


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model with its units and what each of them may become.

    Attributes:
        model: the loaded model.
        partition: the units of the model.
        lowerer: writes plans into the model, for the scheme of the runtime and the carrier of the space.
        space: the search space.
        possible: unit -> precision of the space -> why the unit cannot run in it, None where it can.
        choices: unit -> the precisions that the search may give it.
        pinned: unit -> the precision that the user fixed.
        notes: what the user should know about the space on this machine.
    """

    model: Model
    partition: Partition
    lowerer: Lowerer
    space: SearchSpace
    possible: Possible
    choices: Mapping[str, tuple[Precision, ...]]
    pinned: Mapping[str, Precision]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A subject with data, a metric and a runtime: ready to run.

    Attributes:
        settings: the options of the user.
        subject: the model and what each unit of it may become.
        splits: the data to calibrate, to select and to report with.
        metric: how good outputs are.
        recipe: how ranges are calibrated.
        backend: the runtime.
        doubts: what speaks against the bound and the data, one sentence each, to be said before the first measurement.
    """

    settings: Settings
    subject: Subject
    splits: Splits
    metric: Metric
    recipe: CalibrationRecipe
    backend: Backend
    doubts: tuple[str, ...] = ()


def prepare_subject(
    settings: Settings, backend: Backend, *, timed: bool = True, loaded: Model | None = None
) -> Subject:
    """Load the model, find its units, and work out what each may become.

    Args:
        settings: the options of the user.
        backend: the runtime, which says which precisions run natively.
        timed: whether precisions that the runtime only simulates are left out, since they cannot be timed.
        loaded: the model, if it was loaded already.

    Raises:
        ModelError: see `autoprec.graph.model.load_model`.
        RecipeError: the search space is damaged.
        UsageError: a pin matches no unit, or no precision is left to choose.
    """
    model = loaded or load_model(settings.model, backend.scheme.newest_opset)
    partition = units_of(model)
    if not partition.units:
        raise UsageError(f"{settings.model} has no unit whose precision could be chosen: {_most_common(partition)}")
    topology = Topology(model.graph)
    space = space_of(settings, backend, partition, topology)
    scheme = backend.scheme if timed else scheme_of_space(space.backend, backend.scheme)
    possible = {unit.name: {p: why_not(topology, unit, p, scheme) for p in Precision} for unit in partition.units}
    for unit in partition.units:
        _check_source(unit, scheme, settings.model)
        possible[unit.name][unit.source] = None  # as it runs already
    usable, notes = _usable(space, backend, timed)
    pinned = _pins(partition, (*space.pins, *map(parse_pin, settings.pins)), possible)
    choices = {}
    for unit in partition.units:
        options = tuple(p for p in _offered(unit, usable) if possible[unit.name][p] is None)
        free = options or (_fallback(space) if unit.source is Precision.FP32 else unit.source,)
        choices[unit.name] = (pinned[unit.name],) if unit.name in pinned else free
    lowerer = Lowerer(model, partition, scheme, space.carrier)
    lowerer.check_opsets({p for options in choices.values() for p in options})
    offered = {name: {p: row[p] for p in {*space.precisions, Precision.FP32}} for name, row in possible.items()}
    for name, precision in (*partition.as_given().items(), *pinned.items()):
        offered[name][precision] = None
    return Subject(
        model=model,
        partition=partition,
        lowerer=lowerer,
        space=space,
        possible=offered,
        choices=choices,
        pinned=pinned,
        notes=(*notes, *_source_notes(partition)),
    )


def _most_common(partition: Partition) -> str:
    """Why most of the nodes are in no unit, for people."""
    counts = Counter(partition.reasons.values()).most_common(3)
    return "; ".join(f"{count} nodes: {reason}" for reason, count in counts) or "it has no nodes"


def _offered(unit: Unit, usable: Sequence[Precision]) -> list[Precision]:
    """What the space offers a unit: one in half precision stays so, or takes another type that is no wider."""
    if unit.source is Precision.FP32:
        return list(usable)
    return [unit.source, *(p for p in usable if p is not unit.source and p.bits <= unit.source.bits)]


def _check_source(unit: Unit, scheme: Scheme, model: str | Path) -> None:
    if (reason := scheme.absent.get(unit.source)) is not None:
        raise UsageError(
            f"unit {unit.name!r} of {model} is in {unit.source}, but {reason}; choose another --backend, or export the "
            f"model in another type"
        )


def _source_notes(partition: Partition) -> tuple[str, ...]:
    counts = Counter(unit.source for unit in partition.units if unit.source is not Precision.FP32)
    pinned = dict.fromkeys(HALVES.values(), ", FP32 only where a pin asks for it")
    return tuple(
        f"{count} of {len(partition.units)} units are in {source} in the model: they keep it or become smaller"
        f"{pinned.get(source, '')}; drops and latencies are compared with the model as it is"
        for source, count in sorted(counts.items())
    )


def prepare_task(settings: Settings, backend: Backend, *, timed: bool = True) -> Task:
    """Do what `prepare_subject` does, and load the data, split it, and load the metric.

    Raises:
        DataError: there is no data, or it does not fit the model.
        MetricError: see `autoprec.metrics.metric`.
    """
    check_options(settings)
    recipe = load_calibration_recipe(settings.recipe)
    model = load_model(settings.model, backend.scheme.newest_opset)
    interface = model.interface
    sets = load_sets(settings, interface, recipe)  # refuses by names, types and shapes; samples are read later
    subject = prepare_subject(settings, backend, timed=timed, loaded=model)
    splits = make_splits(*sets, settings.seed)
    refuse_situations(settings, subject.model.interface, splits.select, backend)
    decoding = Decoding(decoder=settings.decode, picture=picture_of(splits.select))
    metric = choose_metric(settings.metric, splits.select.has_labels, settings.direction, decoding)
    if metric.needs_labels and not splits.select.has_labels:
        raise DataError(
            f"the metric {metric.name!r} needs labels, but {splits.select.origin} has none; store them under "
            f"'labels', or choose a label-free metric: agreement, kl, cosine or sqnr"
        )
    refuse_bound(metric, settings.max_drop)
    found = (
        doubtful_bound(metric, settings.max_drop),
        few_samples(splits.select.count, splits.report.count, settings.max_drop),
    )
    subject = replace(subject, notes=(*subject.notes, *_lengths(splits.select, interface, backend)))
    subject = with_shapes_of(subject, batch_feed(subject.model.interface, splits.select, 1), backend)
    return Task(
        settings=settings,
        subject=subject,
        splits=splits,
        metric=metric,
        recipe=recipe,
        backend=backend,
        doubts=tuple(text for text in found if text is not None),
    )


def _lengths(data: Dataset, interface: Interface, backend: Backend) -> tuple[str, ...]:
    """Return what the user should know about samples of different shapes, if there are any.

    Raises:
        DataError: the runtime here builds engines for one shape.
    """
    kinds = len(np.unique(data.buckets))
    if kinds == 1 or needs_runs_apart(data.read([0]), interface):
        return ()
    if backend.keeps_engines and backend.runs_here:
        raise DataError(
            f"the samples of {data.origin} have {kinds} shapes, but a run of {backend.name} builds engines "
            f"for one; give samples of one shape, or pad them as the model was trained with"
        )
    text = f"the samples have {kinds} shapes: those of one shape share batches, and nothing is padded; latency is"
    return (f"{text} that of the shape of most samples",)


def with_shapes_of(subject: Subject, feed: Mapping[str, Array], backend: Backend) -> Subject:
    """Return the subject with the sizes of units and edges that they have for these inputs.

    Args:
        subject: the model and its units.
        feed: the inputs of one sample.
        backend: the runtime, which runs the model once where its shapes cannot be inferred.
    """
    shapes = shapes_in_run(subject.model, feed, backend)
    partition = sized(subject.partition, subject.model.graph, shapes)
    subject = _judged_by_shapes(subject, partition)
    old = subject.lowerer
    lowerer = Lowerer(old.model, partition, old.scheme, old.carrier, unify_concat=old.unify_concat)
    return replace(subject, partition=partition, lowerer=lowerer)


def _judged_by_shapes(subject: Subject, partition: Partition) -> Subject:
    """Return the subject without the precisions for which units turn out too small, or too large, in these shapes.

    Raises:
        UsageError: a unit is pinned to such a precision.
    """
    topology, scheme, shapes = Topology(subject.model.graph), subject.lowerer.scheme, partition.shapes
    possible, choices = dict(subject.possible), dict(subject.choices)
    for unit in partition.units if shapes else ():
        row = possible[unit.name]
        able = [p for p, reason in row.items() if reason is None and p.is_quantized]
        refused = {p: why for p in able if (why := why_not(topology, unit, p, scheme, shapes)) is not None}
        if (pinned := subject.pinned.get(unit.name)) in refused and pinned is not None:
            raise UsageError(f"unit {unit.name!r} cannot be pinned to {pinned}: {refused[pinned]}")
        possible[unit.name] = {**row, **refused}
        left = tuple(p for p in choices[unit.name] if p not in refused)
        choices[unit.name] = left or (_fallback(subject.space) if unit.source is Precision.FP32 else unit.source,)
    return replace(subject, possible=possible, choices=choices)


def _usable(space: SearchSpace, backend: Backend, timed: bool) -> tuple[list[Precision], tuple[str, ...]]:
    support = backend.support()
    reasons = {p: support.get(p, f"{backend.name} does not say that it has it") for p in space.precisions}
    usable = [p for p, reason in reasons.items() if not timed or reason is None]
    notes = tuple(f"{p} is left out: {reasons[p]}" for p in space.precisions if p not in usable)
    if not usable:
        raise UsageError(
            f"none of the precisions of the space {space.name!r} can be timed on {backend.name}; "
            f"choose another --space or --backend"
        )
    return usable, notes


def _fallback(space: SearchSpace) -> Precision:
    floats = [p for p in space.precisions if p in FLOATS]
    return Precision.FP32 if Precision.FP32 in floats or not floats else floats[0]


def _pins(partition: Partition, pins: Sequence[Pin], possible: Possible) -> dict[str, Precision]:
    """Unit -> pinned precision; of several pins for one unit the last one counts."""
    result: dict[str, Precision] = {}
    for pin in pins:
        matched = [unit for unit in partition.units if unit.answers_to(pin.matches)]
        if not matched:
            close = difflib.get_close_matches(pin.pattern, [u.name for u in partition.units], n=3)
            hint = f"did you mean {', '.join(close)}? " if close else ""
            raise UsageError(f"the pin {pin.pattern!r} fits no unit; {hint}`autoprec units` lists them")
        able = [unit for unit in matched if possible[unit.name][pin.precision] is None]
        if not able:
            reason = possible[matched[0].name][pin.precision]
            raise UsageError(f"unit {matched[0].name!r} cannot be pinned to {pin.precision}: {reason}")
        result.update({unit.name: pin.precision for unit in able})
    return result
