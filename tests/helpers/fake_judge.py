"""A module that stands for `autoprec.gate.judge` in projects of the pytest plugin's tests."""

from __future__ import annotations

# Stands for autoprec.gate.judge: the name of the model says what the gate comes to, and every call is written down.
JUDGE = """
import json, sys, time, types
from dataclasses import asdict
from pathlib import Path

from autoprec.errors import BaselineError, NoBaselineError
from autoprec.gate.limits import Limits
from autoprec.gate.verdict import Check, GateReport, Status

CALLS = Path(__file__).with_name("calls.jsonl")


def note(name, **record):
    with CALLS.open("a") as file:
        file.write(json.dumps({"name": name, **record}) + "\\n")


def gate(model, baseline, *, limits, **sources):
    sources = {name: value for name, value in sources.items() if value is not None}
    note("gate", model=model, baseline=baseline, limits=asdict(limits), **sources)
    stem = Path(model).stem
    if stem == "slow":
        note("begin", at=time.monotonic())
        time.sleep(0.2)
        note("end", at=time.monotonic())
    if stem == "edited":
        raise BaselineError(f"the baseline {baseline} was edited by hand; make it again")
    if stem == "new":
        raise NoBaselineError(f"there is no baseline {baseline}; make one")
    if stem == "bug":
        raise ZeroDivisionError("a bug")
    status = {"worse": Status.WORSE, "dishonoured": Status.NOT_HONOURED, "doubtful": Status.CANNOT_JUDGE}
    accuracy = Check(
        name="accuracy",
        status=status.get(stem, Status.FINE),
        baseline="98.9 %",
        now="97.5 %",
        change="-1.4 points",
        allowed="-0.5 points",
        sentence="the sentence.",
    )
    latency = Check(
        name="latency",
        status=Status.SKIPPED,
        baseline="7 ms",
        now="-",
        change="-",
        allowed="+5 %",
        sentence="another CPU.",
    )
    return GateReport(
        model=model,
        baseline=baseline,
        checks=(accuracy, latency),
        changes=("driver: 550 -> 580",),
        seconds=1.5,
    )


def update_baseline(model, baseline, **sources):
    note("update", model=model, baseline=baseline, **sources)
    return Path(baseline)


judge = sys.modules["autoprec.gate.judge"] = types.ModuleType("autoprec.gate.judge")
judge.gate, judge.Limits, judge.update_baseline = gate, Limits, update_baseline
"""
