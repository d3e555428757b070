"""Models that propose the next plan to measure; pure functions of what was measured, without Optuna.

In go measured trials; out come predictions and a proposal. Read `proposer.py` first, then `view.py`. The latency is
`latency.py` (the model), `columns.py` and `pricing.py` (its rows) and `fitting.py`; what a plan loses is `accuracy.py`
with `noise.py` and `drop.py`; `solve.py` finds the best plan of a model.
"""
