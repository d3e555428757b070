"""The search for the best plan.

In go the units' choices, sensitivities and a function that measures a plan; out come measured trials. The files build
on each other: `goal.py` (what is best), `guide/` (models that propose plans), `ledger/` (the Optuna study), `loop.py`
(ask, measure, tell). Read `loop.py` first.
"""
