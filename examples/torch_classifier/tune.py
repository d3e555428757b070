"""Tune a torch classifier, and evaluate the plan with the classifier's own loop: `python tune.py [TRIALS]`."""

from __future__ import annotations

import sys

from network import accuracy, build, loader

import autoprec


def main(trials: int) -> None:
    module = build()
    result = autoprec.search(
        module,
        calib=loader(training=True),
        eval=loader(training=False),
        metric="top1",
        max_drop=0.02,
        trials=trials,
        out="runs/digits-torch",
    )
    result.save()
    print(result.reason)
    print(*(f"{unit}: {choice.precision}" for unit, choice in result.plan.units.items()), sep="\n")
    print(f"recognised by the module: {accuracy(module):.4f}, by the plan: {accuracy(result.module()):.4f}")
    again = autoprec.load("runs/digits-torch").module()
    print(f"by the plan from the run directory: {accuracy(again):.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
