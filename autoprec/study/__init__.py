"""The search for the best plan.

In go the units' choices, sensitivities and a function that measures a plan; out come measured trials. The files build
on each other: `goal.py` (what is best), `trial.py` (a measured plan), `guide/` (models that propose plans),
`sampler.py` (the same for Optuna), `ledger/` (the Optuna study), `participant.py` and `loop.py` (ask, measure, tell).
Read `loop.py` first.
"""
