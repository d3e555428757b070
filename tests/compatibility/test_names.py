"""Command line and Python API have every name that they had."""

from __future__ import annotations

import inspect
import json
import pkgutil
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import click
import pytest

import autoprec
from autoprec.cli import VERBS, main
from autoprec.front.points import Chosen, Point
from autoprec.front.run_front import RunFront
from autoprec.gate.verdict import Check, GateReport
from autoprec.plan import Choice
from autoprec.stats.drop import Drop
from autoprec.study.trial import Measurement, Trial

DATA = Path(__file__).parent / "data"
COMMANDS = json.loads((DATA / "command_line.json").read_text(encoding="utf-8"))
PYTHON = json.loads((DATA / "python_api.json").read_text(encoding="utf-8"))
REACHED = {t.__name__: t for t in (Drop, Check, GateReport, RunFront, Choice, Chosen, Point, Measurement, Trial)}
"""Classes of what public functions return."""


def test_there_are_all_verbs() -> None:
    assert [verb for verb in VERBS if verb in COMMANDS] == list(COMMANDS)


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_verb_has_its_arguments_options_choices_and_defaults(verb: str) -> None:
    old, found = COMMANDS[verb], main.get_command(click.Context(main), verb)
    assert found is not None
    options = {o: p for p in found.params if isinstance(p, click.Option) for o in (*p.opts, *p.secondary_opts)}

    assert [p.name for p in found.params if isinstance(p, click.Argument)] == old["arguments"]
    assert set(old["options"]) <= set(options)
    for name, choices in old["choices"].items():
        kind = options[name].type
        assert isinstance(kind, click.Choice)
        assert set(choices) <= set(kind.choices)
    assert {name: options[name].default for name in old["defaults"]} == old["defaults"]


def missing(thing: Any, old: dict[str, Any]) -> list[str]:
    """Parameters that are gone, stand elsewhere or have another default, new ones without any, and attributes."""
    found = []
    if "parameters" in old:
        new = [
            [p.name, p.kind.name, None if p.default is p.empty else str(p.default)]
            for p in inspect.signature(thing).parameters.values()
        ]
        ordered = [row for row in old["parameters"] if row[1] != "KEYWORD_ONLY"]
        named = [row for row in old["parameters"] if row[1] == "KEYWORD_ONLY"]
        found += [f"parameter {row}" for place, row in enumerate(ordered) if new[place : place + 1] != [row]]
        found += [f"parameter {row}" for row in named if row not in new]
        known = {row[0] for row in old["parameters"]}
        found += [f"a new parameter {row}" for row in new if row[0] not in known and row[2] is None]
    has = {name for kind in getattr(thing, "__mro__", ()) for name in vars(kind)}
    has |= {f.name for f in fields(thing)} if is_dataclass(thing) else set()
    return found + [f"attribute {name}" for name in old.get("attributes", []) if name not in has]


@pytest.mark.parametrize("name", PYTHON["autoprec"])
def test_a_public_name_is_there_and_takes_what_it_took(name: str) -> None:
    assert name in autoprec.__all__
    assert missing(getattr(autoprec, name), PYTHON["autoprec"][name]) == []


@pytest.mark.parametrize("path", PYTHON["documented"])
def test_a_documented_path_is_there_and_takes_what_it_took(path: str) -> None:
    assert missing(pkgutil.resolve_name(path), PYTHON["documented"][path]) == []


@pytest.mark.parametrize("name", PYTHON["reached"])
def test_what_public_functions_return_has_its_attributes(name: str) -> None:
    old = {"attributes": PYTHON["reached"][name]["attributes"]}
    assert missing(REACHED[name], old) == []
