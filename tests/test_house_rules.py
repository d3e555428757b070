"""The rules of the house as tests: a failure names file and line, what is wrong there, and what to do.

An exception needs a reason, and no rule has more than five; an exception that is no longer needed fails too.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import cached_property

import pytest

import autoprec

from .helpers import house_rules as rules
from .helpers.source_tree import PACKAGE, Source, modules, sources
from .test_floors import FLOORS

MOST_EXCEPTIONS = 5
AT_THE_TOP = 31
MOST_FLOORS = 12


@dataclass(frozen=True)
class Rule:
    """One rule with the folders it holds for, and the exceptions: key of the finding -> reason."""

    check: rules.Rule
    folders: tuple[str, ...] = ("autoprec",)
    without: tuple[str, ...] = ()
    exceptions: dict[str, str] = field(default_factory=dict)

    @cached_property
    def findings(self) -> list[rules.Finding]:
        held = [source for source in sources(*self.folders) if not source.path.startswith(self.without)]
        return [finding for source in held for finding in self.check(source)]


# Benchmarks are read once from top to bottom, and nothing builds on their functions. The recorder ran on the version
# whose files it recorded, and cannot be run or changed with the present code.
BENCHMARKS = "tests/benchmarks/"
RECORDER = "tests/compatibility/record.py"
EVERYWHERE = ("autoprec", "tests", "examples")

RULES = (
    Rule(rules.short_file, EVERYWHERE, without=(RECORDER,)),
    Rule(
        rules.short_functions,
        EVERYWHERE,
        without=(BENCHMARKS, RECORDER),
        exceptions={
            "autoprec/api.py::search": "each option is a typed argument of its own, which takes a line twice",
        },
    ),
    Rule(rules.few_positional_parameters, EVERYWHERE, without=(BENCHMARKS, RECORDER)),
    Rule(
        rules.records_by_keyword,
        EVERYWHERE,
        exceptions={
            "autoprec/api.py::SearchResult": "it is public, and users may have built it by position",
            "autoprec/backends/protocol.py::RanAs": "backends of users build it by position",
            "autoprec/gate/limits.py::Limits": "it is documented, and users may have built it by position",
            "autoprec/plan.py::Plan": "it is public, and users may have built it by position",
        },
    ),
    Rule(rules.formatted, EVERYWHERE),
    Rule(rules.package_says_what_it_is),
    Rule(rules.telling_name),
    Rule(
        rules.one_word_for_one_thing,
        exceptions={
            "autoprec/front/points.py::words": "what load_front gives had this attribute, and users may read it",
            "autoprec/testing/contract.py::test_describe_is_flat_words_and_stable": (
                "users who inherit the contract may select or leave out this test by its name"
            ),
        },
    ),
    Rule(rules.plain_english),
    Rule(rules.attributes_are_born_in_the_constructor),
    Rule(
        rules.no_private_names_of_others,
        exceptions={
            "autoprec/backends/tensorrt/child.py::_exit": "os._exit is a public function of Python with such a name",
            "autoprec/study/optuna_adapter.py::_storage": "Optuna fails a trial of another process only by its storage",
            "autoprec/study/optuna_adapter.py::_trial_id": "and the storage knows trials only by their private number",
        },
    ),
    Rule(rules.no_question_by_a_runtimes_name),
)

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.check.__name__)


@each_rule
def test_the_rule_is_kept(rule: Rule) -> None:
    broken = [str(finding) for finding in rule.findings if finding.key not in rule.exceptions]

    assert broken == [], f"{rule.check.__doc__}\n" + "\n".join(broken)


@each_rule
def test_exceptions_are_few_have_reasons_and_are_needed(rule: Rule) -> None:
    assert len(rule.exceptions) <= MOST_EXCEPTIONS
    assert all(len(reason.split()) >= 5 for reason in rule.exceptions.values())
    assert set(rule.exceptions) - {finding.key for finding in rule.findings} == set()


def test_the_package_has_few_things_at_its_top() -> None:
    things = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}

    assert len(things) <= AT_THE_TOP, f"put a new module into one of the packages: {sorted(things)}"


def test_the_table_of_floors_can_be_remembered() -> None:
    assert len(FLOORS) <= MOST_FLOORS


def test_no_module_is_named_like_a_public_function() -> None:
    """Importing a submodule sets it as an attribute of its package, where it would hide the function."""
    functions = {name for name in autoprec.__all__ if inspect.isfunction(getattr(autoprec, name))}

    assert functions
    assert [module for module in modules() if module.split(".")[-1] in functions] == []


PARAMETERS = ", ".join("abcdefg"[: rules.POSITIONAL + 1])
FIELDS = "\n".join(f"    {letter}: int" for letter in "abcdefg"[: rules.FIELDS + 1])
BODY = "\n".join(f"    print({number})" for number in range(rules.FUNCTION_LINES))
BROKEN: tuple[tuple[rules.Rule, str, int], ...] = (
    (rules.short_file, "\n" * (rules.FILE_LINES + 1), rules.FILE_LINES),
    (rules.short_functions, f"\ndef f():\n{BODY}", 2),
    (rules.short_functions, f"class A:\n  def f(self):\n{BODY}", 2),
    (rules.few_positional_parameters, f"def f({PARAMETERS}): ...", 1),
    (rules.few_positional_parameters, f"class A:\n  def f(self, {PARAMETERS}): ...", 2),
    (rules.records_by_keyword, f"@dataclass(frozen=True)\nclass A:\n{FIELDS}", 2),
    (rules.records_by_keyword, f"class A(NamedTuple):\n{FIELDS}", 1),
    (rules.formatted, "f(1,2)  # fmt: skip", 1),
    (rules.formatted, "# fmt: off\nf(1,2)", 1),
    (rules.package_says_what_it_is, '"""Only one line. Read `plan.py` first."""', 1),
    (rules.package_says_what_it_is, '"""Three\nlines\nwithout a file."""', 1),
    (rules.package_says_what_it_is, '"""Three\nlines.\nRead `nowhere.py` first."""', 1),
    (rules.one_word_for_one_thing, "def f(plan_mark): ...", 1),
    (rules.one_word_for_one_thing, "class PlanMark: ...", 1),
    (rules.one_word_for_one_thing, "self.marks = 1", 1),
    (rules.plain_english, "x = 1  # it was foretold", 1),
    (rules.plain_english, 'print(f"the plan was let\\noff {x}")', 1),
    (rules.attributes_are_born_in_the_constructor, "class A:\n  def f(self):\n    self.x = 1", 3),
    (rules.no_private_names_of_others, "study._storage", 1),
    (rules.no_question_by_a_runtimes_name, 'if backend.name in ("ort-cpu", "x"): ...', 1),
)
KEPT: tuple[tuple[rules.Rule, str], ...] = (
    (rules.short_file, "\n" * rules.FILE_LINES),
    (rules.short_functions, f'def f():\n    """A\n    B"""\n{BODY[: BODY.rindex("    print")]}'),
    (rules.few_positional_parameters, "class A:\n  def f(self, a, b, c, d, e, *, f, g): ..."),
    (rules.records_by_keyword, f"@dataclass(frozen=True, kw_only=True)\nclass A:\n{FIELDS}"),
    (rules.package_says_what_it_is, '"""Three\nlines.\nRead `plan.py` first."""'),
    (rules.one_word_for_one_thing, "remarkable = pytest.mark.slow"),
    (rules.plain_english, 'record["foretold"] = x  # predicted'),
    (rules.attributes_are_born_in_the_constructor, "class A:\n  x: int\n  def f(self):\n    self.x = 1"),
    (rules.no_private_names_of_others, "class A:\n  def __init__(self): self._x = 1\n  def f(self, a): a._x"),
    (rules.no_question_by_a_runtimes_name, 'name = "ort-cpu"'),
)


@pytest.mark.parametrize(("rule", "text", "line"), BROKEN)
def test_a_rule_finds_what_breaks_it(rule: rules.Rule, text: str, line: int) -> None:
    assert [finding.line for finding in rule(Source("autoprec/__init__.py", text))] == [line]


@pytest.mark.parametrize(("rule", "text"), KEPT)
def test_a_rule_lets_the_rest_pass(rule: rules.Rule, text: str) -> None:
    assert list(rule(Source("autoprec/__init__.py", text))) == []


@pytest.mark.parametrize("name", ["utils", "shape_utils", "gate.common"])
def test_a_name_that_says_nothing_is_found(name: str) -> None:
    assert list(rules.telling_name(Source(f"autoprec/{name.replace('.', '/')}.py", "")))


def test_a_file_of_tests_may_be_longer() -> None:
    text = "\n" * rules.TEST_FILE_LINES

    assert list(rules.short_file(Source("tests/test_plan.py", text))) == []
    assert list(rules.short_file(Source("tests/test_plan.py", text + "\n"))) != []
