"""Models that propose the next plan to measure; pure functions of what was measured, without Optuna.

In go measured trials; out come predictions and a proposal. Read `proposer.py` first, then `latency.py`, `accuracy.py`
and `solve.py`.
"""
