"""What proposed a plan: read from the texts that studies store, here and nowhere else."""

from __future__ import annotations

from enum import Enum


class Origin(Enum):
    """The kinds of origins; each value is how the texts of its kind begin.

    A trial stores its origin as a text that people read too, such as "uniform int8" or "model, loss 0.02". Studies of
    older versions hold such texts, so the values must not change.
    """

    UNIFORM = "uniform"
    """The plan has one precision wherever that is possible."""
    FIRST_HALF = "first half"
    """A seed whose first half of the units is in a low precision, which shows what boundaries cost."""
    LAST_HALF = "last half"
    """The same with the last half."""
    MODEL = "model"
    """The exact solution of the fitted models."""
    SWAP = "swap"
    """A neighbour of one of the best measured plans."""
    EXPLORE = "explore"
    """A random plan, which is measured because it teaches the models most."""
    PREDICTED = "promised"
    """A plan that the models of a finished run predicted to be better."""
    BUILDER = "builder's choice"
    """What the builder of the runtime ran where precisions were left to it."""
    AS_IT_RAN = "as it ran"
    """What the runtime made of a plan that it would not run as asked."""
    OTHER = ""
    """Anything else, such as the name of one of Optuna's samplers."""

    @classmethod
    def of(cls, text: str) -> Origin:
        """The kind of a stored text."""
        return next(kind for kind in cls if text.startswith(kind.value))

    @property
    def is_uniform(self) -> bool:
        """Whether the plan has one precision wherever that is possible."""
        return self is Origin.UNIFORM

    @property
    def explores(self) -> bool:
        """Whether the plan is measured for what it teaches."""
        return self is Origin.EXPLORE
