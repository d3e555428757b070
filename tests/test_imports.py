"""Heavy libraries load only when needed, and only from the modules that own them."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np

import autoprec

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(autoprec.__file__).parent

# The modules that read or write graphs.
GRAPH = (
    "backends",
    "calibrate",
    "exporting",
    "graph",
    "lowering",
    "metrics",
    "proof.diagnosis",
    "run",
    "sensitivity",
    "testing",
    "units",
)

# Each library that the package imports, and the modules (with all below them) that may do so; None: all.
OWNERS: dict[str, tuple[str, ...] | None] = {
    "PIL": ("data", "exporting"),
    "click": ("cli",),
    "cuda": ("backends.tensorrt.cuda",),
    "jinja2": ("report.page",),
    "markupsafe": ("report.page",),
    "matplotlib": ("report.plots",),
    "ml_dtypes": None,
    "mlflow": ("run.tracking",),
    "numpy": None,
    "onnx": GRAPH,
    "onnx_ir": GRAPH,
    "onnxruntime": ("backends.ort", "backends.ort_child", "backends.ort_engine", "backends.ort_sessions"),
    "optuna": ("study.ledger", "study.optuna_adapter", "study.sampler"),
    "pytest": ("pytest_plugin", "testing"),
    "rich": ("cli",),
    "scipy": ("stats", "study"),
    "sqlalchemy": ("study.ledger",),
    "tensorboard": ("run.tracking",),
    "tensorrt": ("backends",),
    "tensorrt_rtx": ("backends",),
    "tomli": ("files.toml",),
    "torch": ("exporting",),
    "transformers": ("exporting",),
    "wandb": ("run.tracking",),
}

LOADED_BY_NO_HELP = {
    "PIL",
    "cuda",
    "jinja2",
    "matplotlib",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "optuna",
    "scipy",
    "sqlalchemy",
    "tensorrt",
    "tensorrt_rtx",
    "torch",
    "transformers",
}
LOADED_BY_NO_IMPORT = {*LOADED_BY_NO_HELP, "click", "ml_dtypes", "numpy", "rich"}

RUN_MAIN = """
import json, sys
try:
    from autoprec.cli import main
    main()
except SystemExit as stop:
    code = stop.code or 0
print("\\n" + json.dumps([code, sorted(name for name in sys.modules if "." not in name)]))
"""

RUN_ALL = """
import json, sys
from click.testing import CliRunner
from autoprec.cli import main
sys.path.insert(0, sys.argv[2])
ended = [CliRunner().invoke(main, command) for command in json.loads(sys.argv[1])]
print(json.dumps([[[done.exit_code, done.stderr] for done in ended], sorted(sys.modules)]))
"""


def run_python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints, started outside the checkout."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT.parent, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def help_of(*verb: str) -> tuple[str, int, set[str]]:
    """The text of `autoprec VERB --help`, its exit code, and the libraries that were loaded for it."""
    text, _, last = run_python(RUN_MAIN, *verb, "--help").rstrip().rpartition("\n")
    code, loaded = json.loads(last)
    return text, code, set(loaded)


def imports() -> list[tuple[str, str]]:
    """Every (module, library) pair of the package, imports inside functions included."""
    pairs = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                pairs |= {(module.rstrip("."), alias.name.split(".")[0]) for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                pairs.add((module.rstrip("."), node.module.split(".")[0]))
    return sorted(pair for pair in pairs if pair[1] not in {"autoprec", "tomllib", *sys.stdlib_module_names})


def test_import_autoprec_is_light() -> None:
    loaded = json.loads(run_python("import json, sys, autoprec; print(json.dumps(list(sys.modules)))"))

    assert LOADED_BY_NO_IMPORT & {name.split(".")[0] for name in loaded} == set()
    assert [name for name in loaded if name.startswith("autoprec")] == ["autoprec"]


def test_help_is_light() -> None:
    text, code, loaded = help_of()

    assert code == 0
    assert "Usage: " in text
    assert loaded & LOADED_BY_NO_HELP == set()


def test_the_help_of_every_verb_is_light() -> None:
    verbs = re.findall(r"^  ([a-z][a-z-]*) ", help_of()[0].partition("Commands:")[2], re.MULTILINE)
    assert {"build", "doctor", "profile", "tune", "units"} <= set(verbs)

    for verb in verbs:
        text, code, loaded = help_of(verb)

        assert code == 0, verb
        assert f"{verb} [OPTIONS]" in text
        assert loaded & LOADED_BY_NO_HELP == set(), f"autoprec {verb} --help is slow to start"


def test_bad_input_is_refused_before_the_search_is_imported(tmp_path: Path) -> None:
    digits = ROOT / "examples" / "digits"
    tune = ["tune", str(digits / "digits.onnx"), "--calib", str(digits / "calib.npz")]
    np.savez(tmp_path / "other.npz", other=np.zeros((4, 1, 28, 28), np.float32))
    (tmp_path / "of_mine.py").write_text("def text(outputs, labels):\n    return 'good'\n")
    commands = {
        "fits no unit": [*tune, "--pin", "nowhere=int8"],
        "names its array 'other'": [*tune, "--eval", str(tmp_path / "other.npz")],
        "must return one score": [*tune, "--metric", "of_mine:text", "--direction", "higher"],
        "the pin": ["profile", *tune[1:], "--pin", "nowhere=int8"],
        "no baseline": ["gate", tune[1], "--baseline", str(tmp_path / "none.json")],
        "no plan.json": ["baseline", str(tmp_path)],
        "made, but": ["front", str(tmp_path / "none")],
        "tune` made": ["report", str(tmp_path / "none")],
        "there is no": ["diagnose", str(tmp_path / "none")],
    }

    ended, loaded = json.loads(run_python(RUN_ALL, json.dumps(list(commands.values())), str(tmp_path)))

    for text, (code, said) in zip(commands, ended, strict=True):
        assert code in (2, 3), said
        assert text in said
    assert {"optuna", "sqlalchemy"} & set(loaded) == set()


def test_libraries_are_imported_by_their_owners_only() -> None:
    wrong = []
    for module, library in imports():
        assert library in OWNERS, f"autoprec.{module} imports {library}: give it owners in OWNERS"
        owners = OWNERS[library]
        if not (owners is None or any(f"{module}.".startswith(f"{owner}.") for owner in owners)):
            wrong.append(f"autoprec.{module} imports {library}, which belongs to {', '.join(owners)}")

    assert wrong == []


def test_every_library_is_declared() -> None:
    """A library that is imported and not declared works here and fails at the user's."""
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8").replace("-", "_").replace('"pillow', '"PIL')
    declared = declared.replace('"cuda_bindings', '"cuda')

    assert [name for _, name in imports() if not re.search(rf'^ *(\w+ = \[)?"{name}[>"]', declared, re.M)] == []
