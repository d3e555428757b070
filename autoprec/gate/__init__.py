"""The regression gate: is a model still as good and as fast as a committed baseline?

In go a baseline and the model of today; out comes a verdict for each figure, with its reason. Read `judge.py` first,
then `accuracy.py` and `latency.py`; `gather.py` makes what a baseline keeps.
"""
