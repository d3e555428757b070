"""autoprec baseline: a run's measurements and plan as one small file to commit."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("baseline")
@click.argument("run")
@click.option("-o", "--out", default="baseline.json", show_default=True, metavar="FILE", help="The baseline.")
def command(run: str, out: str) -> None:
    """Write what `autoprec tune` measured in the run directory RUN, and the plan that it chose, as one small file.

    Nothing is measured again and no data is needed. Commit the file, and judge by it with `autoprec gate`.
    """
    from autoprec.run.refusals import refuse_no_plan

    refuse_no_plan(Path(run))  # before importing what takes a second and more
    from autoprec.gate.baseline import load_baseline, summary_of
    from autoprec.gate.judge import record_baseline
    from autoprec.proof.verification import UnitStatus

    path = record_baseline(run, out)
    baseline = load_baseline(path)
    summary = summary_of(baseline.plan, baseline.evidence)
    ran = ", ".join(f"{count} {UnitStatus(status).text}" for status, count in summary["units_as_they_ran"].items())
    click.echo(
        f"written: {path}: {summary['metric']} {summary['score']} on {summary['samples']} samples (FP32 "
        f"{summary['score_fp32']}), {summary['latency_ms']} ms ({summary['latency_vs_fp32']} of FP32's), "
        f"{summary['bytes']:,} bytes; units: {ran}"
    )
    if not summary["feasible"]:
        click.echo(
            "warning: no plan of this run met its bound; the gate will still judge models against this one", err=True
        )
    if baseline.evidence.found.get("complaint"):
        click.echo(f"warning: {baseline.evidence.found['complaint']}", err=True)
