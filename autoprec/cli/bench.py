"""autoprec bench: the latency of engines, measured as trtexec does and compared in interleaved rounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.screen import print_json, print_table

if TYPE_CHECKING:
    from autoprec.backends.tensorrt.engine import TensorRtEngine
    from autoprec.backends.tensorrt.records import Shape
    from autoprec.precision import Array

_FEWEST_ROUNDS = 5
_LAYERS_SHOWN = 20
_MIB = 2**20


@click.command("bench")
@click.argument("engines", nargs=-1, required=True, metavar="ENGINE...")
@click.option("--batch", type=click.IntRange(1), help="Samples in each run.  [default: what the engine is tuned for]")
@click.option("--shapes", multiple=True, metavar="INPUT:1x3x224x224", help="Shape of an input; may be repeated.")
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(0),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="The least time of the counted runs.",
)
@click.option(
    "--warmup",
    "warmup_ms",
    type=click.FloatRange(0),
    default=200.0,
    show_default=True,
    metavar="MS",
    help="Time of runs before them.",
)
@click.option("--iterations", type=click.IntRange(1), default=10, show_default=True, help="The fewest counted runs.")
@click.option("--include-transfers", is_flag=True, help="Copy inputs and outputs in each run, and time that too.")
@click.option("--no-cuda-graph", is_flag=True, help="Enqueue the layers of each run one by one.")
@click.option("--rounds", type=click.IntRange(2), default=25, show_default=True, help="The most rounds to compare in.")
@click.option("--profile", "with_layers", is_flag=True, help="Time each layer too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    engines: tuple[str, ...],
    *,
    batch: int | None,
    shapes: tuple[str, ...],
    no_cuda_graph: bool,
    rounds: int,
    with_layers: bool,
    as_json: bool,
    **measuring: Any,
) -> None:
    """Time TensorRT engines on the GPU of this machine, with random inputs.

    Times are of the GPU, by CUDA events round each run, which is launched as a CUDA graph and without transfers:
    trtexec 11's way. Several engines are also compared with the first one, in interleaved rounds.
    """
    from autoprec.backends.tensorrt.feeds import sample_feed
    from autoprec.backends.tensorrt.opening import open_engine

    given = _parse_shapes(shapes)
    with ExitStack() as stack:
        opened = [stack.enter_context(open_engine(Path(path), cuda_graph=not no_cuda_graph)) for path in engines]
        _check_same_inputs(opened)
        feed = sample_feed(opened[0].inputs, batch=batch, shapes=given)
        records = [_measure(engine, feed, with_layers, measuring) for engine in opened]
        comparison = _compare(opened, feed, rounds) if len(opened) > 1 else []
        device = asdict(opened[0].device)
    if as_json:
        print_json({"clock": "measured", "device": device, "engines": records, "comparison": comparison})
    else:
        _print(device, records, comparison)


def _measure(
    engine: TensorRtEngine, feed: Mapping[str, Array], with_layers: bool, measuring: Mapping[str, Any]
) -> dict[str, Any]:
    from autoprec.backends.tensorrt.benchmark import diagnose, summarize

    with _naming(engine):
        summary = summarize(engine.measure(feed, **measuring))
        layers = engine.profile_ms(feed) if with_layers else None
    record = {
        "engine": str(engine.path),
        "runtime": engine.runtime,
        "shapes": {name: list(array.shape) for name, array in feed.items()},
        **asdict(summary),
        "engine_bytes": engine.size_bytes,
        "activation_bytes": engine.activation_bytes,
        "diagnosis": list(diagnose(summary)),
        "warnings": list(engine.warnings),
    }
    if layers is not None:
        record["layers"] = [{"name": name, "median_ms": time} for name, time in layers]
    return record


def _compare(engines: Sequence[TensorRtEngine], feed: Mapping[str, Array], rounds: int) -> list[dict[str, Any]]:
    """Each engine against the first; the same file may be given twice, to see what the noise alone makes."""
    from autoprec.timing.compare import compare

    times = compare(
        {str(number): engine for number, engine in enumerate(engines)},
        feed,
        rounds=(min(_FEWEST_ROUNDS, rounds), rounds),
    )
    baseline = times["0"]
    rows = []
    for number, engine in enumerate(engines[1:], 1):
        timing = times[str(number)]
        ratio = timing.ratio_to(baseline)
        rows.append(
            {
                "engine": str(engine.path),
                "baseline": str(engines[0].path),
                "ratio": ratio.estimate,
                "low": ratio.low,
                "high": ratio.high,
                "rounds": len(timing.rounds_ms),
                "median_ms": timing.median_ms,
                "baseline_median_ms": baseline.median_ms,
            }
        )
    return rows


def _parse_shapes(text: Sequence[str]) -> dict[str, Shape]:
    from autoprec.errors import UsageError

    shapes: dict[str, Shape] = {}
    for word in text:
        name, _, sizes = word.rpartition(":")  # names such as "input:0" hold one themselves
        try:
            shapes[name] = tuple(int(size) for size in sizes.split("x"))
        except ValueError:
            name = ""
        if not name or min(shapes[name]) < 1:
            raise UsageError(f"--shapes must be like INPUT:1x3x224x224, got {word!r}")
    return shapes


def _check_same_inputs(engines: Sequence[TensorRtEngine]) -> None:
    from autoprec.errors import UsageError

    first, *others = engines
    wanted = {slot.name for slot in first.inputs}
    for other in others:
        names = {slot.name for slot in other.inputs}
        if names != wanted:
            raise UsageError(
                f"engines can be compared where they have the same inputs: {first.path} has "
                f"{', '.join(sorted(wanted))}, {other.path} has {', '.join(sorted(names))}"
            )


@contextmanager
def _naming(engine: TensorRtEngine) -> Iterator[None]:
    """Put the engine's name in front of what is wrong with it."""
    from autoprec.errors import AutoprecError, BackendError

    try:
        yield
    except AutoprecError as error:
        raise BackendError(f"{engine.path}: {error}") from error


