"""Statistics: pure functions of arrays that know nothing about networks.

Scores of samples and timings of rounds go in; estimates with confidence intervals and p-values come out. Read
`intervals.py` first. `drop.py` estimates the drop of a metric, `significance.py` holds the tests of the gate, and
`optimism.py` estimates how much the best of many plans owes to luck.
"""
