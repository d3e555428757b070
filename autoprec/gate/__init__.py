"""The regression gate: is a model still as good and as fast as a committed baseline?

A baseline and a model go in; out comes a report with one check for each figure. Read `judge.py` first, then
`accuracy.py` and `latency.py`. `gather.py` collects the figures that a baseline keeps; `evidence.py` is their record.
"""
