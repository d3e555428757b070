"""A slice of ONNX's own operator tests: `tests/benchmarks/conformance.py` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..helpers.conformance.cases import Skip, case_of, made_by
from ..helpers.conformance.judge import BAD, results_of
from ..helpers.conformance.known import why_known

# Each has something that an operator may have: several type variables, no half form, a sequence, an optional value,
# a body, a state, an output whose size depends on numbers.
SLICE = {
    "topk": 2,
    "resize": 2,
    "gridsample": 2,
    "batch_normalization": 2,
    "layernormalization": 2,
    "rmsnormalization": 2,
    "rotaryembedding": 2,
    "attention": 2,
    "lstm": 2,
    "shape": 2,
    "size": 1,
    "unique": 2,
    "nonmaxsuppression": 1,
    "splittosequence": 2,
    "optionalgetelement": 2,
    "sequence_map": 2,
    "loop": 1,
    "pow": 2,
    "onehot": 1,
    "cumsum": 2,
    "einsum": 2,
    "celu": 1,
    "castlike": 2,
    "convtranspose": 2,
    "scatternd": 1,
    "where": 1,
    "linear_attention": 1,
    "averagepool": 2,
    "scan": 1,
    "gru": 1,
    "instance_normalization": 2,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", SLICE)
def test_an_operator_is_lowered_rightly_or_refused_with_a_reason(module: str, tmp_path: Path) -> None:
    bad, seen = [], 0
    for test in made_by(module):
        for variant in ("sandwich", "plain"):
            try:
                case = case_of(test, variant)
            except Skip:
                continue
            seen += 1
            rows = results_of(case, tmp_path, stages=("lowering",))
            rows = {form: row for form, row in rows.items() if not why_known(variant, test.name, form)}
            bad += [f"{test.name} {form}: {row.word}: {row.why}" for form, row in rows.items() if row.word in BAD]
            break
        if seen == SLICE[module]:
            break

    assert bad == []
    assert seen == SLICE[module]
