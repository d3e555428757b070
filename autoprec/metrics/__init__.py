"""How good the outputs of a model are.

Outputs, labels and the outputs of FP32 go in; one score per sample and the drop of a plan come out. Read `metric.py`
first. `scores.py` holds the built-in scores as pure functions, `kinds.py` what to do with boxes and scores in one
output, `contract.py` tries a user's metric before it is believed, `bounds.py` questions bounds, `running.py` runs an
engine over a data set, and `evaluator.py` compares plans with FP32.
"""
