"""How good outputs are.

In go outputs, labels and FP32's outputs; out come scores of samples and the drop of a plan. Read `metric.py` first;
`scores.py` holds the pure functions, `evaluator.py` judges plans, `running.py` runs an engine over a data set.
"""
