"""What verbs print as JSON is as their JSON Schemas say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from autoprec.cli import VERBS, main
from autoprec.cli.screen import JSON_SCHEMA

jsonschema = pytest.importorskip("jsonschema")
DATA = Path(__file__).resolve().parents[1] / "compatibility" / "data"
PRINTED = json.loads((DATA / "printed.json").read_text(encoding="utf-8"))
SCHEMAS = {"front of another bound": "front", "build --profile": "build", "tune --dry-run": "tune-dry-run"}
WITHOUT_JSON = {"baseline"}


def schema(verb: str) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["--json-schema", verb])
    assert result.exit_code == 0
    found: dict[str, Any] = json.loads(result.stdout)
    jsonschema.Draft202012Validator.check_schema(found)
    return found


@pytest.mark.parametrize("name", PRINTED)
def test_a_record_of_every_verb_is_as_its_schema_says(name: str) -> None:
    wanted = schema(SCHEMAS.get(name, name))

    jsonschema.validate({"schema": JSON_SCHEMA, **PRINTED[name]}, wanted)
    assert all(key in wanted["properties"] for key in PRINTED[name])


def test_a_record_that_lacks_a_figure_is_not_as_the_schema_says() -> None:
    record = {"schema": 1, **PRINTED["tune"]}
    del record["candidates"]

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record, schema("tune"))


@pytest.mark.parametrize("verb", sorted(set(VERBS) - WITHOUT_JSON))
def test_every_verb_has_a_schema_with_a_version_and_a_description(verb: str) -> None:
    found = schema(verb)

    assert "schema" in found["required"]
    assert found["description"]


@pytest.mark.parametrize(
    "arguments", [["doctor", "--json"], ["report", str(DATA / "runs" / "finished"), "--format", "json"]]
)
def test_what_is_printed_now_is_as_the_schema_says(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)

    jsonschema.validate(json.loads(result.stdout), schema(arguments[0]))


def test_the_guide_for_agents_names_options_that_there_are() -> None:
    text = CliRunner().invoke(main, ["--skill"]).stdout
    lines = [part.split() for part in text.split("`")[1::2] if part.startswith("autoprec ")]
    lines = [line for line in lines if line[1] in VERBS]

    assert len(lines) >= 8
    for _, verb, *words in lines:
        command = main.get_command(click.Context(main), verb)
        assert command is not None
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, verb


def test_there_is_no_schema_of_what_is_no_verb() -> None:
    result = CliRunner().invoke(main, ["--json-schema", "dance"])

    assert result.exit_code == 2
    assert "tune" in result.stderr
