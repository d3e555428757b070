"""Where people look at experiments already: TensorBoard, MLflow, Weights & Biases, or an object of the user's own.

In go what a run is about and each plan that it measured; out come curves there. Read `tracker.py` first, then
`named.py`; each other file owns one library, which is imported when it is asked for.
"""