def _print(device: Mapping[str, Any], records: Sequence[dict[str, Any]], comparison: Sequence[dict[str, Any]]) -> None:
    runtimes = ", ".join(dict.fromkeys(record["runtime"] for record in records))
    click.echo(
        f"{device['name']} (compute capability {device['capability']}), driver for CUDA {device['driver_cuda']}, "
        f"{runtimes}; random inputs\n"
    )
    header = ["engine", "batch", "GPU ms", "p90", "p95", "p99", "varies", "runs/s", "samples/s", "enqueue ms"]
    header += ["engine MiB", "activations MiB"]
    transfers = any(record["to_device"] for record in records)
    header += ["in ms", "out ms", "latency ms"] * transfers
    print_table(header, [_row(record, transfers) for record in records])
    for record in records:
        _print_layers(record)
    if comparison:
        click.echo(f"\ncompared with {comparison[0]['baseline']} in {comparison[0]['rounds']} interleaved rounds:")
    for row in comparison:
        ratio, low, high = row["ratio"], row["low"], row["high"]
        verdict = "faster" if high < 1 else "slower" if low > 1 else "no difference shown"
        click.echo(f"  {row['engine']}: {ratio:.3f} of its time (95 % interval {low:.3f} to {high:.3f}): {verdict}")
    notes = [f"{record['engine']}: {note}" for record in records for note in record["diagnosis"] + record["warnings"]]
    for note in notes:
        click.echo(f"\nnote: {note}")


def _row(record: Mapping[str, Any], transfers: bool) -> list[str]:
    gpu = record["gpu"]
    cells = [record["engine"], str(record["batch"]), f"{gpu['median_ms']:.4f}", f"{gpu['p90_ms']:.4f}"]
    cells += [f"{gpu['p95_ms']:.4f}", f"{gpu['p99_ms']:.4f}", f"{gpu['variation']:.1%}", f"{record['runs_per_s']:,.0f}"]
    cells += [f"{record['samples_per_s']:,.0f}", f"{record['enqueue']['median_ms']:.4f}"]
    cells += [f"{record['engine_bytes'] / _MIB:.1f}", f"{record['activation_bytes'] / _MIB:.1f}"]
    if transfers:
        cells += [f"{record[part]['median_ms']:.4f}" for part in ("to_device", "to_host", "latency")]
    return cells


def _print_layers(record: Mapping[str, Any]) -> None:
    layers = record.get("layers", [])
    if not layers:
        return
    total = sum(layer["median_ms"] for layer in layers) or 1.0
    shown = sorted(layers, key=lambda layer: -layer["median_ms"])[:_LAYERS_SHOWN]
    click.echo(f"\n{record['engine']}: the slowest {len(shown)} of {len(layers)} layers, {total:.4f} ms in all")
    print_table(
        ["ms", "share", "layer"],
        [[f"{row['median_ms']:.4f}", f"{row['median_ms'] / total:.1%}", row["name"]] for row in shown],
    )
