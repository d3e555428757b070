"""Statistics: pure functions of arrays, which know nothing of networks.

In go figures of samples or rounds; out come estimates with intervals. Read `intervals.py` first; `drop.py` is the drop
of a metric, `optimism.py` what the best of many owes to luck.
"""
