"""What stored texts say of where a plan comes from."""

from __future__ import annotations

import pytest

from autoprec.study.origin import Origin


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("uniform int8", Origin.UNIFORM),
        ("uniform fp32 but for pins", Origin.UNIFORM),
        ("first half int8", Origin.FIRST_HALF),
        ("last half int8", Origin.LAST_HALF),
        ("model, loss 0.02", Origin.MODEL),
        ("swap", Origin.SWAP),
        ("explore", Origin.EXPLORE),
        ("promised: swap", Origin.PREDICTED),
        ("<optuna.samplers._random.RandomSampler object at 0x7f>", Origin.OTHER),
    ],
)
def test_texts_of_older_studies_are_understood(text: str, kind: Origin) -> None:
    assert Origin.of(text) is kind


def test_only_uniform_plans_are_uniform_and_only_explored_ones_explore() -> None:
    assert [kind for kind in Origin if kind.is_uniform] == [Origin.UNIFORM]
    assert [kind for kind in Origin if kind.explores] == [Origin.EXPLORE]
